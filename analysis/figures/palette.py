"""One colour and one marker per series, the same in every figure, on light and on dark paper.

The colours start with Okabe and Ito's eight (2008), which stay apart under the common colour
vision deficiencies; no two series share colour and marker, so readers don't depend on colour.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What a figure is drawn on and with."""

    name: str
    paper: str
    ink: str
    soft: str
    grid: str
    neutral: str
    good: str
    bad: str
    accent: str
    colours: tuple[str, ...]


def _colours(*rows: str) -> tuple[str, ...]:
    return tuple(colour for row in rows for colour in row.split())


LIGHT = Paper(
    name="light",
    paper="#ffffff",
    ink="#1c2126",
    soft="#5f6871",
    grid="#e3e6ea",
    neutral="#4a5158",
    good="#00734f",
    bad="#b23c17",
    accent="#0072b2",
    colours=_colours(
        "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9",
        "#332288 #882255 #8a8a1e #0b6e6e #a65628 #7a5bd0",
    ),
)
DARK = Paper(
    name="dark",
    paper="#171b20",
    ink="#e8ebee",
    soft="#a2abb4",
    grid="#2d343b",
    neutral="#c3cad1",
    good="#5fd6ae",
    bad="#f2987c",
    accent="#6cb6ec",
    colours=_colours(
        "#4fa3dc #f08a4b #2fc79a #e07bb5 #f2bd4a #8fd0f7",
        "#9a8ff0 #b8497f #c4c454 #4db8b8 #d18f63 #b8a2f5",
    ),
)
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "<", ">", "h", "p", "d", "8")

# The well-known methods keep their colour from one sweep to the next.
_USUAL = {
    "mixup": 0,
    "cutmix": 1,
    "cutout": 2,
    "random_erasing": 3,
    "ricap": 4,
    "fmix": 5,
    "resizemix": 6,
    "manifold_mixup": 7,
}
_NEUTRAL = ("none", "no mixing")
_VARIANT = re.compile(r"(?<=[a-z_0-9]) (?=[^ ]+=)| at | with | · | tuned| default")
"""Where the name of a variant goes on after that of its method, in labels and in words."""


@dataclass(frozen=True)
class Style:
    """How a series is drawn."""

    colour: str
    marker: str


def styles(
    series: Sequence[str], paper: Paper, baselines: Collection[str] = ()
) -> dict[str, Style]:
    """Return the style of each series.

    Baselines (and no mixing) are neutral; every other series has its own pair of colour and marker.
    """
    names = list(dict.fromkeys(series))
    neutral = [name for name in names if name in baselines or name in _NEUTRAL]
    coloured = [name for name in names if name not in neutral]
    positions: dict[str, int] = {}
    for name in coloured:
        usual = _USUAL.get(_key(name))
        # Of "tuned MixUp" and "untuned MixUp" the first one.
        if usual is not None and usual not in positions.values():
            positions[name] = usual
    for name in coloured:
        if name not in positions:
            # A variant ("cutmix α=0.2") takes its method's colour where that is still free.
            usual = _USUAL.get(_key(_VARIANT.split(name)[0]))
            taken = set(positions.values())
            free = next(index for index in itertools.count() if index not in taken)
            positions[name] = usual if usual is not None and usual not in taken else free
    count = len(paper.colours)
    chosen = {
        name: Style(paper.colours[index % count], MARKERS[1:][(index + index // count) % 12])
        for name, index in positions.items()
    }
    for number, name in enumerate(neutral):
        chosen[name] = Style(paper.neutral, MARKERS[(13 - number) % 13] if number else MARKERS[0])
    return {name: chosen[name] for name in names}


def _key(name: str) -> str:
    """Return a method's name as configurations have it: "random_erasing" for "Random Erasing"."""
    words = name.removeprefix("untuned ").removeprefix("tuned ")
    return words.lower().replace(" ", "_")
