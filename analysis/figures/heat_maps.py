"""Draw heat maps side by side: all pairs of methods, or two factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings, wrap
from mixbench.analysis.figures.marks import heat_map
from mixbench.analysis.figures.palette import LIGHT, Paper


@dataclass(frozen=True)
class HeatMap:
    """values: numbers by row and column name, NaN for none; texts: what stands in the fields."""

    title: str
    values: pd.DataFrame
    texts: pd.DataFrame
    x_label: str = ""
    y_label: str = ""


def heat_maps_figure(
    maps: Sequence[HeatMap],
    paper: Paper = LIGHT,
    *,
    diverging: bool = True,
    is_alike: bool = False,
) -> bytes:
    """Draw maps, two side by side.

    diverging: see `marks.heat_map`. is_alike: a colour means the same in all maps.
    """
    numbers = np.concatenate([one.values.to_numpy(dtype=float).ravel() for one in maps])
    known = np.abs(numbers[np.isfinite(numbers)])
    largest = float(known.max()) if is_alike and known.size else None
    columns = min(2, len(maps))
    rows = rows_of(len(maps), columns)
    tallest = max(len(one.values.index) for one in maps)
    with settings(paper):
        height = (0.36 * tallest + 1.1) * rows
        width = WIDTH if columns == 2 else WIDTH * 0.72
        figure = Figure(figsize=(width, height), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axis, one in zip(grid.flat, maps, strict=False):
            heat_map(axis, one.values, one.texts, paper, diverging=diverging, largest=largest)
            axis.set_title(wrap(one.title, 50), loc="left")
            axis.set_xlabel(one.x_label)
            axis.set_ylabel(one.y_label)
            if max((len(str(name)) for name in one.values.columns), default=0) > 8:
                axis.tick_params(axis="x", rotation=30)
                for label in axis.get_xticklabels():
                    label.set_ha("right")
        for axis in list(grid.flat)[len(maps) :]:
            axis.set_axis_off()
        return png(figure)
