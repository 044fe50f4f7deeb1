"""Draw paired differences with their intervals, and the band of the margin: a forest plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings, wrap
from mixbench.analysis.figures.marks import strip
from mixbench.analysis.figures.palette import LIGHT, Paper

NARROW = 4.6
"""Inches: the width of a telephone's screen, at which 9 points are read as 9 points."""
_MOST_DOTS = 40


@dataclass(frozen=True)
class ForestRow:
    """A row of a forest plot.

    Attributes:
        name: Of the difference.
        difference, low, high: Its estimate and interval, in the units of the axis; None where
            there is none.
        tone: "good", "bad", "same" or "" (nothing is decided).
        dots: The difference of each replicate.
        text: What stands beside it, such as "use".
    """

    name: str
    difference: float | None
    low: float | None
    high: float | None
    tone: str
    dots: tuple[float, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class ForestPanel:
    """The rows of one regime."""

    title: str
    rows: Sequence[ForestRow]


def forest_figure(
    panels: Sequence[ForestPanel],
    paper: Paper = LIGHT,
    *,
    x_label: str,
    margin: float | None,
    better: int = 1,
    width: float = WIDTH,
) -> bytes:
    """Draw a panel per regime, all on the same axis.

    margin: half the width of the band in which differences don't matter. better: 1 where higher is
    better, -1 where lower is.
    """
    columns = 1 if width < WIDTH or len(panels) == 1 else min(3, len(panels))
    if len(panels) == 4 and columns == 3:
        columns = 2
    rows = rows_of(len(panels), columns)
    tallest = [
        max(len(panel.rows) for panel in panels[row * columns : (row + 1) * columns])
        for row in range(rows)
    ]
    size = 0.34 if len(panels) > 1 else 0.42
    heights = [size * count + (0.75 if len(panels) > 1 else 0.5) for count in tallest]
    with settings(paper):
        figure = Figure(figsize=(width, sum(heights) + 0.35), layout="constrained")
        grid = figure.subplots(
            rows, columns, squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights}
        )
        limits = limits_of([row for panel in panels for row in panel.rows], margin)
        for number, axis in enumerate(grid.flat):
            if number >= len(panels):
                axis.set_axis_off()
                continue
            draw_panel(axis, panels[number], paper, margin, limits)
            axis.tick_params(labelbottom=True)
        left, right = ("worse", "better") if better > 0 else ("better", "worse")
        ends = (f"← {left}    ", f"    {right} →") if better else ("", "")
        figure.supxlabel(
            f"{ends[0]}{wrap(x_label, 40 if width < WIDTH else 90)}{ends[1]}", size=8.5
        )
        return png(figure)


def draw_panel(
    axis: Axes,
    panel: ForestPanel,
    paper: Paper,
    margin: float | None,
    limits: tuple[float, float],
) -> None:
    """Draw the rows of one panel; what goes on beyond the limits ends in an arrow."""
    axis.set_xlim(*limits)
    if margin is not None:
        axis.axvspan(-margin, margin, color=paper.grid, alpha=0.8, lw=0, zorder=0)
    axis.axvline(0, color=paper.soft, lw=1, zorder=1)
    heights = np.arange(len(panel.rows), dtype=float)
    dots = [(value, y) for y, row in enumerate(panel.rows) for value in row.dots[:_MOST_DOTS]]
    if dots:
        strip(axis, [x for x, _ in dots], [y + 0.22 for _, y in dots], paper.soft)
        _arrows(axis, [(x, y + 0.22) for x, y in dots], limits, paper.soft, 4)
    for y, row in zip(heights, panel.rows, strict=True):
        colour = _colour(row.tone, paper)
        if row.difference is None or not math.isfinite(row.difference):
            axis.text(0, y, " not compared", va="center", size=8, color=paper.soft)
            continue
        if row.low is not None and row.high is not None:
            axis.plot([row.low, row.high], [y, y], color=colour, lw=2.4, solid_capstyle="round")
            _arrows(axis, [(row.low, y), (row.high, y)], limits, colour, 7)
        face = paper.paper if row.tone == "" else colour
        axis.plot([row.difference], [y], _MARKERS[row.tone], ms=7, mfc=face, mec=colour, mew=1.6)
        if row.text:
            axis.text(
                1.01,
                y,
                row.text,
                transform=axis.get_yaxis_transform(),
                va="center",
                size=8.5,
                color=colour if row.tone else paper.ink,
            )
    axis.set_ylim(len(panel.rows) - 0.45, -0.55)
    axis.set_yticks(heights, [wrap(row.name, 30) for row in panel.rows])
    axis.set_title(wrap(panel.title, 40), loc="left")
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)


def _arrows(
    axis: Axes,
    ends: Sequence[tuple[float, float]],
    limits: tuple[float, float],
    colour: str,
    size: float,
) -> None:
    """Put an arrow within the frame, at the height of each end that lies beyond it."""
    low, high = limits
    inside = 0.012 * (high - low)
    for x, y in ends:
        if not low <= x <= high:
            edge, marker = (low + inside, "<") if x < low else (high - inside, ">")
            axis.plot([edge], [y], marker, ms=size, color=colour, mew=0, zorder=4)


_MARKERS = {"good": "o", "bad": "X", "same": "s", "": "o"}


def _colour(tone: str, paper: Paper) -> str:
    return {"good": paper.good, "bad": paper.bad, "same": paper.accent}.get(tone, paper.neutral)


def has_arrows(panels: Sequence[ForestPanel], margin: float | None) -> bool:
    """Tell whether an interval, or the difference of a replicate, goes on beyond the limits."""
    rows = [row for panel in panels for row in panel.rows]
    low, high = limits_of(rows, margin)
    return any(not low <= end <= high for row in rows for end in _ends(row))


def _ends(row: ForestRow) -> list[float]:
    return [end for end in (row.low, row.high, *row.dots[:_MOST_DOTS]) if end is not None]


def limits_of(rows: Sequence[ForestRow], margin: float | None) -> tuple[float, float]:
    """Return a range with all differences; of intervals and dots what does not squeeze these."""
    middles = [row.difference for row in rows if row.difference is not None]
    inner = [*middles, 0.0, *((-margin * 1.6, margin * 1.6) if margin else ())]
    low, high = min(inner), max(inner)
    span = max(high - low, 1e-9)
    ends = [end for row in rows for end in _ends(row)]
    low = max(min([low, *ends]), low - 0.8 * span)
    high = min(max([high, *ends]), high + 0.8 * span)
    return low - 0.05 * (high - low), high + 0.05 * (high - low)
