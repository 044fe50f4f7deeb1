"""Draw the timeline of schedules: what is mixed when, a row per schedule, as PNG bytes.

The input is one plain row per epoch, independent of the configuration's format.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings, wrap
from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles

NOTHING = "none"
_BAND = (0.06, 0.225)
"""Inches above probability 1 at which the band of phases begins and ends."""
_HEAD = 0.24
"""Inches of a row above probability 1."""
_CHARACTER = 0.074
"""Inches that a letter of the band's text takes."""
_LEGEND_COLUMNS = 3
_AREAS = {"min_area": ((0, (1, 1.3)), "smallest box"), "max_area": ((0, (5, 2)), "largest box")}
_HATCH = "////"

Legend = dict[str, Any]
"""Words -> the handle that they explain."""


@dataclass(frozen=True)
class Timeline:
    """One schedule as it is planned.

    rows: a mapping per epoch, in order: phase (any mark of the phase, None outside all), method,
        prob, alpha, min_area, max_area (None where the method has no such parameter) and
        until_plateau (the phase ends at a plateau; the rows go on to its latest end).
    unfreezings: the epochs (0 is the start) after which more of the network is trained.
    base_parameters: the parameters of the method without the schedule.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    unfreezings: Sequence[float] = ()
    base_parameters: Mapping[str, Any] = field(default_factory=dict)


class Stretch(NamedTuple):
    """Epochs `first` to `end` (from 0, without the last), which are one phase with one method."""

    first: int
    end: int
    method: str
    until_plateau: bool


@dataclass(frozen=True)
class _Scale:
    """How the rows are drawn. epoch: inches of an epoch. plot: inches from probability 0 to 1."""

    epoch: float
    plot: float
    paper: Paper
    styles: Mapping[str, Style]

    @property
    def top(self) -> float:
        """The upper end of a row, in probabilities."""
        return (self.plot + _HEAD) / self.plot


def timeline_figure(timelines: Sequence[Timeline], title: str = "", paper: Paper = LIGHT) -> bytes:
    """Draw the probability of mixing over training, with each phase's method in a band above it.

    A row per schedule on one axis of epochs, fractions of the training above it. Strength and box
    sizes are drawn where they change. All timelines have the same number of epochs.
    """
    epochs = len(timelines[0].rows)
    methods = [str(row["method"]) for line in timelines for row in line.rows]
    label = 0.09 * max(len(text) for line in timelines for text in _lines(line.name)) + 0.55
    plot = 1.5 if len(timelines) == 1 else 0.85 if len(timelines) < 5 else 0.52
    has_strength = any(changes(line, "alpha") for line in timelines)
    wide = WIDTH - label - (0.62 if has_strength else 0.3)
    looks = styles([name for name in methods if name != NOTHING], paper)
    scale = _Scale(wide / epochs, plot, paper, looks)
    explained: Legend = {}
    with settings(paper):
        figure = Figure()
        rows = [_row(figure, line, scale, explained) for line in timelines]
        columns = min(_LEGEND_COLUMNS, len(explained))
        above = 0.9 if title else 0.58
        below = 0.62 + 0.2 * rows_of(len(explained), columns)
        tall, step = plot + _HEAD, plot + _HEAD + 0.26
        height = above + step * (len(timelines) - 1) + tall + below
        figure.set_size_inches(WIDTH, height)
        for number, (line, axes) in enumerate(
            zip(reversed(timelines), reversed(rows), strict=True)
        ):
            bottom = below + step * number
            for axis in axes:
                axis.set_position((label / WIDTH, bottom / height, wide / WIDTH, tall / height))
            _name(axes[0], line.name, -0.4 / wide, plot / 2 / tall)
            axes[0].tick_params(labelbottom=number == 0)
        rows[-1][0].set_xlabel("Epoch")
        _fractions(rows[0][0], epochs)
        if title:
            figure.text(0.1 / WIDTH, 1 - 0.12 / height, title, weight="bold", size=11, va="top")
        _legend(figure, explained, columns, height)
        return png(figure)


def phases(rows: Sequence[Mapping[str, Any]]) -> list[Stretch]:
    """Return the stretches of a schedule; an epoch in which a phase pauses belongs to it."""
    stretches = []
    start = 0
    for (_, until), group in itertools.groupby(
        rows, lambda row: (row["phase"], bool(row["until_plateau"]))
    ):
        members = list(group)
        names = [str(row["method"]) for row in members if row["method"] != NOTHING]
        is_mixed = members[0]["phase"] is not None and names
        end = start + len(members)
        stretches.append(Stretch(start, end, names[0] if is_mixed else NOTHING, until))
        start = end
    return stretches


def changes(line: Timeline, key: str) -> bool:
    """Tell whether a schedule changes a parameter, over time or from the method's own value."""
    values: dict[str, set[float]] = {}
    for row in line.rows:
        if row["method"] != NOTHING and row.get(key) is not None:
            values.setdefault(str(row["method"]), set()).add(float(row[key]))
    usual = line.base_parameters.get(key)
    if usual is not None and str(line.base_parameters.get("name")) in values:
        values[str(line.base_parameters["name"])].add(float(usual))
    return any(len(different) > 1 for different in values.values())


def _row(figure: Figure, line: Timeline, scale: _Scale, explained: Legend) -> list[Axes]:
    """Draw one schedule on axes that lie on each other and are placed later."""
    paper = scale.paper
    axis = figure.add_axes((0, 0, 1, 1))
    axes = [axis]
    edges = np.arange(len(line.rows) + 1)
    probability = np.asarray([_number(row["prob"]) for row in line.rows])
    explained.setdefault("probability of mixing", Line2D([], [], color=paper.ink, lw=1.3))
    _stretches(axis, phases(line.rows), edges, probability, scale, explained)
    solid: dict[str, Any] = {"where": "post", "color": paper.ink, "lw": 1.3}
    axis.step(edges, _closed(probability), **solid, zorder=4, solid_joinstyle="miter")
    for key, (dashes, words) in _AREAS.items():
        if changes(line, key):
            axis.step(edges, _series(line.rows, key), **solid, ls=dashes, zorder=5)
            handle = Line2D([], [], color=paper.ink, lw=1.3, ls=dashes)
            explained[f"{words}, share of the image"] = handle
    if changes(line, "alpha"):
        axes.append(axis.twinx())
        _strength(axes[-1], edges, _series(line.rows, "alpha"), scale, explained)
    for epoch in line.unfreezings:
        _unfreezing(axis, epoch, paper, explained)
    axis.set_xlim(0, len(line.rows))
    axis.set_ylim(0, scale.top)
    axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axis.grid(axis="y")
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(10, integer=True, steps=[1, 2, 5]))
    return axes


def _stretches(
    axis: Axes,
    stretches: Sequence[Stretch],
    edges: np.ndarray,
    probability: np.ndarray,
    scale: _Scale,
    explained: Legend,
) -> None:
    """Fill the area under the probability, stretch by stretch, with a band above each."""
    paper = scale.paper
    for number, stretch in enumerate(stretches):
        first, end, method, until = stretch
        # Where a phase begins or ends within an epoch, that epoch may count as unmixed.
        near = [index for index in (number, number + 1, number - 1) if 0 <= index < len(stretches)]
        names = [stretches[index].method for index in near]
        colours = [scale.styles[name].colour for name in names if name in scale.styles]
        colour = colours[0] if colours else paper.soft
        _band(axis, stretch, colour, scale)
        axis.fill_between(
            edges[first : end + 1],
            _closed(probability[first:end]),
            step="post",
            color=colour,
            alpha=0.24,
            lw=0,
            hatch=_HATCH if until and method != NOTHING else None,
        )
        if until:
            dashed: dict[str, Any] = {
                "color": paper.neutral,
                "lw": 1,
                "ls": (0, (3, 2)),
                "zorder": 3,
            }
            axis.axvline(end, ymax=1 / scale.top, **dashed)
            explained["ends at a plateau, here at the latest"] = Patch(
                fc="none", ec=paper.neutral, hatch=_HATCH, lw=0.8, ls="--"
            )


def _band(axis: Axes, stretch: Stretch, colour: str, scale: _Scale) -> None:
    """Draw the box of a stretch above its curve, with the method's name where it fits."""
    first, end, method, until = stretch
    paper = scale.paper
    low, high = (1 + inch / scale.plot for inch in _BAND)
    is_mixed = method != NOTHING
    box = Rectangle(
        (first, low),
        end - first,
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
    wide = (end - first) * scale.epoch
    if not is_mixed and len(text) * _CHARACTER + 0.08 > wide:
        text = "–"
    if len(text) * _CHARACTER + 0.08 <= wide:
        axis.text(
            (first + end) / 2,
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
    axis: Axes, edges: np.ndarray, values: np.ndarray, scale: _Scale, explained: Legend
) -> None:
    """Draw α on an axis of its own, on the right, as it has no upper bound."""
    line: dict[str, Any] = {"color": scale.paper.ink, "lw": 1.3, "ls": (0, (6, 1.5, 1, 1.5))}
    axis.step(edges, values, where="post", **line)
    top = float(np.nanmax(values))
    top = max(top, float(f"{top:.2g}"))
    axis.set_ylim(0, top * scale.top)
    axis.set_yticks([0, top / 2, top], [f"{value:.3g}" for value in (0, top / 2, top)])
    middle = top * (1 + scale.top) / 2
    axis.text(1.0, middle, "  α", transform=axis.get_yaxis_transform(), va="center", size=9)
    explained["α, on the right"] = Line2D([], [], **line)


def _unfreezing(axis: Axes, epoch: float, paper: Paper, explained: Legend) -> None:
    dotted: dict[str, Any] = {"color": paper.neutral, "ls": (0, (1, 1.5)), "lw": 0.9}
    edge: dict[str, Any] = {"marker": "^", "ms": 7, "mec": paper.paper}
    axis.plot([epoch], [0], color=paper.ink, mew=0.8, clip_on=False, zorder=6, **edge)
    axis.vlines([epoch], 0, 1, zorder=3, **dotted)
    handle = Line2D([], [], mfc=paper.ink, **edge, **dotted)
    explained["more of the network is trained"] = handle


def _name(axis: Axes, name: str, x: float, y: float) -> None:
    text = "\n".join(_lines(name))
    bold: dict[str, Any] = {"ha": "right", "va": "center", "weight": "bold", "size": 9.5}
    axis.text(x, y, text, transform=axis.transAxes, **bold)


def _fractions(axis: Axes, epochs: int) -> None:
    """Label the same axis with fractions of the training, above the first row."""
    above = axis.secondary_xaxis(
        "top",
        functions=(lambda x: np.asarray(x) * 100 / epochs, lambda x: np.asarray(x) * epochs / 100),
    )
    above.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    above.set_xlabel("Part of the training", labelpad=4)


def _legend(figure: Figure, explained: Legend, columns: int, height: float) -> None:
    figure.legend(
        list(explained.values()),
        list(explained),
        loc="lower center",
        ncols=columns,
        bbox_to_anchor=(0.5, 0.04 / height),
        frameon=False,
        fontsize=8.5,
        handlelength=2.6,
        columnspacing=1.8,
        borderaxespad=0,
    )


def _lines(name: str) -> list[str]:
    return wrap(name, 16).split("\n")


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    values = [
        float("nan") if row["method"] == NOTHING else _number(row.get(key), float("nan"))
        for row in rows
    ]
    return _closed(np.asarray(values))


def _closed(values: np.ndarray) -> np.ndarray:
    """Repeat the last value, for the end of its epoch."""
    return np.append(values, values[-1])


def _number(value: Any, otherwise: float = 0.0) -> float:
    return otherwise if value is None else float(value)
