"""Draw accuracy over a setting, such as the severity of a corruption: a panel per curve."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import (
    BAND_SEEDS,
    WIDTH,
    cell_styles,
    chance_line,
    curve,
    legend,
    png,
    rows_of,
    settings,
    wrap,
)
from mixbench.analysis.figures.palette import LIGHT, Paper, Style

_COLUMNS = 3


def curves_figure(
    cells: pd.DataFrame,
    lines: pd.DataFrame,
    paper: Paper = LIGHT,
    *,
    x_label: str,
    y_label: str = "Accuracy, %",
    chance: float | None = None,
    columns: int = _COLUMNS,
    is_doubling: bool = False,
) -> bytes:
    """Draw a panel per curve, in a row (or more) per block of cells.

    lines: cell_key, panel, x, mean, low, high, n. chance: accuracy of guessing. columns: panels
    side by side, at most. is_doubling: x doubles from mark to mark, from 1 on.
    """
    panels = list(dict.fromkeys(lines["panel"]))
    blocks = list(dict.fromkeys(cells["block"]))
    columns = min(len(panels), columns)
    rows = rows_of(len(panels), columns)
    height = 2.75 if columns <= _COLUMNS else 2.1
    names = cell_styles(cells, paper)
    with settings(paper):
        size = (WIDTH, height * rows * len(blocks) + 0.25 * rows_of(len(names), 5))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows * len(blocks), columns, squeeze=False, sharex=True, sharey=True)
        for number, block in enumerate(blocks):
            members = cells[cells["block"] == block]
            title = members["title"].iloc[0] if len(blocks) > 1 else ""
            for index, axis in enumerate(grid[number * rows : (number + 1) * rows].flat):
                if index >= len(panels):
                    axis.set_axis_off()
                    continue
                _curves(axis, members, lines[lines["panel"] == panels[index]], names, paper)
                if chance is not None:
                    chance_line(axis, chance, paper)
                text = " · ".join(part for part in (title, panels[index]) if part)
                axis.set_title(wrap(text, 100 // columns), loc="left")
                axis.grid(axis="y")
                if index % columns == 0:
                    axis.set_ylabel(y_label)
                if index + columns >= len(panels):
                    axis.set_xlabel(x_label)
                    axis.tick_params(labelbottom=True)
        # Below 0 only where an estimate is, such as a share without bias.
        bottom = min(0.0, float(lines["mean"].min()) * 105)
        grid[0][0].set_ylim(bottom, min(100.0, _top(lines) * 105))
        if is_doubling:
            _double(grid[0][0])
        else:
            grid[0][0].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        legend(figure, names, paper)
        return png(figure)


def _double(axis: Axes) -> None:
    """Let x double from mark to mark, from 1 on; below it is linear. Shared by all panels."""
    axis.set_xscale("symlog", base=2, linthresh=1, linscale=0.7)
    axis.xaxis.set_major_locator(matplotlib.ticker.FixedLocator([0, *(2**n for n in range(9))]))
    axis.xaxis.set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axis.set_xlim(left=-0.2)


def _top(lines: pd.DataFrame) -> float:
    top = float(lines["mean"].max())
    if lines["n"].max() >= BAND_SEEDS:
        top = max(top, float(lines["high"].astype(float).max()))
    return top


def _curves(
    axis: Axes, cells: pd.DataFrame, lines: pd.DataFrame, names: Mapping[str, Style], paper: Paper
) -> None:
    for _, cell in cells.iterrows():
        points = lines[lines["cell_key"] == cell["cell_key"]].sort_values("x")
        if not points.empty:
            curve(axis, points, points["x"].astype(float), names[cell["series"]], paper)
