"""Shared by all figures: paper, size, matplotlib's settings, labels, and saving as PNG.

Figures are `matplotlib.figure.Figure` objects drawn by Agg, never pyplot's: no global state, no
display, safe in any thread. `marks.py` draws on their axes with seaborn.
"""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from mixbench.analysis.figures.palette import DARK, LIGHT, Paper, Style, styles

WIDTH = 10.4
"""Inches: the width of the report's column, at which 9 points are read as 9 points."""
DPI = 150
LARGE = 200_000
"""Bytes of a figure above which a page has it with a palette."""
BAND_SEEDS = 3
"""Draw bands from this many seeds on: those of two cover the panel and hide every curve."""
LABEL_WIDTH = 24
"""Characters in one line of a label."""
DASHED = (0, (4, 3))
DOTTED = (0, (1, 2))


@dataclass(frozen=True)
class ReportFigure:
    """A figure of the report, on light and on dark paper, with its texts.

    name: the file's name. narrow: light and dark, drawn for a telephone; empty where the page shows
    the wide one there too.
    """

    name: str
    title: str
    caption: str
    alt: str
    light: bytes
    dark: bytes
    narrow: tuple[bytes, ...] = ()

    @property
    def light_uri(self) -> str:
        """The light figure as a data URI."""
        return _data_uri(self.light)

    @property
    def dark_uri(self) -> str:
        """The dark figure as a data URI."""
        return _data_uri(self.dark)

    @property
    def narrow_uris(self) -> tuple[str, ...]:
        """The narrow figures as data URIs: light and dark, or none."""
        return tuple(map(_data_uri, self.narrow))


def on_both_papers(
    name: str,
    title: str,
    caption: str,
    alt: str,
    draw: Callable[[Paper], bytes],
    draw_narrow: Callable[[Paper], bytes] | None = None,
) -> ReportFigure:
    """Draw a figure on light and on dark paper, and for a telephone with `draw_narrow`."""
    narrow = () if draw_narrow is None else (draw_narrow(LIGHT), draw_narrow(DARK))
    return ReportFigure(name, title, caption, alt, draw(LIGHT), draw(DARK), narrow)


def settings(paper: Paper) -> AbstractContextManager[None]:
    """Set matplotlib's fonts, lines and colours for this paper, within a `with` block."""
    return matplotlib.rc_context({**_SETTINGS, **_colours(paper)})


def png(figure: Figure) -> bytes:
    """Draw the figure and return the PNG's bytes."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def wrap(text: str, width: int = LABEL_WIDTH) -> str:
    """Break a label into lines of at most `width` characters."""
    return "\n".join(textwrap.wrap(text, width)) or text


def cell_styles(cells: pd.DataFrame, paper: Paper) -> dict[str, Style]:
    """Return the style of each series in `cells`; baselines are neutral."""
    return styles(list(cells["series"]), paper, _baselines(cells))


def curve(axis: Axes, points: pd.DataFrame, x: pd.Series, style: Style, paper: Paper) -> None:
    """Draw accuracy in percent over `x`, with its band if there are enough seeds.

    points: mean, low, high (from 0 to 1) and n, in the order of x.
    """
    if points["n"].min() >= BAND_SEEDS:
        low, high = (points[side].astype(float) * 100 for side in ("low", "high"))
        axis.fill_between(x, low, high, color=style.colour, alpha=0.14, lw=0)
    line: dict[str, Any] = {"color": style.colour, "marker": style.marker, "ms": 4.5, "lw": 1.6}
    axis.plot(x, points["mean"].astype(float) * 100, mec=paper.paper, mew=0.4, **line)


def chance_line(axis: Axes, chance: float, paper: Paper) -> None:
    """Draw the accuracy of guessing as a dotted line."""
    axis.axhline(chance * 100, color=paper.soft, lw=0.9, ls=DOTTED)


def legend(
    figure: Figure, names: Mapping[str, Style], paper: Paper, *, is_line: bool = True
) -> None:
    """Explain the series below the panels, where there is more than one."""
    if len(names) < 2:
        return
    edge: dict[str, Any] = {"mec": paper.paper, "mew": 0.4, "ms": 5, "lw": 1.6 * is_line}
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, label=wrap(name, 40), **edge)
        for name, style in names.items()
    ]
    for columns in range(min(len(names), 5), 0, -1):
        made = figure.legend(
            handles=handles, loc="outside lower center", ncols=columns, frameon=False
        )
        # Long names in too many columns would be cut at both sides.
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            return
        made.remove()


def rows_of(panels: int, columns: int) -> int:
    """Return how many rows so many panels need."""
    return math.ceil(panels / columns)


def _baselines(cells: pd.DataFrame) -> Collection[str]:
    is_baseline = cells["cell_key"].isin(cells["baseline_key"].dropna())
    return set(cells.loc[is_baseline, "series"]) - set(cells.loc[~is_baseline, "series"])


def _data_uri(image: bytes) -> str:
    if len(image) > LARGE:
        image = _with_palette(image)
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


def _with_palette(image: bytes) -> bytes:
    """Return a PNG with at most 256 colours; overlapping bands take a fifth of the bytes so."""
    stream = io.BytesIO()
    picture = Image.open(io.BytesIO(image)).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


_SETTINGS: dict[Any, Any] = {
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
    "axes.linewidth": 0.7,
    "axes.unicode_minus": True,
    "text.parse_math": False,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0,
    "grid.linewidth": 0.7,
}


def _colours(paper: Paper) -> dict[Any, str]:
    keys = {
        paper.paper: ("axes.facecolor", "figure.facecolor", "savefig.facecolor"),
        paper.ink: (
            *("text.color", "axes.labelcolor", "axes.titlecolor"),
            *("xtick.labelcolor", "ytick.labelcolor"),
        ),
        paper.soft: ("axes.edgecolor", "xtick.color", "ytick.color"),
        paper.grid: ("grid.color",),
    }
    return {key: colour for colour, names in keys.items() for key in names}
