"""Draw reliability diagrams: accuracy over confidence, and the share of images in each bin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mixbench.analysis.figures.canvas import (
    DASHED,
    WIDTH,
    cell_styles,
    png,
    rows_of,
    settings,
    wrap,
)
from mixbench.analysis.figures.palette import LIGHT, Paper, Style

THIN_BIN = 20
"""Bins with fewer images are hollow or left out: their accuracy is mostly chance."""

Panel = tuple[str, str, str]
"""cell_key, title, and the note above the diagram."""


def reliability_figure(
    cells: pd.DataFrame,
    bins: pd.DataFrame,
    notes: Mapping[str, str],
    paper: Paper = LIGHT,
) -> bytes:
    """Draw a reliability diagram per cell, with the share of images in each bin below it.

    bins: cell_key, low, high, count, confidence, accuracy. notes: cell_key -> text above it.
    """
    shown = cells[cells["cell_key"].isin(bins["cell_key"])]
    names = cell_styles(cells, paper)
    columns = 3 if len(shown) in (5, 6, 9) else min(len(shown), 4)
    use_series = cells["block"].nunique() == 1 and len(shown) > 1
    width = min(WIDTH, 3.2 * columns)
    looks = dict(zip(shown["cell_key"], shown["series"].map(names), strict=True))
    tallest = _tallest(bins)

    def draw(axis: Axes, below: Axes, key: str) -> None:
        _trained(axis, below, bins[bins["cell_key"] == key], looks[key], paper)
        below.set_ylim(0, tallest * 1.08)

    with settings(paper):
        height = rows_of(len(shown), columns) * (width / columns * 1.22)
        figure = Figure(figsize=(width, height), layout="constrained")
        _diagrams(figure, _panels(shown, notes, use_series), columns, draw, paper)
        return png(figure)


def scaling_figure(
    cells: pd.DataFrame,
    before: pd.DataFrame,
    after: pd.DataFrame,
    notes: Mapping[str, str],
    paper: Paper = LIGHT,
) -> bytes:
    """Draw a reliability diagram per cell, as trained and with logits divided by a temperature.

    before, after: cell_key, low, high, count, confidence, accuracy. notes: cell_key -> text.
    """
    columns = 4 if len(cells) > 6 else 3
    names = cell_styles(cells, paper)
    looks = dict(zip(cells["cell_key"], cells["series"].map(names), strict=True))
    tallest = max(_tallest(before), _tallest(after))

    def draw(axis: Axes, below: Axes, key: str) -> None:
        for bins, is_scaled in ((before, False), (after, True)):
            shown = bins[bins["cell_key"] == key]
            _scaled(axis, below, shown, looks[key].colour, is_scaled, paper)
        below.set_ylim(0, tallest * 108)

    with settings(paper):
        size = (WIDTH, rows_of(len(cells), columns) * WIDTH / columns * 1.22 + 0.25)
        figure = Figure(figsize=size, layout="constrained")
        panels = _panels(cells, notes, cells["block"].nunique() == 1)
        _diagrams(figure, panels, columns, draw, paper)
        _scaling_legend(figure, paper)
        return png(figure)


def calibration_note(ece: float | None, gap: float | None) -> str:
    """Return the note above a reliability diagram, such as "ECE 4.8%, conf − acc −1.2"."""
    lines = []
    if ece is not None and math.isfinite(ece):
        lines.append(f"ECE {ece * 100:.1f}%")
    if gap is not None and math.isfinite(gap):
        lines.append(f"conf − acc {gap * 100:+.1f}".replace("-", "−"))
    return ", ".join(lines)


def _panels(cells: pd.DataFrame, notes: Mapping[str, str], use_series: bool) -> list[Panel]:
    titles = cells["series" if use_series else "label"]
    return [
        (key, title, notes.get(key, ""))
        for key, title in zip(cells["cell_key"], titles, strict=True)
    ]


def _diagrams(
    figure: Figure,
    panels: Sequence[Panel],
    columns: int,
    draw: Callable[[Axes, Axes, str], None],
    paper: Paper,
) -> None:
    """Lay out the diagrams, each with an axis for the counts below it.

    draw: takes both axes and the cell's key.
    """
    rows = rows_of(len(panels), columns)
    grid = figure.add_gridspec(rows * 2, columns, height_ratios=[4, 1] * rows)
    for number, (key, title, note) in enumerate(panels):
        row, column = divmod(number, columns)
        axis = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=axis)
        axis.plot([0, 100], [0, 100], color=paper.soft, lw=1, ls=DASHED, zorder=1)
        draw(axis, below, key)
        axis.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 100])
        axis.grid()
        axis.set_title(wrap(title, 26), loc="left", pad=18)
        over: dict[str, Any] = {
            "transform": axis.transAxes,
            "va": "bottom",
            "size": 8,
            "color": paper.soft,
        }
        axis.text(0, 1.03, note, **over)
        below.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(2))
        axis.tick_params(labelbottom=False)
        if column == 0:
            axis.set_ylabel("Accuracy in the bin, %")
            below.set_ylabel("Images, %")
        else:
            axis.tick_params(labelleft=False)
            below.tick_params(labelleft=False)
        if number + columns >= len(panels):
            below.set_xlabel("Confidence, %")
        else:
            below.tick_params(labelbottom=False)


def _trained(axis: Axes, below: Axes, bins: pd.DataFrame, style: Style, paper: Paper) -> None:
    """Draw bars of accuracy, and lines from confidence to accuracy; thin bins are hollow dots."""
    filled = bins[bins["count"] > 0]
    x, y = filled["confidence"] * 100, filled["accuracy"] * 100
    wide: dict[str, Any] = {
        "width": (bins["high"] - bins["low"]) * 100,
        "align": "edge",
        "color": style.colour,
    }
    tall = bins["accuracy"].where(bins["count"] >= THIN_BIN).fillna(0) * 100
    axis.bar(bins["low"] * 100, tall, alpha=0.22, lw=0, **wide)
    is_thin = filled["count"] < THIN_BIN
    lows, highs = np.minimum(x, y)[~is_thin], np.maximum(x, y)[~is_thin]
    axis.vlines(x[~is_thin], lows, highs, color=style.colour, lw=1.2)
    axis.plot(x[~is_thin], y[~is_thin], "o", ms=4, color=style.colour, mec=paper.paper, mew=0.5)
    if is_thin.any():
        hollow: dict[str, Any] = {
            "mfc": paper.paper,
            "mec": style.colour,
            "mew": 0.8,
            "clip_on": False,
        }
        thin = axis.plot(x[is_thin], y[is_thin], "o", ms=3.5, **hollow)
        thin[0].set_in_layout(False)
    share = bins["count"] / max(int(bins["count"].sum()), 1)
    below.bar(bins["low"] * 100, share, alpha=0.7, ec=paper.paper, lw=0.5, **wide)
    below.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0, symbol=""))


def _scaled(
    axis: Axes, below: Axes, bins: pd.DataFrame, colour: str, is_scaled: bool, paper: Paper
) -> None:
    """Draw one line of accuracy: strong with the temperature, faint and hollow without."""
    filled = bins[bins["count"] >= THIN_BIN]
    dashes = "-" if is_scaled else DASHED
    axis.plot(
        filled["confidence"] * 100,
        filled["accuracy"] * 100,
        "o",
        ms=4.5,
        lw=1.4,
        ls=dashes,
        color=colour,
        alpha=1.0 if is_scaled else 0.55,
        mec=colour,
        mfc=colour if is_scaled else paper.paper,
    )
    if bins.empty:
        return
    share = bins["count"] / max(int(bins["count"].sum()), 1) * 100
    edges = np.append(bins["low"].to_numpy(), bins["high"].iloc[-1]) * 100
    alpha = 0.6 if is_scaled else 0.9
    line: dict[str, Any] = {"color": colour, "lw": 1.1, "alpha": alpha, "ls": dashes}
    below.stairs(share.to_numpy(), edges, fill=is_scaled, **line)


def _tallest(bins: pd.DataFrame) -> float:
    """Return the largest share of a cell's images in one bin."""
    if bins.empty:
        return 0.0
    return float((bins["count"] / bins.groupby("cell_key")["count"].transform("sum")).max())


def _scaling_legend(figure: Figure, paper: Paper) -> None:
    common: dict[str, Any] = {
        "color": paper.neutral,
        "marker": "o",
        "mec": paper.neutral,
        "ms": 4.5,
        "lw": 1.4,
    }
    faint: dict[str, Any] = {"mfc": paper.paper, "alpha": 0.55, "ls": DASHED, "label": "as trained"}
    strong: dict[str, Any] = {"mfc": paper.neutral, "alpha": 1.0, "ls": "-", "label": "scaled"}
    handles = [Line2D([], [], **common, **more) for more in (faint, strong)]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
