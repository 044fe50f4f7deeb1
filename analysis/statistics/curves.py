"""Curves over a setting: means over seeds, differences and where their sign is settled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pandas as pd

from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.estimates import estimate

Point = tuple[float, Contrast]
"""Where on the axis (a budget, a dose), and the difference there."""


def signs(points: Sequence[Point], better: int = 1) -> list[tuple[int, list[float]]]:
    """Return the stretches of a curve on which a difference is shown to be better or worse.

    The intervals hold together over all points, so that the stretches do as well. Between two
    points nothing is claimed.

    Args:
        points: In any order; such without an interval are undecided.
        better: 1 where higher is better, -1 where lower is.

    Returns:
        (1 for better, -1 for worse, 0 for undecided; its points on the axis), rising.

    Examples:
        >>> worse = Contrast("a", "b", "", 5, -0.02, low=-0.03, high=-0.01)
        >>> open_ = Contrast("a", "b", "", 5, 0.0, low=-0.01, high=0.01)
        >>> ahead = Contrast("a", "b", "", 5, 0.02, low=0.01, high=0.03)
        >>> signs([(15, worse), (45, open_), (150, ahead), (300, ahead)])
        [(-1, [15]), (0, [45]), (1, [150, 300])]
    """
    ordered = sorted(points, key=lambda point: point[0])

    def sign(point: Point) -> int:
        _, contrast = point
        if contrast.low is not None and contrast.low > 0:
            return better
        return -better if contrast.high is not None and contrast.high < 0 else 0

    return [(key, [x for x, _ in group]) for key, group in groupby(ordered, key=sign)]


def settled_from(points: Sequence[Point]) -> float | None:
    """Return from which point on the sign of a difference is settled; None if it is not at the end.

    Args:
        points: In any order.

    Examples:
        >>> open_ = Contrast("a", "b", "", 5, 0.0, low=-0.01, high=0.01)
        >>> ahead = Contrast("a", "b", "", 5, 0.02, low=0.01, high=0.03)
        >>> settled_from([(15, open_), (45, ahead), (150, ahead)]), settled_from([(15, open_)])
        (45, None)
    """
    stretches = signs(points)
    return stretches[-1][1][0] if stretches and stretches[-1][0] else None


def mean_curves(points: pd.DataFrame, panel: str, x: str, value: str) -> pd.DataFrame:
    """Return the mean and t interval over seeds at each point of each curve.

    Args:
        points: One row per point of each run's curve: `cell_key`, the columns named by the other
            arguments, and `point`, its position on the curve. Points with the same position are
            put together, and `x` is averaged.
        panel: The column that tells the curves of a run apart, such as "shape".
        x: The column of the horizontal axis.
        value: The column of the value, such as "accuracy".

    Returns:
        One row per cell, panel and point: cell_key, panel, x (under their own names), mean, low,
        high, n; low and high are None below two seeds.

    Examples:
        >>> points = pd.DataFrame({
        ...     "cell_key": "a", "shape": "centre", "point": [0, 0, 1, 1],
        ...     "fraction": [0.0, 0.0, 0.5, 0.5], "accuracy": [0.8, 0.9, 0.4, 0.6],
        ... })
        >>> curves = mean_curves(points, "shape", "fraction", "accuracy")
        >>> curves[["fraction", "mean", "n"]].round(2).to_dict("list")
        {'fraction': [0.0, 0.5], 'mean': [0.85, 0.5], 'n': [2, 2]}
    """
    rows = []
    for (cell, name, _), group in points.groupby(["cell_key", panel, "point"], sort=False):
        mean = estimate(group[value].tolist())
        interval = {"mean": mean.mean, "low": mean.low, "high": mean.high, "n": mean.n}
        rows.append({"cell_key": cell, panel: name, x: group[x].mean(), **interval})
    return pd.DataFrame(rows, columns=["cell_key", panel, x, "mean", "low", "high", "n"])


def pool_reliability(bins: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability bins of each cell, with the images of all seeds together.

    Args:
        bins: One row per bin of each run: cell_key, bin, low, high, count, confidence, accuracy;
            all but the first three from 0 to 1, or NaN where no image fell.

    Returns:
        One row per cell and bin: cell_key, low, high, count, confidence, accuracy; the last two
        are means over images.

    Examples:
        >>> bins = pd.DataFrame({
        ...     "cell_key": "a", "bin": 0, "low": 0.0, "high": 1.0,
        ...     "count": [30, 10], "confidence": [0.8, 0.6], "accuracy": [0.7, 0.5],
        ... })
        >>> pool_reliability(bins)[["count", "confidence", "accuracy"]].round(2).to_dict("list")
        {'count': [40], 'confidence': [0.75], 'accuracy': [0.65]}
    """
    rows = []
    for (cell, _), group in bins.groupby(["cell_key", "bin"], sort=False):
        count = int(group["count"].sum())
        filled = group[group["count"] > 0]
        edges = {"low": group["low"].iloc[0], "high": group["high"].iloc[0], "count": count}
        means = {
            column: (filled[column] * filled["count"]).sum() / count if count else float("nan")
            for column in ("confidence", "accuracy")
        }
        rows.append({"cell_key": cell, **edges, **means})
    columns = ["cell_key", "low", "high", "count", "confidence", "accuracy"]
    return pd.DataFrame(rows, columns=columns)
