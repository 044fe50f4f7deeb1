"""The marks that several figures share, by seaborn: single replicates, lines, heat maps.

Intervals are never seaborn's: they come from the statistics. It is imported where it draws, as it
takes a second; it draws on the axes that it is given, and makes no figure of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from mixbench.analysis.figures.palette import Paper, Style


def strip(axis: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw single values as small faint dots."""
    import seaborn

    look = {"color": colour, "alpha": 0.55, "size": 3, "linewidth": 0, "zorder": 2}
    place = {"orient": "h", "native_scale": True, "jitter": False}
    seaborn.stripplot(x=list(x), y=list(y), ax=axis, **place, **look)


def scatter(axis: Axes, x: Sequence[float], y: Sequence[float], style: Style, paper: Paper) -> None:
    """Draw one dot per pair of values."""
    import seaborn

    look = {"color": style.colour, "marker": style.marker, "edgecolor": paper.paper, "s": 34}
    seaborn.scatterplot(x=list(x), y=list(y), ax=axis, legend=False, zorder=3, **look)


def line(axis: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw a line without an interval."""
    import seaborn

    seaborn.lineplot(
        x=list(x), y=list(y), ax=axis, color=colour, lw=1.6, errorbar=None, legend=False
    )


def heat_map(
    axis: Axes,
    values: pd.DataFrame,
    texts: pd.DataFrame,
    paper: Paper,
    *,
    diverging: bool,
    largest: float | None = None,
) -> None:
    """Draw a table of numbers as colours with texts on top; NaN is left empty.

    diverging: colours run from bad over the paper to good, with 0 in the middle; else from the
    paper to the accent. largest: the absolute value of the strongest colours, where they diverge;
    None: the largest of this map.
    """
    import seaborn

    numbers = values.to_numpy(dtype=float)
    known = numbers[np.isfinite(numbers)]
    if diverging:
        colours = [paper.bad, paper.paper, paper.good]
        high = largest or (float(np.abs(known).max()) if known.size else 1.0)
        low = -high
    else:
        colours = [paper.paper, paper.accent]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    # Texts stay readable on half of the colour.
    span = (high - low) or 1.0
    colormap = LinearSegmentedColormap.from_list("paper", colours)
    wide = (low - span * 0.5, high + span * 0.5) if diverging else (low, high + span)
    seaborn.heatmap(
        pd.DataFrame(numbers, index=values.index, columns=values.columns),
        annot=texts.to_numpy(),
        fmt="",
        cmap=colormap,
        vmin=wide[0],
        vmax=wide[1],
        cbar=False,
        linewidths=1,
        linecolor=paper.paper,
        annot_kws={"color": paper.ink, "size": 8},
        xticklabels=list(values.columns),
        yticklabels=list(values.index),
        ax=axis,
    )
    axis.tick_params(length=0, rotation=0)
