"""The marks that several figures share: dots of single replicates, heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from mixbench.analysis.figures.palette import Paper


def strip(axis: Axes, x: Sequence[float], y: Sequence[float], colour: str) -> None:
    """Draw single values as small faint dots."""
    axis.plot(x, y, "o", ms=3, mew=0, color=colour, alpha=0.55, zorder=2)


def heat_map(
    axis: Axes, values: pd.DataFrame, texts: pd.DataFrame, paper: Paper, *, diverging: bool
) -> None:
    """Draw a table of numbers as colours with texts on top; NaN is left empty.

    diverging: colours run from bad over the paper to good, with 0 in the middle; else from the
    paper to the accent.
    """
    numbers = values.to_numpy(dtype=float)
    known = numbers[np.isfinite(numbers)]
    if diverging:
        colours = [paper.bad, paper.paper, paper.good]
        high = float(np.abs(known).max()) if known.size else 1.0
        low = -high
    else:
        colours = [paper.paper, paper.accent]
        low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    # Texts stay readable on half of the colour.
    span = (high - low) or 1.0
    colormap = LinearSegmentedColormap.from_list("paper", colours)
    wide = (low - span * 0.5, high + span * 0.5) if diverging else (low, high + span)
    axis.imshow(numbers, cmap=colormap, vmin=wide[0], vmax=wide[1], aspect="auto")
    for row in range(numbers.shape[0]):
        for column in range(numbers.shape[1]):
            text = str(texts.iloc[row, column])
            axis.text(column, row, text, ha="center", va="center", size=8, color=paper.ink)
    axis.set_xticks(range(numbers.shape[1]), list(values.columns))
    axis.set_yticks(range(numbers.shape[0]), list(values.index))
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
