"""Draw means and intervals by method: a dot plot with one panel per metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mixbench.analysis.figures.canvas import DASHED, WIDTH, cell_styles, png, settings, wrap
from mixbench.analysis.figures.palette import LIGHT, Paper, Style

if TYPE_CHECKING:
    from mixbench.analysis.statistics.metrics import Metric

Limits = tuple[float, float]
Rows = Sequence[tuple[float, Any]]
"""(height, cell) from the top; cell is None for the title of a block."""


def methods_figure(
    cells: pd.DataFrame,
    means: pd.DataFrame,
    seeds: pd.DataFrame,
    metrics: Sequence[Metric],
    paper: Paper = LIGHT,
) -> bytes:
    """Draw dots and intervals by method, one panel per metric.

    cells: cell_key, series, block, title, baseline_key. means: cell_key, metric, mean, low, high.
    seeds: cell_key, metric, value. Single seeds are the small dots; the dashed line is the
    baseline's mean.
    """
    rows = _rows(cells)
    height = 1.1 + 0.42 * rows[-1][0] + 0.42
    names = cell_styles(cells, paper)
    with settings(paper):
        layout = ConstrainedLayoutEngine(wspace=0.05)
        figure = Figure(figsize=(WIDTH, height), layout=layout)
        axes = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
        for axis, metric in zip(axes, metrics, strict=True):
            intervals = means[means["metric"] == metric.key].set_index("cell_key")
            dots = seeds[seeds["metric"] == metric.key]
            _panel(axis, rows, intervals, dots, metric, names, paper)
        axes[0].set_ylim(rows[-1][0] + 0.6, -0.6)
        axes[0].set_yticks(
            [y for y, cell in rows if cell is not None],
            [wrap(cell["series"]) for _, cell in rows if cell is not None],
        )
        for y, title in _block_titles(rows, cells):
            axes[0].text(
                0,
                y,
                wrap(title, 44),
                transform=axes[0].get_yaxis_transform(),
                va="center",
                ha="left",
                weight="bold",
                size=9,
            )
        return png(figure)


def _panel(
    axis: Axes,
    rows: Rows,
    intervals: pd.DataFrame,
    dots: pd.DataFrame,
    metric: Metric,
    names: Mapping[str, Style],
    paper: Paper,
) -> None:
    factor = 100 if metric.percent else 1
    limits = _limits(dots["value"] * factor, intervals, factor)
    axis.set_xlim(*limits)
    for y, cell in rows:
        if cell is None:
            continue
        style = names[cell["series"]]
        values = dots.loc[dots["cell_key"] == cell["cell_key"], "value"] * factor
        if values.empty:
            _no_run(axis, y, paper)
            continue
        heights = np.full(len(values), y + 0.19)
        axis.plot(values, heights, "o", ms=3.6, mew=0, color=style.colour, alpha=0.6)
        _interval(axis, y - 0.1, intervals.loc[cell["cell_key"]], style, factor, limits)
    _reference_lines(axis, rows, intervals, factor, paper)
    unit = ", %" if metric.percent else ""
    axis.set_title(wrap(f"{metric.title}{unit}", 20), loc="left")
    if metric.better:
        axis.set_xlabel("better →" if metric.better > 0 else "← better", color=paper.soft)
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)


def _no_run(axis: Axes, y: float, paper: Paper) -> None:
    axis.text(
        0.5,
        y,
        "no finished run",
        transform=axis.get_yaxis_transform(),
        ha="center",
        va="center",
        color=paper.soft,
        size=8,
        bbox={"fc": paper.paper, "ec": "none", "pad": 2},
    )


def _rows(cells: pd.DataFrame) -> list[tuple[float, Any]]:
    """Place the cells below each other, block by block; a titled block has a row for its title."""
    rows: list[tuple[float, Any]] = []
    y = 0.0
    is_titled = cells["block"].nunique() > 1
    for _, members in cells.groupby("block", sort=False):
        if is_titled and members["title"].iloc[0]:
            rows.append((y, None))
            y += 0.9
        for _, cell in members.iterrows():
            rows.append((y, cell))
            y += 1
        y += 0.35 if is_titled else 0
    return rows


def _block_titles(rows: Rows, cells: pd.DataFrame) -> list[tuple[float, str]]:
    heights = [y for y, cell in rows if cell is None]
    titles = [
        members["title"].iloc[0]
        for _, members in cells.groupby("block", sort=False)
        if members["title"].iloc[0]
    ]
    return list(zip(heights, titles, strict=True)) if heights else []


def _limits(values: pd.Series, means: pd.DataFrame, factor: float) -> Limits:
    """Return the range of the values with a margin.

    A wide interval may widen the range, but not so far that the values merge into a point.
    """
    if values.empty:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-3 * max(abs(high), abs(low)), 1e-9)
    ends = means[["low", "high"]].to_numpy(dtype=float) * factor
    if np.isfinite(ends).any():
        low = max(min(low, float(np.nanmin(ends))), low - 0.75 * span)
        high = min(max(high, float(np.nanmax(ends))), high + 0.75 * span)
    margin = 0.06 * (high - low) or 0.5 * span
    return low - margin, high + margin


def _interval(
    axis: Axes, y: float, row: pd.Series, style: Style, factor: float, limits: Limits
) -> None:
    mean, low, high = (_scaled(row[column], factor) for column in ("mean", "low", "high"))
    if math.isfinite(low):
        ends = [max(low, limits[0]), min(high, limits[1])]
        axis.plot(ends, [y, y], color=style.colour, lw=2.2, solid_capstyle="round")
        # An arrowhead where the interval goes on beyond the panel.
        if low < limits[0]:
            axis.plot([limits[0]], [y], marker=4, ms=6, color=style.colour, clip_on=False)
        if high > limits[1]:
            axis.plot([limits[1]], [y], marker=5, ms=6, color=style.colour, clip_on=False)
    axis.plot(
        [mean],
        [y],
        style.marker,
        ms=6.5,
        color=style.colour,
        mec=axis.get_facecolor(),
        mew=0.4 if style.marker in "PX" else 0.8,
        zorder=4,
    )


def _scaled(value: Any, factor: float) -> float:
    return math.nan if value is None else float(value) * factor


def _reference_lines(
    axis: Axes, rows: Rows, intervals: pd.DataFrame, factor: float, paper: Paper
) -> None:
    """Draw a dashed line at each baseline's mean, over the rows that are compared with it."""
    heights: dict[str, list[float]] = {}
    for y, cell in rows:
        if cell is not None and isinstance(cell["baseline_key"], str):
            heights.setdefault(cell["baseline_key"], []).append(y)
    for baseline, ys in heights.items():
        if baseline not in intervals.index:
            continue
        x = _scaled(intervals.loc[baseline, "mean"], factor)
        if math.isfinite(x):
            ends = [min(ys) - 0.45, max(ys) + 0.45]
            axis.plot([x, x], ends, color=paper.neutral, lw=1, ls=DASHED, zorder=1)
