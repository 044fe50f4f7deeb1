"""Draw the result of `mixbench bench augment`: mixing time, beside other libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import WIDTH, png, settings
from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles

OURS = "mixbench"


def speed_figure(rows: Sequence[Mapping[str, Any]], machine: str, paper: Paper = LIGHT) -> bytes:
    """Draw dots on a logarithmic axis, times the time of a copy.

    A panel per shape, a line per method and mode. rows: those of the benchmark's result (method,
    shape, library, mode "batch" or "sample", in_place, times_copy). Hollow: works in place. The
    grey line is the copy itself.
    """
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    lines = list(dict.fromkeys((row["method"], row["mode"]) for row in rows))
    others = [name for name in dict.fromkeys(row["library"] for row in rows) if name != OURS]
    looks = styles([OURS, *others], paper, [OURS])
    with settings(paper):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.28 * len(lines)), layout="constrained")
        grid = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
        for axis, shape in zip(grid, shapes, strict=True):
            members = [row for row in rows if tuple(row["shape"]) == shape]
            _panel(axis, members, lines, looks, paper)
            axis.set_title(" × ".join(map(str, shape)), loc="left")
        labels = [
            f"{name}, {'one draw' if mode == 'batch' else 'per sample'}" for name, mode in lines
        ]
        grid[0].set_yticks(range(len(lines)), labels)
        grid[0].set_ylim(len(lines) - 0.5, -0.5)
        text = f"times the time of out.copy_(x), {machine}; hollow: works in place"
        figure.supxlabel(text, size=8.5)
        handles = [
            grid[0].plot([], [], looks[name].marker, color=looks[name].colour, ls="", label=name)[0]
            for name in [OURS, *others]
        ]
        figure.legend(
            handles=handles,
            loc="outside upper center",
            ncols=len(handles),
            frameon=False,
            fontsize=8,
        )
        return png(figure)


def _panel(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    lines: Sequence[tuple[str, str]],
    looks: Mapping[str, Style],
    paper: Paper,
) -> None:
    for y, line in enumerate(lines):
        axis.axhline(y, color=paper.grid, lw=0.6, zorder=0)
        for row in rows:
            if (row["method"], row["mode"]) != line:
                continue
            look = looks[row["library"]]
            is_ours = row["library"] == OURS
            face = paper.paper if row["in_place"] else look.colour
            size, order = (7, 2) if is_ours else (5, 3)
            dot: dict[str, Any] = {"color": look.colour, "mfc": face, "ms": size, "zorder": order}
            axis.plot(row["times_copy"], y, look.marker, **dot)
    axis.axvline(1, color=paper.soft, lw=0.9)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
    axis.grid(axis="x")
