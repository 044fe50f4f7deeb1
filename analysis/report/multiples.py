"""Curves of many cells: a small panel per cell with its differences to the baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from mixbench.analysis.figures.canvas import BAND_SEEDS
from mixbench.analysis.figures.difference_curves import (
    MOST_LINES,
    CurvePanel,
    DifferenceCurve,
    difference_curves,
)
from mixbench.analysis.figures.forest import NARROW
from mixbench.analysis.figures.palette import Paper
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.units import overlap_of, unit_of

MOST_CURVES = 8
"""Cells whose curves can be told apart in one panel."""
MOST_PANELS = 24


@dataclass(frozen=True)
class Multiples:
    """A figure of small panels. words: what it shows, for the caption."""

    panels: Sequence[CurvePanel]

    draw: Callable[[Paper], bytes]
    draw_narrow: Callable[[Paper], bytes]
    words: str


def are_needed(cells: pd.DataFrame) -> bool:
    """Tell whether a panel with all cells of a regime could not be read."""
    return bool(len(cells) and cells.groupby("block").size().max() > MOST_CURVES)


def multiples(
    cells: pd.DataFrame,
    points: pd.DataFrame,
    runs: pd.DataFrame,
    x_label: str,
    y_label: str = "Accuracy, %",
    summary: str = "",
) -> Multiples | None:
    """Return the figure of the cells; None where there is nothing to draw.

    cells: in the order of the page, with the key of the baseline of each. points: cell_key,
    run_key, line, row, point (place on the curve), x, and value, an accuracy from 0 to 1. A panel
    has one line per `line`; of more than can be read the one called `summary`, else their mean. A
    `row` gets panels of its own. runs: what the runs are paired by.
    """
    if points.empty:
        return None
    unit = unit_of(runs)
    pairs = dict(zip(runs["run_key"], runs[unit], strict=True))
    placed = points.assign(pair=[pairs[key] for key in points["run_key"]])
    names, merged = list(placed["line"].unique()), ""
    if len(names) > MOST_LINES:
        merged = summary if summary in names else "the mean of all curves"
        placed = placed[placed["line"] == summary] if summary in names else placed
        placed = placed.assign(line=merged, row="")
    is_paired = bool(cells["baseline_key"].notna().any())
    drawn = [
        cell
        for cell in cells.to_dict("records")
        if not is_paired or cell["baseline_key"] not in (None, cell["cell_key"])
    ]
    of_cell = {str(key): rows for key, rows in placed.groupby("cell_key", sort=False)}
    several, overlap = cells["block"].nunique() > 1, overlap_of(unit)
    rows = list(dict.fromkeys(placed["row"]))
    panels = [
        CurvePanel(_title(cell["series"], cell["title"] if several else ""), curves, row)
        for row in rows
        for cell in drawn[:MOST_PANELS]
        if (curves := _curves(of_cell, str(cell["cell_key"]), cell["baseline_key"], row, overlap))
    ]
    if not panels:
        return None
    what = "Difference, points" if is_paired else y_label
    shown = [row for row in rows if any(panel.row == row for panel in panels)]
    draw = partial(
        difference_curves,
        panels,
        x_label=x_label,
        y_labels=[f"{row}\n{what}" if row else what for row in shown],
        is_log=False,
    )
    measure = y_label.partition(",")[0].lower()
    words = _words(unit, measure, merged, is_paired=is_paired)
    if len(drawn) > MOST_PANELS:
        words += f" The first {MOST_PANELS} of {len(drawn)} configurations."
    return Multiples(panels, draw, partial(draw, width=NARROW), words)


def _words(unit: str, measure: str, merged: str, *, is_paired: bool) -> str:
    text = "A panel per configuration: "
    text += f"its difference to the baseline, paired by {unit}" if is_paired else f"its {measure}"
    text += f" ({merged})" if merged else ""
    return (
        f"{text}. Bands are 95% intervals of single points, from {BAND_SEEDS} {unit}s on"
        f"{'; filled: the interval excludes 0' if is_paired else ''}."
    )


def _title(series: object, regime: object) -> str:
    return f"{series} · {regime}" if regime else str(series)


def _curves(
    of_cell: dict[str, pd.DataFrame], key: str, baseline: object, row: str, overlap: float
) -> list[DifferenceCurve]:
    """Return the lines of one panel."""
    if key not in of_cell:
        return []
    own, base = of_cell[key], of_cell.get(str(baseline))
    if baseline is not None and base is None:
        return []
    curves = []
    for line, points in own[own["row"] == row].groupby("line", sort=False):
        found = _values(points)
        if base is not None:
            other = _values(base[(base["row"] == row) & (base["line"] == line)])
            # Of the pairs that both have.
            found = (found - other.reindex(index=found.index, columns=found.columns)).dropna(
                axis="index", how="all"
            )
        places = points.groupby("point")["x"].mean()
        known = [
            (places[at], estimate(found[at].tolist(), overlap=overlap)) for at in found.columns
        ]
        curves.append(_curve(str(line), [(x, one) for x, one in known if one.n]))
    return [curve for curve in curves if curve.x]


def _values(points: pd.DataFrame) -> pd.DataFrame:
    """Return pair by place on the curve, the mean over runs that are one pair."""
    return points.pivot_table(index="pair", columns="point", values="value", aggfunc="mean")


def _curve(name: str, points: Sequence[tuple[float, Estimate]]) -> DifferenceCurve:
    def scaled(value: float | None, n: int) -> float | None:
        return None if value is None or n < BAND_SEEDS else value * 100

    return DifferenceCurve(
        name,
        tuple(float(x) for x, _ in points),
        tuple((one.mean or 0.0) * 100 for _, one in points),
        tuple(scaled(one.low, one.n) for _, one in points),
        tuple(scaled(one.high, one.n) for _, one in points),
    )
