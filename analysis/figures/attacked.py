"""Draw accuracy under attack over clean and over train accuracy, a row per block."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import WIDTH, cell_styles, legend, png, rows_of, settings
from mixbench.analysis.figures.marks import scatter
from mixbench.analysis.figures.palette import LIGHT, Paper


def attacked_figure(
    cells: pd.DataFrame,
    points: pd.DataFrame,
    overs: Mapping[str, str],
    y_label: str,
    paper: Paper = LIGHT,
) -> bytes:
    """Draw a panel per x axis, a row of them per block.

    points: cell_key, y and the columns of `overs`, from 0 to 1. overs: column -> label.
    """
    blocks = list(dict.fromkeys(cells["block"]))
    names = cell_styles(cells, paper)
    with settings(paper):
        size = (WIDTH, 3.6 * len(blocks) + 0.25 * rows_of(len(names), 4))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(blocks), len(overs), squeeze=False, sharey="row")
        for row, block in enumerate(blocks):
            members = cells[cells["block"] == block]
            for axis, (column, label) in zip(grid[row], overs.items(), strict=True):
                for _, cell in members.iterrows():
                    one = points[points["cell_key"] == cell["cell_key"]]
                    style = names[cell["series"]]
                    x, y = (one[name] * 100 for name in (column, "y"))
                    scatter(axis, x.tolist(), y.tolist(), style, paper)
                axis.grid()
                axis.set_xlabel(label)
            grid[row][0].set_ylabel(y_label)
            grid[row][0].set_title(members["title"].iloc[0] if len(blocks) > 1 else "", loc="left")
        legend(figure, names, paper, is_line=False)
        return png(figure)
