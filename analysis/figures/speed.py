"""The figure of `mixbench bench augment`: how long mixing takes, beside others' code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
from matplotlib.figure import Figure

from mixbench.analysis.figures.palette import LIGHT, Paper, styles
from mixbench.analysis.figures.summary import WIDTH, _drawing, _png

OURS = "mixbench"


def speed_figure(rows: Sequence[Mapping[str, Any]], machine: str, paper: Paper = LIGHT) -> bytes:
    """Dots on a logarithmic axis, times the time of a copy: a panel per shape, a line per method.

    rows: those of the benchmark's result (method, shape, library, mode "batch" or "sample",
    in_place, times_copy). Hollow: works in place. The grey line is the copy itself.
    """
    shapes = list(dict.fromkeys(tuple(row["shape"]) for row in rows))
    lines = list(dict.fromkeys((row["method"], row["mode"]) for row in rows))
    libraries = list(dict.fromkeys(row["library"] for row in rows))
    others = [name for name in libraries if name != OURS]
    looks = styles([OURS, *others], paper, [OURS])
    with _drawing(paper):
        figure = Figure(figsize=(WIDTH, 1.5 + 0.28 * len(lines)), layout="constrained")
        grid = figure.subplots(1, len(shapes), sharey=True, squeeze=False)[0]
        for axis, shape in zip(grid, shapes, strict=True):
            for y, line in enumerate(lines):
                axis.axhline(y, color=paper.grid, lw=0.6, zorder=0)
                for row in rows:
                    if (row["method"], row["mode"]) != line or tuple(row["shape"]) != shape:
                        continue
                    look = looks[row["library"]]
                    face = paper.paper if row["in_place"] else look.colour
                    axis.plot(
                        row["times_copy"],
                        y,
                        look.marker,
                        color=look.colour,
                        mfc=face,
                        ms=7 if row["library"] == OURS else 5,
                        zorder=2 if row["library"] == OURS else 3,
                    )
            axis.axvline(1, color=paper.soft, lw=0.9)
            axis.set_xscale("log")
            axis.xaxis.set_major_formatter(matplotlib.ticker.FormatStrFormatter("%g"))
            axis.set_title(" × ".join(map(str, shape)), loc="left")
            axis.grid(axis="x")
        grid[0].set_yticks(
            range(len(lines)),
            [
                f"{method}, {'one draw' if mode == 'batch' else 'per sample'}"
                for method, mode in lines
            ],
        )
        grid[0].set_ylim(len(lines) - 0.5, -0.5)
        figure.supxlabel(
            f"times the time of out.copy_(x), {machine}; hollow: works in place", size=8.5
        )
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
        return _png(figure)
