"""Draw accuracy over the hidden part of the image: a panel per shape and fill, labelled curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import (
    BAND_SEEDS,
    WIDTH,
    cell_styles,
    chance_line,
    curve,
    png,
    settings,
    wrap,
)
from mixbench.analysis.figures.palette import LIGHT, Paper, Style

CurveEnd = tuple[float, float, str, Style]
"""x, y, name and style of a curve's last point."""


def occlusion_figure(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    paper: Paper = LIGHT,
    chance: float | None = None,
) -> bytes:
    """Draw accuracy over the hidden part of the image: a panel per shape, a row per block and fill.

    curves: cell_key, shape ("centre", or "centre/noise" with another fill than the mean colour),
    fraction, mean, low, high, n. chance: accuracy of guessing, or None.
    """
    parts = list(dict.fromkeys(curves["shape"]))
    shapes = list(dict.fromkeys(part.partition("/")[0] for part in parts))
    fills = list(dict.fromkeys(part.partition("/")[2] for part in parts))
    shown = cells[cells["cell_key"].isin(curves["cell_key"])]
    blocks = list(dict.fromkeys(shown["block"]))
    names = cell_styles(cells, paper)
    height = _height(shown)
    width = WIDTH if len(shapes) > 1 else WIDTH * 0.6
    with settings(paper):
        figure = Figure(figsize=(width, height * len(blocks) * len(fills)), layout="constrained")
        rows = [(block, fill) for block in blocks for fill in fills]
        grid = figure.subplots(len(rows), len(shapes), squeeze=False, sharey=True, sharex=True)
        top = float(np.nanmax(curves[["mean", "high"]].to_numpy(dtype=float))) * 100
        top = top if curves["n"].max() >= BAND_SEEDS else float(curves["mean"].max()) * 100
        for row, (block, fill) in enumerate(rows):
            members = shown[shown["block"] == block]
            for axis, shape in zip(grid[row], shapes, strict=True):
                part = f"{shape}/{fill}" if fill else shape
                ends = _curves(axis, members, curves[curves["shape"] == part], names, paper)
                if chance is not None:
                    _labelled_chance(axis, chance, paper)
                axis.set_ylim(0, min(100, top * 1.05))
                axis.set_xlim(-1.5, curves["fraction"].max() * 100 + 1.5)
                title = members["title"].iloc[0] if len(blocks) > 1 else ""
                names_of = (title, shape, fill or ("mean colour" if len(fills) > 1 else ""))
                axis.set_title(" · ".join(name for name in names_of if name), loc="left")
                axis.grid(axis="y")
                _label_ends(axis, ends, (height - 1.0) * 72)
            grid[row][0].set_ylabel("Test accuracy, %")
        for axis in grid[-1]:
            axis.set_xlabel("Part of the image hidden, %")
        return png(figure)


def _height(shown: pd.DataFrame) -> float:
    """Return the inches of a panel in which the labels of its largest block fit."""
    lines = max(
        sum(1 + wrap(name).count("\n") for name in members["series"])
        for _, members in shown.groupby("block")
    )
    return max(3.5, 0.19 * lines + 1.1)


def _curves(
    axis: Axes, cells: pd.DataFrame, curves: pd.DataFrame, names: Mapping[str, Style], paper: Paper
) -> list[CurveEnd]:
    """Draw a curve per cell; return where each ends."""
    ends = []
    for _, cell in cells.iterrows():
        points = curves[curves["cell_key"] == cell["cell_key"]].sort_values("fraction")
        if points.empty:
            continue
        style = names[cell["series"]]
        x = points["fraction"] * 100
        curve(axis, points, x, style, paper)
        ends.append((x.iloc[-1], points["mean"].iloc[-1] * 100, cell["series"], style))
    return ends


def _labelled_chance(axis: Axes, chance: float, paper: Paper) -> None:
    chance_line(axis, chance, paper)
    axis.annotate(
        "chance",
        (0, chance * 100),
        xytext=(2, 2),
        size=7.5,
        textcoords="offset points",
        color=paper.soft,
    )


def _label_ends(axis: Axes, ends: Sequence[CurveEnd], points: float) -> None:
    """Write names at the right ends of the curves, moved apart, tied to them by thin lines.

    points: the height of the axis in points.
    """
    if len(ends) < 2:
        return
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    sizes = [(1 + wrap(end[2]).count("\n")) * 11.5 / points for end in ordered]
    wanted = [(end[1] - low) / (high - low) for end in ordered]
    for (x, y, name, style), centre in zip(ordered, spread_labels(wanted, sizes), strict=True):
        start = (x - left) / (right - left), (y - low) / (high - low)
        axis.plot(
            [start[0] + 0.012, 1.035, 1.05],
            [start[1], centre, centre],
            transform=axis.transAxes,
            color=style.colour,
            lw=0.9,
            clip_on=False,
        )
        axis.text(1.06, centre, wrap(name), transform=axis.transAxes, va="center", size=8.5)


def spread_labels(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Return centres near the wanted ones (rising) at which labels of these sizes don't overlap.

    All are fractions of the axis height; if they don't fit, they are spread evenly over all of it.
    """
    if sum(sizes) >= 1:
        edges = np.concatenate([[0.0], np.cumsum(sizes)]) / sum(sizes)
        return [float(edge) for edge in (edges[:-1] + edges[1:]) / 2]
    centres: list[float] = []
    floor = 0.0
    for want, size in zip(wanted, sizes, strict=True):
        centres.append(max(want, floor + size / 2))
        floor = centres[-1] + size / 2
    roof = 1.0
    for index in range(len(centres) - 1, -1, -1):
        centres[index] = min(centres[index], roof - sizes[index] / 2)
        roof = centres[index] - sizes[index] / 2
    return centres
