"""Draw metrics over the dose of mixing: a panel per metric, a row of them per block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import (
    BAND_SEEDS,
    DASHED,
    WIDTH,
    legend,
    png,
    rows_of,
    settings,
)
from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles

_APART = 0.007
"""How far points of the same dose are drawn apart, as a share of the largest dose."""


def dose_figure(points: pd.DataFrame, panels: Mapping[str, str], paper: Paper = LIGHT) -> bytes:
    """Draw a line per series over the dose; the dashed line is the baseline's mean.

    points: block, title, series, is_baseline, metric, dose, mean, half_width (the last three from 0
    to 1), n. panels: metric -> the label of its axis.
    """
    baselines = points.groupby("series", sort=False)["is_baseline"].all()
    names = styles(list(points["series"]), paper, set(baselines[baselines].index))
    blocks = list(points.groupby("block", sort=False))
    with settings(paper):
        size = (WIDTH, 3.4 * len(blocks) + 0.25 * rows_of(len(names), 5))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(blocks), len(panels), squeeze=False)
        for (_, block), axes in zip(blocks, grid, strict=True):
            for axis, (metric, label) in zip(axes, panels.items(), strict=True):
                _panel(axis, block[block["metric"] == metric], names, paper)
                axis.set_ylabel(label)
                axis.set_xlabel("Dose, %")
            if len(blocks) > 1:
                axes[0].set_title(block["title"].iloc[0], loc="left")
        legend(figure, names, paper)
        return png(figure)


def _panel(axis: Axes, points: pd.DataFrame, names: Mapping[str, Style], paper: Paper) -> None:
    for mean in points.loc[points["is_baseline"], "mean"]:
        axis.axhline(mean * 100, color=paper.soft, lw=1, ls=DASHED, zorder=1)
    series = list(dict.fromkeys(points["series"]))
    shifts = (np.arange(len(series)) - (len(series) - 1) / 2) * _APART * points["dose"].max() * 100
    for name, shift in zip(series, shifts, strict=True):
        line = points[points["series"] == name].sort_values("dose")
        # What mixes nothing is nobody's neighbour.
        x = line["dose"] * 100 + shift * (line["dose"] > 0)
        style = names[name]
        look: dict[str, Any] = {"color": style.colour, "marker": style.marker, "ms": 5.5, "lw": 1.3}
        axis.plot(x, line["mean"] * 100, mec=paper.paper, mew=0.4, zorder=3, **look)
        widths = line["half_width"].astype(float).where(line["n"] >= BAND_SEEDS) * 100
        bars: dict[str, Any] = {"ecolor": style.colour, "elinewidth": 0.9, "alpha": 0.55}
        axis.errorbar(x, line["mean"] * 100, yerr=widths, fmt="none", zorder=2, **bars)
    axis.grid(axis="y")
