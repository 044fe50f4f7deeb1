"""Draw test accuracy over train accuracy, a panel per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import (
    DASHED,
    WIDTH,
    cell_styles,
    legend,
    png,
    rows_of,
    settings,
)
from mixbench.analysis.figures.palette import LIGHT, Paper, Style


def scatter_figure(cells: pd.DataFrame, points: pd.DataFrame, paper: Paper = LIGHT) -> bytes:
    """Draw test over train accuracy. points: cell_key, seed, train, test."""
    blocks = list(dict.fromkeys(cells["block"]))
    columns = min(len(blocks), 3)
    rows = rows_of(len(blocks), columns)
    names = cell_styles(cells, paper)
    with settings(paper):
        size = (WIDTH, 4.0 * rows + 0.25 * rows_of(len(names), 4))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for number, axis in enumerate(grid.flat):
            if number >= len(blocks):
                axis.set_axis_off()
                continue
            members = cells[cells["block"] == blocks[number]]
            _dots(axis, members, points, names, paper)
            limits = axis.get_xlim(), axis.get_ylim()
            axis.axline((0, 0), slope=1, color=paper.soft, lw=1, ls=DASHED, zorder=1)
            axis.set_xlim(limits[0])
            axis.set_ylim(limits[1])
            axis.set_title(members["title"].iloc[0] if len(blocks) > 1 else "", loc="left")
            axis.grid()
            axis.set_xlabel("Accuracy on clean training images, %")
            if number % columns == 0:
                axis.set_ylabel("Test accuracy, %")
        legend(figure, names, paper, is_line=False)
        return png(figure)


def _dots(
    axis: Axes, cells: pd.DataFrame, points: pd.DataFrame, names: Mapping[str, Style], paper: Paper
) -> None:
    """Draw single seeds as small dots, their mean as a large one."""
    for _, cell in cells.iterrows():
        seeds = points[points["cell_key"] == cell["cell_key"]]
        style = names[cell["series"]]
        train, test = seeds["train"] * 100, seeds["test"] * 100
        axis.plot(train, test, "o", ms=3.6, mew=0, color=style.colour, alpha=0.6)
        large: dict[str, Any] = {
            "ms": 8,
            "color": style.colour,
            "mec": paper.paper,
            "mew": 0.8,
            "zorder": 4,
        }
        axis.plot([train.mean()], [test.mean()], style.marker, **large)
