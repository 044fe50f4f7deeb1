"""Draw differences over a budget or a dose, with their band: a small panel per method."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings, wrap
from mixbench.analysis.figures.marks import line
from mixbench.analysis.figures.palette import LIGHT, Paper

_MANY = 9
MOST_LINES = 3
"""More bands in a panel can't be read."""


@dataclass(frozen=True)
class DifferenceCurve:
    """One line. x, difference, low, high: in the units of the axes; None without an interval."""

    name: str
    x: tuple[float, ...]
    difference: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True)
class CurvePanel:
    """The lines of a method, and the row of the figure that it is in."""

    title: str
    curves: Sequence[DifferenceCurve]
    row: str = ""
    margin: float | None = None


def difference_curves(
    panels: Sequence[CurvePanel],
    paper: Paper = LIGHT,
    *,
    x_label: str,
    y_labels: Sequence[str],
    is_log: bool,
    width: float = WIDTH,
) -> bytes:
    """Draw a panel per method, a row (or more) per kind of difference.

    y_labels: one per value of `CurvePanel.row`, in the order in which these appear.
    """
    kinds = list(dict.fromkeys(panel.row for panel in panels))
    most = max(sum(panel.row == kind for panel in panels) for kind in kinds)
    # Several kinds below each other: then each should be one row. Many panels are small.
    is_small = most > _MANY or (len(kinds) > 1 and most <= 5)
    columns = min(most, (5 if is_small else 3) if width >= WIDTH else 2)
    per_kind = rows_of(most, columns)
    names = list(dict.fromkeys(curve.name for panel in panels for curve in panel.curves))
    with settings(paper):
        height = (2.3 if width >= WIDTH and most <= _MANY else 1.75) * per_kind * len(kinds)
        figure = Figure(figsize=(width, height + 0.45), layout="constrained")
        grid = figure.subplots(per_kind * len(kinds), columns, squeeze=False, sharex=True)
        for number, (kind, label) in enumerate(zip(kinds, y_labels, strict=True)):
            axes = grid[number * per_kind : (number + 1) * per_kind]
            members = [panel for panel in panels if panel.row == kind]
            for place, axis in enumerate(axes.flat):
                if place >= len(members):
                    axis.set_axis_off()
                    continue
                _panel(axis, members[place], names, paper, 100 // columns if width >= WIDTH else 28)
                if place % columns == 0:
                    axis.set_ylabel(label)
                if place + columns >= len(members):
                    # Seaborn hides the label where no tick has one.
                    axis.set_xlabel(x_label, visible=True)
                    axis.tick_params(labelbottom=True)
            limits = [axis.get_ylim() for axis in axes.flat[: len(members)]]
            for place, axis in enumerate(axes.flat[: len(members)]):
                axis.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
                axis.tick_params(labelleft=place % columns == 0)
        _x_axis(grid[0][0], panels, is_log=is_log)
        _legend(figure, names, paper)
        return png(figure)


def _panel(axis: Axes, panel: CurvePanel, names: Sequence[str], paper: Paper, letters: int) -> None:
    if panel.margin is not None:
        axis.axhspan(-panel.margin, panel.margin, color=paper.grid, alpha=0.8, lw=0, zorder=0)
    axis.axhline(0, color=paper.soft, lw=1, zorder=1)
    for curve in panel.curves:
        colour, marker = _style(names.index(curve.name), paper)
        known = [
            (x, low, high)
            for x, low, high in zip(curve.x, curve.low, curve.high, strict=True)
            if low is not None and high is not None
        ]
        if known:
            xs, lows, highs = zip(*known, strict=True)
            axis.fill_between(xs, lows, highs, color=colour, alpha=0.16, lw=0)
        line(axis, curve.x, curve.difference, colour)
        ends = zip(curve.x, curve.difference, curve.low, curve.high, strict=True)
        for x, y, low, high in ends:
            is_clear = low is not None and high is not None and (low > 0 or high < 0)
            look: dict[str, Any] = {"mfc": colour if is_clear else paper.paper, "mec": colour}
            axis.plot([x], [y], marker, ms=6, mew=1.4, **look)
    axis.set_title(wrap(panel.title, letters), loc="left")
    axis.grid(axis="y")
    axis.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))


def _style(place: int, paper: Paper) -> tuple[str, str]:
    return paper.colours[(0, 1, 2)[place % 3]], ("o", "D", "s")[place % 3]


def _x_axis(axis: Axes, panels: Sequence[CurvePanel], *, is_log: bool) -> None:
    """Put a tick where values are, if they are few."""
    values = sorted({x for panel in panels for curve in panel.curves for x in curve.x})
    if is_log:
        axis.set_xscale("log")
        axis.minorticks_off()
        room = math.log(values[-1] / values[0]) * 0.06
        axis.set_xlim(values[0] / math.exp(room), values[-1] * math.exp(room))
    if is_log or len(values) <= 6:
        # Shares of pixels are no round numbers, and labels of six digits run into each other.
        texts = [f"{value if is_log else float(f'{value:.2g}'):g}" for value in values]
        axis.set_xticks(values, texts)


def _legend(figure: Figure, names: Sequence[str], paper: Paper) -> None:
    if len(names) < 2:
        return
    handles = []
    for place, name in enumerate(names):
        colour, marker = _style(place, paper)
        handles.append(Line2D([], [], color=colour, marker=marker, label=name))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(names), frameon=False)
