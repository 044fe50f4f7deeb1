"""The timeline of a schedule: what is to be mixed when, a row per schedule, as PNG bytes.

Drawn from plain rows, one per epoch; the figure knows nothing of how a schedule is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles
from mixbench.analysis.figures.summary import WIDTH, _drawing, _png, _wrapped

NOTHING = "none"
_BAND = (0.06, 0.225)
"""Inches above probability 1 at which the band of phases begins and ends."""
_HEAD = 0.24
"""Inches of a row above probability 1."""
_CHARACTER = 0.074
"""Inches that a letter of the band's text takes."""
_COLUMNS = 3
"""Entries in a line of the legend."""
_AREAS = {"min_area": ((0, (1, 1.3)), "smallest box"), "max_area": ((0, (5, 2)), "largest box")}
_HATCH = "////"


@dataclass(frozen=True)
class Timeline:
    """One schedule as it is planned.

    rows: a mapping per epoch, in order: phase (any mark of the phase, None outside all), method,
        prob, alpha, min_area, max_area (None where the method has no such parameter) and
        until_plateau (the phase ends at a plateau; the rows go on to its latest end).
    unfreezings: the epochs (0 is the start) after which more of the network is trained.
    own: the parameters of the method as it is without the schedule.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    unfreezings: Sequence[float] = ()
    own: Mapping[str, Any] = field(default_factory=dict)


def timeline_figure(timelines: Sequence[Timeline], title: str = "", paper: Paper = LIGHT) -> bytes:
    """The probability of mixing over training, with the method of each phase in a band above it.

    A row per schedule on one axis of epochs, fractions of the training above it. Strength and box
    sizes are drawn where they change. All timelines have the same number of epochs.
    """
    epochs = len(timelines[0].rows)
    methods = [str(row["method"]) for line in timelines for row in line.rows]
    drawn_in = styles([name for name in methods if name != NOTHING], paper)
    label = 0.09 * max(len(text) for line in timelines for text in _lines(line.name)) + 0.55
    plot = 1.5 if len(timelines) == 1 else 0.85 if len(timelines) < 5 else 0.52
    tall, step = plot + _HEAD, plot + _HEAD + 0.26
    has_strength = any(_changes(line, "alpha") for line in timelines)
    wide = WIDTH - label - (0.62 if has_strength else 0.3)
    above = 0.9 if title else 0.58
    shown: dict[str, Any] = {}
    with _drawing(paper):
        figure = Figure()
        rows = [
            _row(figure, line, drawn_in, wide / epochs, plot, paper, shown) for line in timelines
        ]
        columns = min(_COLUMNS, len(shown))
        below = 0.62 + 0.2 * -(-len(shown) // columns)
        height = above + step * (len(timelines) - 1) + tall + below
        figure.set_size_inches(WIDTH, height)
        for place, (line, row) in enumerate(zip(reversed(timelines), reversed(rows), strict=True)):
            bottom = below + step * place
            for axis in row:
                axis.set_position((label / WIDTH, bottom / height, wide / WIDTH, tall / height))
            row[0].text(
                -0.4 / wide,
                plot / 2 / tall,
                "\n".join(_lines(line.name)),
                ha="right",
                va="center",
                weight="bold",
                size=9.5,
                transform=row[0].transAxes,
            )
            row[0].tick_params(labelbottom=place == 0)
        axes = [row[0] for row in rows]
        axes[-1].set_xlabel("Epoch")
        _fractions(axes[0], epochs)
        if title:
            figure.text(0.1 / WIDTH, 1 - 0.12 / height, title, weight="bold", size=11, va="top")
        figure.legend(
            list(shown.values()),
            list(shown),
            loc="lower center",
            ncols=columns,
            bbox_to_anchor=(0.5, 0.04 / height),
            frameon=False,
            fontsize=8.5,
            handlelength=2.6,
            columnspacing=1.8,
            borderaxespad=0,
        )
        return _png(figure)


def phases(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, int, str, bool]]:
    """(first epoch from 0, epoch after the last, method, until a plateau) of each stretch.

    A stretch is one phase with one method; an epoch in which a phase pauses belongs to it.
    """
    found = []
    start = 0
    for (_, until), group in itertools.groupby(
        rows, lambda row: (row["phase"], bool(row["until_plateau"]))
    ):
        members = list(group)
        names = [str(row["method"]) for row in members if row["method"] != NOTHING]
        is_mixed = members[0]["phase"] is not None and names
        found.append((start, start + len(members), names[0] if is_mixed else NOTHING, until))
        start += len(members)
    return found


def _row(
    figure: Figure,
    line: Timeline,
    drawn_in: Mapping[str, Style],
    inches: float,
    plot: float,
    paper: Paper,
    shown: dict[str, Any],
) -> list[Axes]:
    """The axes of one schedule, which lie on each other and have no place yet.

    inches: the width of an epoch. plot: from probability 0 to 1. shown: what the legend explains.
    """
    axis = figure.add_axes((0, 0, 1, 1))
    axes = [axis]
    epochs = len(line.rows)
    top = (plot + _HEAD) / plot
    edges = np.arange(epochs + 1)
    probability = np.asarray([_number(row["prob"]) for row in line.rows])
    shown.setdefault("probability of mixing", Line2D([], [], color=paper.ink, lw=1.3))
    stretches = phases(line.rows)
    for place, (first, after, method, until) in enumerate(stretches):
        # Where a phase begins or ends within an epoch, that epoch may count as unmixed.
        beside = [
            stretches[near][2]
            for near in (place, place + 1, place - 1)
            if 0 <= near < len(stretches)
        ]
        colour = next((drawn_in[name].colour for name in beside if name in drawn_in), paper.soft)
        _band(axis, first, after, method, colour, until, inches, plot, paper)
        axis.fill_between(
            edges[first : after + 1],
            _closed(probability[first:after]),
            step="post",
            color=colour,
            alpha=0.24,
            lw=0,
            hatch=_HATCH if until and method != NOTHING else None,
        )
        if until:
            axis.axvline(after, ymax=1 / top, color=paper.neutral, lw=1, ls=(0, (3, 2)), zorder=3)
            shown["ends at a plateau, here at the latest"] = Patch(
                fc="none", ec=paper.neutral, hatch=_HATCH, lw=0.8, ls="--"
            )
    axis.step(
        edges,
        _closed(probability),
        where="post",
        color=paper.ink,
        lw=1.3,
        zorder=4,
        solid_joinstyle="miter",
    )
    for key, (dashes, words) in _AREAS.items():
        if _changes(line, key):
            values = _series(line.rows, key)
            axis.step(edges, values, where="post", color=paper.ink, lw=1.3, ls=dashes, zorder=5)
            shown[f"{words}, share of the image"] = Line2D(
                [], [], color=paper.ink, lw=1.3, ls=dashes
            )
    if _changes(line, "alpha"):
        axes.append(axis.twinx())
        _strength(axes[-1], edges, _series(line.rows, "alpha"), top, paper, shown)
    for at in line.unfreezings:
        axis.plot(
            [at],
            [0],
            marker="^",
            ms=7,
            color=paper.ink,
            mec=paper.paper,
            mew=0.8,
            clip_on=False,
            zorder=6,
        )
        axis.vlines([at], 0, 1, color=paper.neutral, lw=0.9, ls=(0, (1, 1.5)), zorder=3)
        shown["more of the network is trained"] = Line2D(
            [],
            [],
            color=paper.neutral,
            marker="^",
            ls=(0, (1, 1.5)),
            lw=0.9,
            ms=7,
            mfc=paper.ink,
            mec=paper.paper,
        )
    axis.set_xlim(0, epochs)
    axis.set_ylim(0, top)
    axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axis.grid(axis="y")
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(10, integer=True, steps=[1, 2, 5]))
    return axes


def _band(
    axis: Axes,
    first: int,
    after: int,
    method: str,
    colour: str,
    until: bool,
    inches: float,
    plot: float,
    paper: Paper,
) -> None:
    low, high = (1 + inch / plot for inch in _BAND)
    is_mixed = method != NOTHING
    box = Rectangle(
        (first, low),
        after - first,
        high - low,
        fc=colour if is_mixed else paper.grid,
        ec=paper.paper,
        lw=1.2,
        zorder=3,
        hatch=_HATCH if until else None,
        alpha=None if not until else 0.75,
    )
    axis.add_patch(box)
    text = method if is_mixed else "nothing mixed"
    wide = (after - first) * inches
    if not is_mixed and len(text) * _CHARACTER + 0.08 > wide:
        text = "–"
    if len(text) * _CHARACTER + 0.08 <= wide:
        axis.text(
            (first + after) / 2,
            (low + high) / 2,
            text,
            ha="center",
            va="center_baseline",
            size=7.5,
            zorder=7,
            color=paper.paper if is_mixed and not until else paper.ink,
            bbox={"fc": paper.paper, "ec": "none", "pad": 1.2, "alpha": 0.9} if until else None,
        )


def _strength(
    axis: Axes,
    edges: np.ndarray,
    values: np.ndarray,
    head: float,
    paper: Paper,
    shown: dict[str, Any],
) -> None:
    """α has no upper bound, so it has an axis of its own, on the right."""
    dashes = (0, (6, 1.5, 1, 1.5))
    axis.step(edges, values, where="post", color=paper.ink, lw=1.3, ls=dashes)
    top = float(np.nanmax(values))
    top = max(top, float(f"{top:.2g}"))
    axis.set_ylim(0, top * head)
    axis.set_yticks([0, top / 2, top], [f"{value:.3g}" for value in (0, top / 2, top)])
    axis.text(
        1.0, top * (1 + head) / 2, "  α", transform=axis.get_yaxis_transform(), va="center", size=9
    )
    shown["α, on the right"] = Line2D([], [], color=paper.ink, lw=1.3, ls=dashes)


def _fractions(axis: Axes, epochs: int) -> None:
    """The same axis as parts of the whole training, above the first row."""
    above = axis.secondary_xaxis(
        "top",
        functions=(lambda x: np.asarray(x) * 100 / epochs, lambda x: np.asarray(x) * epochs / 100),
    )
    above.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    above.set_xlabel("Part of the training", labelpad=4)


def _lines(name: str) -> list[str]:
    return _wrapped(name, 16).split("\n")


def _changes(line: Timeline, key: str) -> bool:
    """Is a parameter of a method another than its own, or not always the same?"""
    found: dict[str, set[float]] = {}
    for row in line.rows:
        if row["method"] != NOTHING and row.get(key) is not None:
            found.setdefault(str(row["method"]), set()).add(float(row[key]))
    own = line.own.get(key)
    if own is not None and str(line.own.get("name")) in found:
        found[str(line.own["name"])].add(float(own))
    return any(len(values) > 1 for values in found.values())


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [
        float("nan") if row["method"] == NOTHING else _number(row.get(key), float("nan"))
        for row in rows
    ]
    return _closed(np.asarray(values))


def _closed(values: np.ndarray) -> np.ndarray:
    """With the last value once more, at the end of its epoch."""
    return np.append(values, values[-1])


def _number(value: Any, otherwise: float = 0.0) -> float:
    return otherwise if value is None else float(value)
