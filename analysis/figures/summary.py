"""The figures: tables in, PNG bytes out. No statistics are computed here.

Figures are `matplotlib.figure.Figure` objects drawn by Agg, without pyplot: no global state, no
display, safe in any thread.
"""

from __future__ import annotations

import io
import json
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles
from mixbench.analysis.tables.load import occlusion_rows, reliability_rows

if TYPE_CHECKING:
    from mixbench.analysis.statistics.comparison import Metric
    from mixbench.experiments.store.run_folder import RunFolder

WIDTH = 10.4
"""Inches: the width of the report's column, at which 9 points are read as 9 points."""
DPI = 150
BAND_SEEDS = 3
"""Two seeds give bands that cover the panel and hide every curve."""
THIN_BIN = 20
"""Reliability bins with fewer images are hollow: their accuracy is mostly chance."""
_LABEL = 24
"""Characters on one line of a label."""


def methods_figure(
    cells: pd.DataFrame,
    means: pd.DataFrame,
    seeds: pd.DataFrame,
    metrics: Sequence[Metric],
    paper: Paper = LIGHT,
) -> bytes:
    """Dots and intervals by method, one panel per metric.

    cells: cell_key, series, block, title, baseline_key. means: cell_key, metric, mean, low, high.
    seeds: cell_key, metric, value. Single seeds are the small dots; the dashed line is the
    baseline's mean.
    """
    rows = _rows(cells)
    height = 1.1 + 0.42 * rows[-1][0] + 0.42
    names = styles(list(cells["series"]), paper, _baselines(cells))
    with _drawing(paper):
        layout = ConstrainedLayoutEngine(wspace=0.05)
        figure = Figure(figsize=(WIDTH, height), layout=layout)
        axes = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True))
        for axis, metric in zip(axes, metrics, strict=True):
            factor = 100 if metric.percent else 1
            own = means[means["metric"] == metric.key].set_index("cell_key")
            dots = seeds[seeds["metric"] == metric.key]
            limits = _limits(dots["value"] * factor, own, factor)
            axis.set_xlim(*limits)
            for y, cell in rows:
                if cell is None:
                    continue
                style = names[cell["series"]]
                values = dots.loc[dots["cell_key"] == cell["cell_key"], "value"] * factor
                if values.empty:
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
                    continue
                axis.plot(
                    values,
                    np.full(len(values), y + 0.19),
                    "o",
                    ms=3.6,
                    mew=0,
                    color=style.colour,
                    alpha=0.6,
                )
                _interval(axis, y - 0.1, own.loc[cell["cell_key"]], style, factor, limits)
            _references(axis, rows, own, factor, paper)
            unit = ", %" if metric.percent else ""
            axis.set_title(_wrapped(f"{metric.title}{unit}", 20), loc="left")
            if metric.better:
                axis.set_xlabel("better →" if metric.better > 0 else "← better", color=paper.soft)
            axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(4, steps=[1, 2, 5, 10]))
            axis.grid(axis="x")
            axis.tick_params(axis="y", length=0)
        axes[0].set_ylim(rows[-1][0] + 0.6, -0.6)
        axes[0].set_yticks(
            [y for y, cell in rows if cell is not None],
            [_wrapped(cell["series"]) for _, cell in rows if cell is not None],
        )
        for y, title in _titles(rows, cells):
            axes[0].text(
                0,
                y,
                _wrapped(title, 44),
                transform=axes[0].get_yaxis_transform(),
                va="center",
                ha="left",
                weight="bold",
                size=9,
            )
        return _png(figure)


def occlusion_figure(
    cells: pd.DataFrame,
    curves: pd.DataFrame,
    paper: Paper = LIGHT,
    chance: float | None = None,
) -> bytes:
    """Accuracy over the hidden part of the image: a panel per shape, a row per block.

    curves: cell_key, shape, fraction, mean, low, high, n. chance: accuracy of guessing, or None.
    """
    shapes = list(dict.fromkeys(curves["shape"]))
    shown = cells[cells["cell_key"].isin(curves["cell_key"])]
    blocks = list(dict.fromkeys(shown["block"]))
    names = styles(list(cells["series"]), paper, _baselines(cells))
    lines = max(
        sum(1 + _wrapped(name).count("\n") for name in shown.loc[shown["block"] == b, "series"])
        for b in blocks
    )
    height = max(3.5, 0.19 * lines + 1.1)
    width = WIDTH if len(shapes) > 1 else WIDTH * 0.6
    with _drawing(paper):
        figure = Figure(figsize=(width, height * len(blocks)), layout="constrained")
        grid = figure.subplots(len(blocks), len(shapes), squeeze=False, sharey=True, sharex=True)
        top = float(np.nanmax(curves[["mean", "high"]].to_numpy(dtype=float))) * 100
        top = top if curves["n"].max() >= BAND_SEEDS else float(curves["mean"].max()) * 100
        for row, block in enumerate(blocks):
            members = shown[shown["block"] == block]
            for axis, shape in zip(grid[row], shapes, strict=True):
                ends = []
                for _, cell in members.iterrows():
                    is_own = (curves["cell_key"] == cell["cell_key"]) & (curves["shape"] == shape)
                    line = curves[is_own].sort_values("fraction")
                    if line.empty:
                        continue
                    style = names[cell["series"]]
                    x, y = line["fraction"] * 100, line["mean"] * 100
                    if line["n"].min() >= BAND_SEEDS:
                        low, high = (line[side].astype(float) * 100 for side in ("low", "high"))
                        axis.fill_between(x, low, high, color=style.colour, alpha=0.14, lw=0)
                    axis.plot(
                        x,
                        y,
                        color=style.colour,
                        marker=style.marker,
                        ms=4.5,
                        lw=1.6,
                        mec=paper.paper,
                        mew=0.4,
                    )
                    ends.append((x.iloc[-1], y.iloc[-1], cell["series"], style))
                if chance is not None:
                    axis.axhline(chance * 100, color=paper.soft, lw=0.9, ls=(0, (1, 2)))
                    axis.annotate(
                        "chance",
                        (0, chance * 100),
                        xytext=(2, 2),
                        size=7.5,
                        textcoords="offset points",
                        color=paper.soft,
                    )
                axis.set_ylim(0, min(100, top * 1.05))
                axis.set_xlim(-1.5, curves["fraction"].max() * 100 + 1.5)
                title = members["title"].iloc[0] if len(blocks) > 1 else ""
                axis.set_title(" · ".join(part for part in (title, shape) if part), loc="left")
                axis.grid(axis="y")
                _end_labels(axis, ends, (height - 1.0) * 72)
            grid[row][0].set_ylabel("Test accuracy, %")
        for axis in grid[-1]:
            axis.set_xlabel("Part of the image hidden, %")
        return _png(figure)


def reliability_figure(
    cells: pd.DataFrame,
    bins: pd.DataFrame,
    notes: Mapping[str, str],
    paper: Paper = LIGHT,
) -> bytes:
    """A reliability diagram per cell, with the share of images in each bin below it.

    bins: cell_key, low, high, count, confidence, accuracy. notes: cell_key -> text above it.
    """
    shown = cells[cells["cell_key"].isin(bins["cell_key"])]
    names = styles(list(cells["series"]), paper, _baselines(cells))
    columns = next(c for c in (1, 2, 3, 4) if len(shown) <= c or c == 4)
    columns = 3 if len(shown) in (5, 6, 9) else columns
    rows = math.ceil(len(shown) / columns)
    width = min(WIDTH, 3.2 * columns)
    with _drawing(paper):
        figure = Figure(figsize=(width, rows * (width / columns * 1.22)), layout="constrained")
        grid = figure.add_gridspec(rows * 2, columns, height_ratios=[4, 1] * rows)
        total = bins.groupby("cell_key")["count"].transform("sum")
        tallest = float((bins["count"] / total).max())
        for place, (_, cell) in enumerate(shown.iterrows()):
            row, column = divmod(place, columns)
            own = bins[bins["cell_key"] == cell["cell_key"]]
            style = names[cell["series"]]
            axis = figure.add_subplot(grid[2 * row, column])
            below = figure.add_subplot(grid[2 * row + 1, column], sharex=axis)
            _reliability(axis, below, own, style, paper)
            is_alone = cells["block"].nunique() == 1
            name = cell["series"] if is_alone and len(shown) > 1 else cell["label"]
            axis.set_title(_wrapped(name, 26), loc="left", pad=18)
            axis.text(
                0,
                1.03,
                notes.get(cell["cell_key"], ""),
                transform=axis.transAxes,
                va="bottom",
                size=8,
                color=paper.soft,
            )
            below.set_ylim(0, tallest * 1.08)
            if column == 0:
                axis.set_ylabel("Accuracy in the bin, %")
                below.set_ylabel("Images, %")
            else:
                axis.tick_params(labelleft=False)
                below.tick_params(labelleft=False)
            if place + columns >= len(shown):
                below.set_xlabel("Confidence, %")
            else:
                below.tick_params(labelbottom=False)
            axis.tick_params(labelbottom=False)
        return _png(figure)


def mixed_figure(strips: Sequence[tuple[str, str, Path]], paper: Paper = LIGHT) -> bytes:
    """The strips that the runs drew of their mixed images, one under the other.

    strips: (heading, method, file); a heading is drawn where it changes and is not empty.
    """
    images = [(heading, name, _opened(path)) for heading, name, path in strips]
    label = max(
        0.9,
        0.1 * max(len(line) for _, name, _ in strips for line in _wrapped(name).split("\n")) + 0.1,
    )
    wide = 7.6
    gap, head = 0.07, 0.32
    heights = [wide * image.shape[0] / image.shape[1] for _, _, image in images]
    before = [""] + [heading for heading, _, _ in images[:-1]]
    heads = [
        head if heading and heading != last else 0.0
        for (heading, _, _), last in zip(images, before, strict=True)
    ]
    height = sum(heights) + sum(heads) + gap * (len(images) + 1)
    with _drawing(paper):
        figure = Figure(figsize=(label + wide + 0.05, height))
        full = label + wide + 0.05
        top = height - gap
        for (heading, name, image), tall, extra in zip(images, heights, heads, strict=True):
            if extra:
                figure.text(
                    0.0, (top - 0.16) / height, heading, weight="bold", size=10.5, va="center"
                )
            top -= extra
            axis = figure.add_axes(
                (label / full, (top - tall) / height, wide / full, tall / height)
            )
            axis.imshow(image, aspect="auto", cmap="gray", vmin=0, vmax=255)
            axis.set_axis_off()
            figure.text(
                (label - 0.1) / full,
                (top - tall / 2) / height,
                _wrapped(name),
                ha="right",
                va="center",
                size=10.5,
            )
            top -= tall + gap
        return _png(figure)


def run_figures(run: RunFolder) -> dict[str, bytes]:
    """The figures of one finished run, file name -> PNG bytes; empty while it is not done."""
    result = run.result()
    if result is None:
        return {}
    augmentation = _config(run.path / "config.json").get("augmentation", {})
    name = str(augmentation.get("name", "this run"))
    label = f"{name}, seed {result.get('seed')}"
    cells = pd.DataFrame(
        {
            "cell_key": [name],
            "series": [name],
            "label": [label],
            "block": [0],
            "title": [""],
            "baseline_key": [None],
        }
    )
    drawn = {}
    bins = pd.DataFrame([{"cell_key": name, **row} for row in reliability_rows(result)])
    if len(bins):
        metrics = result.get("metrics", {})
        notes = {name: calibration_note(metrics.get("test/ece"), metrics.get("test/gap"))}
        drawn["reliability.png"] = reliability_figure(cells, bins, notes)
    points = pd.DataFrame([{"cell_key": name, **row} for row in occlusion_rows(result)])
    if len(points):
        points = points.assign(mean=points["accuracy"], low=math.nan, high=math.nan, n=1)
        drawn["occlusion.png"] = occlusion_figure(cells, points)
    return drawn


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return config if isinstance(config, dict) else {}


def is_image(path: Path) -> bool:
    """Is it an image file that can be read to its end?"""
    try:
        with Image.open(path) as image:
            image.load()
            return image.width > 0 and image.height > 0
    except (OSError, ValueError, SyntaxError):
        return False


def calibration_note(ece: float | None, gap: float | None) -> str:
    """What stands above a reliability diagram."""
    lines = []
    if ece is not None and math.isfinite(ece):
        lines.append(f"ECE {ece * 100:.1f}%")
    if gap is not None and math.isfinite(gap):
        lines.append(f"conf − acc {gap * 100:+.1f}".replace("-", "−"))
    return ", ".join(lines)


def _rows(cells: pd.DataFrame) -> list[tuple[float, Any]]:
    """(height, cell) from the top; a block with a title has a row of its own for it, cell None."""
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


def _titles(rows: Sequence[tuple[float, Any]], cells: pd.DataFrame) -> list[tuple[float, str]]:
    heads = [y for y, cell in rows if cell is None]
    titles = [
        members["title"].iloc[0]
        for _, members in cells.groupby("block", sort=False)
        if members["title"].iloc[0]
    ]
    return list(zip(heads, titles, strict=True)) if heads else []


def _baselines(cells: pd.DataFrame) -> Collection[str]:
    is_baseline = cells["cell_key"].isin(cells["baseline_key"].dropna())
    return set(cells.loc[is_baseline, "series"]) - set(cells.loc[~is_baseline, "series"])


def _limits(values: pd.Series, means: pd.DataFrame, factor: float) -> tuple[float, float]:
    """The values with some air; a wide interval may stretch them, but not make them a point."""
    if values.empty:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-3 * max(abs(high), abs(low)), 1e-9)
    ends = means[["low", "high"]].to_numpy(dtype=float) * factor
    if np.isfinite(ends).any():
        low = max(min(low, float(np.nanmin(ends))), low - 0.75 * span)
        high = min(max(high, float(np.nanmax(ends))), high + 0.75 * span)
    air = 0.06 * (high - low) or 0.5 * span
    return low - air, high + air


def _interval(
    axis: Axes, y: float, own: pd.Series, style: Style, factor: float, limits: tuple[float, float]
) -> None:
    mean, low, high = (_scaled(own[column], factor) for column in ("mean", "low", "high"))
    if math.isfinite(low):
        axis.plot(
            [max(low, limits[0]), min(high, limits[1])],
            [y, y],
            color=style.colour,
            lw=2.2,
            solid_capstyle="round",
        )
        # An interval that leaves the panel says so.
        for end, is_cut, marker in (
            (limits[0], low < limits[0], 4),
            (limits[1], high > limits[1], 5),
        ):
            if is_cut:
                axis.plot([end], [y], marker=marker, ms=6, color=style.colour, clip_on=False)
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


def _references(
    axis: Axes,
    rows: Sequence[tuple[float, Any]],
    own: pd.DataFrame,
    factor: float,
    paper: Paper,
) -> None:
    """A dashed line at each baseline's mean, over the rows that are compared with it."""
    reach: dict[str, list[float]] = {}
    for y, cell in rows:
        if cell is not None and isinstance(cell["baseline_key"], str):
            reach.setdefault(cell["baseline_key"], []).append(y)
    for base, ys in reach.items():
        if base in own.index and math.isfinite(_scaled(own.loc[base, "mean"], factor)):
            x = _scaled(own.loc[base, "mean"], factor)
            axis.plot(
                [x, x],
                [min(ys) - 0.45, max(ys) + 0.45],
                color=paper.neutral,
                lw=1,
                ls=(0, (4, 3)),
                zorder=1,
            )


def _end_labels(axis: Axes, ends: Sequence[tuple[float, float, str, Style]], points: float) -> None:
    """Names at the right end of the curves, moved apart, each tied to its curve by a thin line."""
    if len(ends) < 2:
        return
    (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    sizes = [(1 + _wrapped(end[2]).count("\n")) * 11.5 / points for end in ordered]
    wanted = [(end[1] - low) / (high - low) for end in ordered]
    for (x, y, name, style), place in zip(ordered, _apart(wanted, sizes), strict=True):
        start = (x - left) / (right - left), (y - low) / (high - low)
        axis.plot(
            [start[0] + 0.012, 1.035, 1.05],
            [start[1], place, place],
            transform=axis.transAxes,
            color=style.colour,
            lw=0.9,
            clip_on=False,
        )
        axis.text(1.06, place, _wrapped(name), transform=axis.transAxes, va="center", size=8.5)


def _apart(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """Centres near the wanted ones (rising), so that neighbours of these sizes don't overlap.

    Fractions of the height of an axis; what does not fit is spread evenly over all of it.
    """
    if sum(sizes) >= 1:
        edges = np.concatenate([[0.0], np.cumsum(sizes)]) / sum(sizes)
        return [float(edge) for edge in (edges[:-1] + edges[1:]) / 2]
    places: list[float] = []
    floor = 0.0
    for want, size in zip(wanted, sizes, strict=True):
        places.append(max(want, floor + size / 2))
        floor = places[-1] + size / 2
    roof = 1.0
    for index in range(len(places) - 1, -1, -1):
        places[index] = min(places[index], roof - sizes[index] / 2)
        roof = places[index] - sizes[index] / 2
    return places


def _reliability(axis: Axes, below: Axes, own: pd.DataFrame, style: Style, paper: Paper) -> None:
    filled = own[own["count"] > 0]
    x, y = filled["confidence"] * 100, filled["accuracy"] * 100
    axis.plot([0, 100], [0, 100], color=paper.soft, lw=1, ls=(0, (4, 3)), zorder=1)
    tall = own["accuracy"].where(own["count"] >= THIN_BIN).fillna(0) * 100
    axis.bar(
        own["low"] * 100,
        tall,
        width=(own["high"] - own["low"]) * 100,
        align="edge",
        color=style.colour,
        alpha=0.22,
        lw=0,
    )
    is_thin = filled["count"] < THIN_BIN
    axis.vlines(
        x[~is_thin],
        np.minimum(x, y)[~is_thin],
        np.maximum(x, y)[~is_thin],
        color=style.colour,
        lw=1.2,
    )
    axis.plot(x[~is_thin], y[~is_thin], "o", ms=4, color=style.colour, mec=paper.paper, mew=0.5)
    if is_thin.any():
        thin = axis.plot(
            x[is_thin],
            y[is_thin],
            "o",
            ms=3.5,
            mfc=paper.paper,
            mec=style.colour,
            mew=0.8,
            clip_on=False,
        )
        thin[0].set_in_layout(False)
    axis.set(xlim=(0, 100), ylim=(0, 100), xticks=[0, 50, 100], yticks=[0, 50, 100])
    axis.grid()
    share = own["count"] / max(int(own["count"].sum()), 1)
    below.bar(
        own["low"] * 100,
        share,
        width=(own["high"] - own["low"]) * 100,
        align="edge",
        color=style.colour,
        alpha=0.7,
        ec=paper.paper,
        lw=0.5,
    )
    below.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1, decimals=0, symbol=""))
    below.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(2))


def _opened(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        mode = "L" if image.mode in ("1", "L", "I", "F") else "RGB"
        return np.asarray(image.convert(mode))


def _wrapped(text: str, width: int = _LABEL) -> str:
    return "\n".join(textwrap.wrap(text, width)) or text


def _drawing(paper: Paper) -> Any:
    return matplotlib.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 8.5,
            "axes.titlesize": 9.5,
            "axes.titleweight": "bold",
            "axes.titlepad": 7,
            "axes.labelsize": 8.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.spines.left": False,
            "axes.axisbelow": True,
            "axes.edgecolor": paper.soft,
            "axes.linewidth": 0.7,
            "axes.labelcolor": paper.ink,
            "axes.titlecolor": paper.ink,
            "axes.facecolor": paper.paper,
            "figure.facecolor": paper.paper,
            "savefig.facecolor": paper.paper,
            "text.color": paper.ink,
            "text.parse_math": False,
            "xtick.color": paper.soft,
            "ytick.color": paper.soft,
            "xtick.labelcolor": paper.ink,
            "ytick.labelcolor": paper.ink,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8.5,
            "xtick.major.size": 2.5,
            "ytick.major.size": 0,
            "grid.color": paper.grid,
            "grid.linewidth": 0.7,
            "axes.unicode_minus": True,
        }
    )


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()
