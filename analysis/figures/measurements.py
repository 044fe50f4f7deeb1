"""Figures of measurements that have a shape of their own: tables in, PNG bytes out."""

from __future__ import annotations

import math
from collections.abc import Mapping

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles
from mixbench.analysis.figures.summary import (
    BAND_SEEDS,
    THIN_BIN,
    WIDTH,
    _baselines,
    _drawing,
    _png,
    _wrapped,
)

_COLUMNS = 3
_DASHED = (0, (4, 3))


def curves_figure(
    cells: pd.DataFrame,
    lines: pd.DataFrame,
    paper: Paper = LIGHT,
    *,
    axis: str,
    chance: float | None = None,
    columns: int = 3,
) -> bytes:
    """Accuracy over anything: a panel per curve, a row (or more) per block of cells.

    lines: cell_key, panel, x, mean, low, high, n. axis: what x is. chance: accuracy of guessing.
    columns: panels side by side, at most.
    """
    panels = list(dict.fromkeys(lines["panel"]))
    blocks = list(dict.fromkeys(cells["block"]))
    columns = min(len(panels), columns)
    rows = math.ceil(len(panels) / columns)
    height = 2.75 if columns <= _COLUMNS else 2.1
    names = styles(list(cells["series"]), paper, _baselines(cells))
    top = float(lines["mean"].max())
    if lines["n"].max() >= BAND_SEEDS:
        top = max(top, float(lines["high"].astype(float).max()))
    with _drawing(paper):
        size = (WIDTH, height * rows * len(blocks) + 0.25 * math.ceil(len(names) / 5))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows * len(blocks), columns, squeeze=False, sharex=True, sharey=True)
        for number, block in enumerate(blocks):
            members = cells[cells["block"] == block]
            own = grid[number * rows : (number + 1) * rows].flat
            for place, panel in enumerate(own):
                if place >= len(panels):
                    panel.set_axis_off()
                    continue
                _curves(panel, members, lines[lines["panel"] == panels[place]], names, paper)
                if chance is not None:
                    panel.axhline(chance * 100, color=paper.soft, lw=0.9, ls=(0, (1, 2)))
                title = members["title"].iloc[0] if len(blocks) > 1 else ""
                text = " · ".join(part for part in (title, panels[place]) if part)
                panel.set_title(_wrapped(text, 100 // columns), loc="left")
                panel.grid(axis="y")
                if place % columns == 0:
                    panel.set_ylabel("Accuracy, %")
                if place + columns >= len(panels):
                    panel.set_xlabel(axis)
                    panel.tick_params(labelbottom=True)
        grid[0][0].set_ylim(0, min(100.0, top * 105))
        grid[0][0].xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6, integer=True))
        _legend(figure, names, paper)
        return _png(figure)


def scaling_figure(
    cells: pd.DataFrame,
    before: pd.DataFrame,
    after: pd.DataFrame,
    notes: Mapping[str, str],
    paper: Paper = LIGHT,
) -> bytes:
    """A reliability diagram per cell, as trained and with scaled logits, with counts below it.

    before, after: cell_key, low, high, count, confidence, accuracy. notes: cell_key -> text.
    """
    columns = 4 if len(cells) > 6 else _COLUMNS
    rows = math.ceil(len(cells) / columns)
    names = styles(list(cells["series"]), paper, _baselines(cells))
    is_alone = cells["block"].nunique() == 1
    with _drawing(paper):
        size = (WIDTH, rows * WIDTH / columns * 1.22 + 0.25)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.add_gridspec(rows * 2, columns, height_ratios=[4, 1] * rows)
        tallest = max(_tallest(before), _tallest(after))
        for place, (_, cell) in enumerate(cells.iterrows()):
            row, column = divmod(place, columns)
            axis = figure.add_subplot(grid[2 * row, column])
            below = figure.add_subplot(grid[2 * row + 1, column], sharex=axis)
            colour = names[cell["series"]].colour
            axis.plot([0, 100], [0, 100], color=paper.soft, lw=1, ls=_DASHED, zorder=1)
            for bins, is_scaled in ((before, False), (after, True)):
                own = bins[bins["cell_key"] == cell["cell_key"]]
                _diagram(axis, below, own, colour, is_scaled, paper)
            axis.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 100])
            axis.grid()
            axis.set_title(
                _wrapped(cell["series"] if is_alone else cell["label"], 26), loc="left", pad=18
            )
            axis.text(
                0,
                1.03,
                notes.get(cell["cell_key"], ""),
                transform=axis.transAxes,
                va="bottom",
                size=8,
                color=paper.soft,
            )
            below.set_ylim(0, tallest * 108)
            below.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(2))
            axis.tick_params(labelbottom=False)
            if column == 0:
                axis.set_ylabel("Accuracy in the bin, %")
                below.set_ylabel("Images, %")
            else:
                axis.tick_params(labelleft=False)
                below.tick_params(labelleft=False)
            if place + columns >= len(cells):
                below.set_xlabel("Confidence, %")
            else:
                below.tick_params(labelbottom=False)
        kinds = [("as trained", "o", paper.paper, 0.55), ("scaled", "o", paper.neutral, 1.0)]
        figure.legend(
            handles=[
                Line2D(
                    [],
                    [],
                    color=paper.neutral,
                    marker=marker,
                    mfc=fill,
                    mec=paper.neutral,
                    ms=4.5,
                    lw=1.4,
                    alpha=alpha,
                    ls=_DASHED if alpha < 1 else "-",
                    label=label,
                )
                for label, marker, fill, alpha in kinds
            ],
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )
        return _png(figure)


def scatter_figure(cells: pd.DataFrame, points: pd.DataFrame, paper: Paper = LIGHT) -> bytes:
    """Test over train accuracy, a panel per block. points: cell_key, seed, train, test."""
    blocks = list(dict.fromkeys(cells["block"]))
    columns = min(len(blocks), _COLUMNS)
    rows = math.ceil(len(blocks) / columns)
    names = styles(list(cells["series"]), paper, _baselines(cells))
    with _drawing(paper):
        size = (WIDTH, 4.0 * rows + 0.25 * math.ceil(len(names) / 4))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for place, axis in enumerate(grid.flat):
            if place >= len(blocks):
                axis.set_axis_off()
                continue
            members = cells[cells["block"] == blocks[place]]
            for _, cell in members.iterrows():
                own = points[points["cell_key"] == cell["cell_key"]]
                style = names[cell["series"]]
                train, test = own["train"] * 100, own["test"] * 100
                axis.plot(train, test, "o", ms=3.6, mew=0, color=style.colour, alpha=0.6)
                axis.plot(
                    [train.mean()],
                    [test.mean()],
                    style.marker,
                    ms=8,
                    color=style.colour,
                    mec=paper.paper,
                    mew=0.8,
                    zorder=4,
                )
            limits = axis.get_xlim(), axis.get_ylim()
            axis.axline((0, 0), slope=1, color=paper.soft, lw=1, ls=_DASHED, zorder=1)
            axis.set_xlim(limits[0])
            axis.set_ylim(limits[1])
            axis.set_title(members["title"].iloc[0] if len(blocks) > 1 else "", loc="left")
            axis.grid()
            axis.set_xlabel("Accuracy on clean training images, %")
            if place % columns == 0:
                axis.set_ylabel("Test accuracy, %")
        _legend(figure, names, paper, is_line=False)
        return _png(figure)


def _curves(
    axis: Axes, cells: pd.DataFrame, lines: pd.DataFrame, names: Mapping[str, Style], paper: Paper
) -> None:
    for _, cell in cells.iterrows():
        line = lines[lines["cell_key"] == cell["cell_key"]].sort_values("x")
        if line.empty:
            continue
        style = names[cell["series"]]
        x, mean = line["x"].astype(float), line["mean"].astype(float) * 100
        if line["n"].min() >= BAND_SEEDS:
            low, high = (line[side].astype(float) * 100 for side in ("low", "high"))
            axis.fill_between(x, low, high, color=style.colour, alpha=0.14, lw=0)
        axis.plot(
            x,
            mean,
            color=style.colour,
            marker=style.marker,
            ms=4.5,
            lw=1.6,
            mec=paper.paper,
            mew=0.4,
        )


def _diagram(
    axis: Axes, below: Axes, own: pd.DataFrame, colour: str, is_scaled: bool, paper: Paper
) -> None:
    filled = own[own["count"] >= THIN_BIN]
    alpha = 1.0 if is_scaled else 0.55
    axis.plot(
        filled["confidence"] * 100,
        filled["accuracy"] * 100,
        "o",
        ms=4.5,
        lw=1.4,
        ls="-" if is_scaled else _DASHED,
        color=colour,
        alpha=alpha,
        mec=colour,
        mfc=colour if is_scaled else paper.paper,
    )
    share = own["count"] / max(int(own["count"].sum()), 1) * 100
    if own.empty:
        return
    edges = np.append(own["low"].to_numpy(), own["high"].iloc[-1]) * 100
    below.stairs(
        share.to_numpy(),
        edges,
        color=colour,
        fill=is_scaled,
        lw=1.1,
        alpha=0.6 if is_scaled else 0.9,
        ls="-" if is_scaled else _DASHED,
    )


def _tallest(bins: pd.DataFrame) -> float:
    if bins.empty:
        return 0.0
    return float((bins["count"] / bins.groupby("cell_key")["count"].transform("sum")).max())


def _legend(figure: Figure, names: Mapping[str, Style], paper: Paper, is_line: bool = True) -> None:
    if len(names) < 2:
        return
    figure.legend(
        handles=[
            Line2D(
                [],
                [],
                color=style.colour,
                marker=style.marker,
                ms=5,
                lw=1.6 * is_line,
                mec=paper.paper,
                mew=0.4,
                label=_wrapped(name, 40),
            )
            for name, style in names.items()
        ],
        loc="outside lower center",
        ncols=min(len(names), 5),
        frameon=False,
    )
