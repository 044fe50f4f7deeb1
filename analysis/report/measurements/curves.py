"""The curves of one measurement as tables, one row per point of each run's curve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.measurements.load import curves_of

POINTS = ["cell_key", "run_key", "seed", "panel", "point", "x", "value"]
"""The columns of a table of points. point: the position on the curve."""
_BINS = ["cell_key", "bin", "low", "high", "count", "confidence", "accuracy"]


@dataclass(frozen=True)
class Curves:
    """The data for the figures of one measurement. results: run_key -> its file."""

    name: str
    results: Mapping[str, Mapping[str, Any]]
    runs: pd.DataFrame
    cells: pd.DataFrame
    classes: int

    @property
    def chance(self) -> float | None:
        """The accuracy of guessing, from 0 to 1."""
        return 1 / self.classes if self.classes else None

    @property
    def measured_runs(self) -> pd.DataFrame:
        """The rows of the runs that were measured."""
        return self.runs[self.runs["run_key"].isin(set(self.results))]

    def each(self) -> Iterable[tuple[dict[str, Any], Mapping[str, Any]]]:
        """Yield cell_key, run_key and seed of each measured run, with its curves."""
        for run in self.runs.to_dict("records"):
            if (result := self.results.get(run["run_key"])) is not None:
                keys = {name: run[name] for name in ("cell_key", "run_key", "seed")}
                yield keys, curves_of(result)

    def cells_with(self, keys: Iterable[Any]) -> pd.DataFrame:
        """Return the cells with these keys, in the order of the pages."""
        return self.cells[self.cells["cell_key"].isin(set(keys))]


def points_of(
    keys: Mapping[str, Any], panel: str, xs: Sequence[Any] | None, values: Sequence[Any] | None
) -> list[dict[str, Any]]:
    """Return the points of one curve of one run; empty where there is none."""
    return [
        {**keys, "panel": panel, "point": point, "x": float(x), "value": float(value)}
        for point, (x, value) in enumerate(zip(xs or (), values or (), strict=False))
        if is_number(x) and is_number(value)
    ]


def accuracy_points(
    curves: Curves, axis: str, panels: Mapping[str, str], within: str = ""
) -> pd.DataFrame:
    """Return the points of the curves in `accuracy` over that in `axis`.

    panels: curve -> title of its panel. within: the part of the curves that has both; "": all.
    """
    rows: list[dict[str, Any]] = []
    for keys, whole in curves.each():
        run = (whole.get(within) or {}) if within else whole
        for name, panel in panels.items():
            values = (run.get("accuracy") or {}).get(name)
            rows += points_of(keys, panel, run.get(axis), values)
    return pd.DataFrame(rows, columns=POINTS)


def reliability_bins(curves: Curves, when: str) -> pd.DataFrame:
    """Return the bins of equal width, "before" or "after" scaling.

    Only of the runs with the usual number of bins: cell_key, bin, low, high, count, confidence,
    accuracy.
    """
    every = list(curves.each())
    usual = Counter(run["bins"] for _, run in every if "bins" in run).most_common(1)
    rows = []
    for keys, run in every:
        width = (run.get(when) or {}).get("width")
        if not width or run.get("bins") != usual[0][0]:
            continue
        columns = zip(width["count"], width["confidence"], width["accuracy"], strict=True)
        bins = run["bins"]
        for number, values in enumerate(columns):
            edges = (number / bins, (number + 1) / bins)
            rows.append((keys["cell_key"], number, *edges, *values))
    table = pd.DataFrame(rows, columns=_BINS)
    return table.astype({"confidence": float, "accuracy": float})
