"""From the curves of measurements (`mixbench evaluate`) to figures: tables are made here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from mixbench.analysis.figures import measurements as figures
from mixbench.analysis.figures.summary import methods_figure
from mixbench.analysis.report.parts import Figure, both
from mixbench.analysis.statistics import tests
from mixbench.analysis.statistics.comparison import Metric, pooled_reliability

PANELS = 12
"""Cells in one figure of calibration; a larger sweep gets several figures."""
MOST_PANELS = 48

_POINTS = ["cell_key", "run_key", "seed", "panel", "point", "x", "value"]
_BINS = ["cell_key", "bin", "low", "high", "count", "confidence", "accuracy"]


@dataclass(frozen=True)
class Curves:
    """What figures of one measurement are made of. found: run_key -> its file."""

    name: str
    found: Mapping[str, Mapping[str, Any]]
    runs: pd.DataFrame
    cells: pd.DataFrame
    classes: int

    @property
    def chance(self) -> float | None:
        """Accuracy of guessing."""
        return 1 / self.classes if self.classes else None

    def each(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Any]]]:
        """cell_key, run_key and seed of each measured run, with its curves."""
        for run in self.runs.to_dict("records"):
            if (made := self.found.get(run["run_key"])) is not None:
                keys = {name: run[name] for name in ("cell_key", "run_key", "seed")}
                yield keys, made.get("curves") or {}

    def shown(self, keys: Iterable[Any]) -> pd.DataFrame:
        """The cells with these keys, in the order of the pages."""
        return self.cells[self.cells["cell_key"].isin(set(keys))]


def drawn(curves: Curves) -> list[Figure]:
    """The figures of a measurement; none where it has no drawing of its own, or no data."""
    draw = _DRAWINGS.get(curves.name)
    return draw(curves) if draw is not None else []


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """Mean and t interval over seeds: cell_key, panel, x, mean, low, high, n."""
    rows = []
    for (cell, panel, _), own in points.groupby(["cell_key", "panel", "point"], sort=False):
        mean = tests.estimate(own["value"].tolist())
        rows.append(
            {
                "cell_key": cell,
                "panel": panel,
                "x": own["x"].mean(),
                "mean": mean.mean,
                "low": mean.low,
                "high": mean.high,
                "n": mean.n,
            }
        )
    return pd.DataFrame(rows, columns=["cell_key", "panel", "x", "mean", "low", "high", "n"])


def accuracies(
    keys: Mapping[str, Any], panel: str, xs: Sequence[Any] | None, values: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """The points of one curve of one run; empty where there is none."""
    return [
        {**keys, "panel": panel, "point": point, "x": float(x), "value": float(value)}
        for point, (x, value) in enumerate(zip(xs or (), values or (), strict=False))
        if tests.is_number(x) and tests.is_number(value)
    ]


def _by_name(curves: Curves, axis: str, panels: Mapping[str, str]) -> pd.DataFrame:
    """Points of the curves in `accuracy` over those in `axis`. panels: curve -> title."""
    rows: list[dict[str, Any]] = []
    for keys, own in curves.each():
        for name, panel in panels.items():
            rows += accuracies(keys, panel, own.get(axis), (own.get("accuracy") or {}).get(name))
    return pd.DataFrame(rows, columns=_POINTS)


def reliability(curves: Curves, when: str) -> pd.DataFrame:
    """Bins of equal width, "before" or "after" scaling, of the runs with the usual number of bins:
    cell_key, bin, low, high, count, confidence, accuracy."""
    every = list(curves.each())
    usual = Counter(own["bins"] for _, own in every if "bins" in own).most_common(1)
    rows = []
    for keys, own in every:
        width = (own.get(when) or {}).get("width")
        if not width or own.get("bins") != usual[0][0]:
            continue
        columns = zip(width["count"], width["confidence"], width["accuracy"], strict=True)
        bins = own["bins"]
        rows += [
            {
                "cell_key": keys["cell_key"],
                "bin": place,
                "low": place / bins,
                "high": (place + 1) / bins,
                "count": number,
                "confidence": confidence,
                "accuracy": accuracy,
            }
            for place, (number, confidence, accuracy) in enumerate(columns)
        ]
    bins = pd.DataFrame(rows, columns=_BINS)
    return bins.astype({"confidence": float, "accuracy": float})


def _calibration(curves: Curves) -> list[Figure]:
    before, after = (pooled_reliability(reliability(curves, when)) for when in ("before", "after"))
    if before.empty:
        return []
    notes = _temperatures(curves)
    found = []
    every = curves.shown(before["cell_key"]).iloc[:MOST_PANELS]
    for first in range(0, len(every), PANELS):
        cells = every.iloc[first : first + PANELS]
        found.append(
            both(
                "measured-calibration.png"
                if not first
                else f"measured-calibration-{first // PANELS + 1}.png",
                "Reliability before and after temperature scaling",
                "Accuracy against confidence, the images of all seeds together; below it, how many "
                "of the images have that confidence. Faint and hollow: as trained; strong: with "
                "logits divided by the temperature of each run. Bins with fewer than "
                f"{figures.THIN_BIN} images are left out.",
                "Reliability diagrams before and after temperature scaling, one per method",
                partial(figures.scaling_figure, cells, before, after, notes),
            )
        )
    return found


def _temperatures(curves: Curves) -> dict[str, str]:
    """What stands above each reliability diagram."""
    notes = {}
    runs = curves.runs[curves.runs["run_key"].isin(set(curves.found))]
    for cell, own in runs.groupby("cell_key", sort=False):
        value = tests.estimate(own["calibration/temperature"].tolist()).mean
        bounded = int((own["calibration/temperature_bounded"] == 1).sum())
        text = "" if value is None else f"temperature {value:.2f}"
        notes[str(cell)] = f"{text}; {bounded} of {len(own)} no optimum" if bounded else text
    return notes


def _corruption(curves: Curves) -> list[Figure]:
    panels = {"mean": "All corruptions"} | {
        family: family.capitalize() for family in ("noise", "blur", "weather", "digital")
    }
    return _accuracy_figure(
        curves,
        _by_name(curves, "severity", panels),
        "Accuracy by severity",
        "Mean over the corruptions of a family; 0 is the images as they are.",
        "Severity",
    )


def _attack(curves: Curves) -> list[Figure]:
    points = _by_name(curves, "epsilon", {"fgsm": "FGSM, one step", "pgd": "PGD, many steps"})
    return _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 255),
        "Accuracy under attack",
        "By how much each value of an image may be changed; 0 is the images as they are.",
        "ε, of 255 shades",
    )


def _hiding(curves: Curves) -> list[Figure]:
    """A row per fill, the shapes side by side."""
    rows: list[dict[str, Any]] = []
    for keys, own in curves.each():
        for shape, by_fill in (own.get("accuracy") or {}).items():
            xs = (own.get("fraction") or {}).get(shape)
            for fill, values in by_fill.items():
                point = {**keys, "shape": shape, "fill": fill}
                rows += accuracies(point, f"{shape}, {fill}", xs, values)
    points = pd.DataFrame(rows, columns=[*_POINTS, "shape", "fill"])
    shapes, fills = (list(dict.fromkeys(points[kind])) for kind in ("shape", "fill"))
    order = {f"{shape}, {fill}": None for fill in fills for shape in shapes}
    place = {panel: number for number, panel in enumerate(order)}
    points = points.sort_values("panel", key=lambda panel: panel.map(place), kind="stable")
    return _accuracy_figure(
        curves,
        points.assign(x=points["x"] * 100),
        "Accuracy with parts hidden",
        "A column per shape of what is hidden, a row per what is there instead; at the same part "
        "all shapes hide equally many pixels.",
        "Part hidden, %",
        columns=len(shapes),
    )


def _accuracy_figure(
    curves: Curves, points: pd.DataFrame, title: str, caption: str, axis: str, columns: int = 3
) -> list[Figure]:
    if points.empty:
        return []
    lines = summary(points)
    bands = " The bands are 95% t intervals over seeds." if lines["n"].max() >= 3 else ""
    return [
        both(
            f"measured-{curves.name}.png",
            title,
            f"{caption}{bands} Dotted: guessing." if curves.chance else f"{caption}{bands}",
            f"Curves of accuracy over {axis.lower()}, one line per method",
            partial(
                figures.curves_figure,
                curves.shown(lines["cell_key"]),
                lines,
                axis=axis,
                chance=curves.chance,
                columns=columns,
            ),
        )
    ]


def _overfitting(curves: Curves) -> list[Figure]:
    wanted = ["overfitting/train/accuracy", "test/accuracy"]
    if not set(wanted) <= set(curves.runs):
        return []
    points = curves.runs[["cell_key", "seed", *wanted]].dropna()
    points.columns = pd.Index(["cell_key", "seed", "train", "test"])
    if points.empty:
        return []
    return [
        both(
            "measured-overfitting.png",
            "Train against test accuracy",
            "Clean training images against the test set: small dots are single seeds, large ones "
            "their mean. On the dashed line both are equal; the further to the right of it, the "
            "more a network overfits.",
            "Scatter plot of test accuracy over clean training accuracy, by method",
            partial(figures.scatter_figure, curves.shown(points["cell_key"]), points),
        )
    ]


def _dots(title: str, *metrics: Metric, part: str = "") -> Callable[[Curves], list[Figure]]:
    """A drawing of these metrics by method; a key that ends with a slash is a beginning.

    part: of the file's name, where a measurement has several drawings.
    """

    def draw(curves: Curves) -> list[Figure]:
        runs = curves.runs[curves.runs["run_key"].isin(set(curves.found))]
        wanted = [one for metric in metrics for one in _there(metric, runs)]
        means, seeds = _summaries(runs, wanted)
        if means.empty:
            return []
        cells = curves.shown(means["cell_key"])
        interval = (
            "their 95% t interval over seeds" if means["low"].notna().any() else "no interval"
        )
        return [
            both(
                f"measured-{curves.name}{part}.png",
                title,
                f"Means with {interval} (an arrowhead: it goes on beyond the panel); the small "
                "dots are single seeds, the dashed line is the mean of the baseline.",
                f"Dot plot of {', '.join(one.title for one in wanted)} by method",
                partial(methods_figure, cells, means, seeds, wanted),
            )
        ]

    return draw


def _localisation(curves: Curves) -> list[Figure]:
    """Scenes, and own images with boxes where there are any."""
    return [
        figure
        for prefix, title, part in (
            ("localisation", "Maps that find the object", ""),
            ("localisation/boxes", "Maps that find the object in own images", "-2"),
        )
        for figure in _dots(
            title,
            Metric(f"{prefix}/pointing", "Pointing", True, 1),
            Metric(f"{prefix}/iou", "IoU", True, 1),
            Metric(f"{prefix}/energy", "Energy", True, 1),
            part=part,
        )(curves)
    ]


def _there(metric: Metric, runs: pd.DataFrame) -> list[Metric]:
    """A metric, or the last of those that begin with its key; none where there is no value."""
    keys = [
        key
        for key in runs
        if key == metric.key or (metric.key.endswith("/") and str(key).startswith(metric.key))
    ]
    keys = [key for key in keys if runs[key].notna().any()][-1:]
    more = metric.key.endswith("/")
    return [
        Metric(
            str(key),
            f"{metric.title} {str(key).removeprefix(metric.key)}" if more else metric.title,
            metric.percent,
            metric.better,
        )
        for key in keys
    ]


def _summaries(runs: pd.DataFrame, metrics: Sequence[Metric]) -> tuple[pd.DataFrame, pd.DataFrame]:
    means, seeds = [], []
    for cell, own in runs.groupby("cell_key", sort=False):
        for metric in metrics:
            mean = tests.estimate(own[metric.key].tolist())
            means.append(
                {
                    "cell_key": cell,
                    "metric": metric.key,
                    "mean": mean.mean,
                    "low": mean.low,
                    "high": mean.high,
                }
            )
            seeds += [
                {"cell_key": cell, "metric": metric.key, "value": value}
                for value in own[metric.key].dropna()
            ]
    return (
        pd.DataFrame(means, columns=["cell_key", "metric", "mean", "low", "high"]),
        pd.DataFrame(seeds, columns=["cell_key", "metric", "value"]),
    )


_DRAWINGS: dict[str, Callable[[Curves], list[Figure]]] = {
    "calibration": _calibration,
    "overfitting": _overfitting,
    "hiding": _hiding,
    "corruption": _corruption,
    "attack": _attack,
    "smoothness": _dots(
        "Gradients and flips by method",
        Metric("smoothness/loss_gradient", "Loss gradient", False, 0),
        Metric("smoothness/distance", "Distance to the boundary", False, 1),
        Metric("smoothness/flip/", "Flips, noise", True, -1),
    ),
    "shift": _dots(
        "Telling foreign images by confidence",
        Metric("shift/auroc", "AUROC", False, 1),
        Metric("shift/fpr95", "FPR95", True, -1),
    ),
    "localisation": _localisation,
}
