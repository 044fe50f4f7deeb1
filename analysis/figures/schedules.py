"""Draw what was mixed in each epoch of the runs with a schedule: a panel per cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings, wrap
from mixbench.analysis.figures.palette import LIGHT, Paper, Style, styles

_OTHERS = {
    "lambda": ((0, (1, 1.2)), "own share of a mixed image"),
    "area": ((0, (5, 2)), "changed part of a mixed image"),
}
_PLANNED: dict[str, Any] = {"lw": 0.9, "ls": (0, (4, 2))}
_COLUMNS = 4


def schedules_figure(
    cells: pd.DataFrame,
    mixing: pd.DataFrame,
    planned: Mapping[str, Sequence[float]],
    paper: Paper = LIGHT,
) -> bytes:
    """Draw the part of the images that was mixed, their own label weight, and the changed part.

    cells: cell_key, label, method (the augmentation's name). mixing: cell_key, seed, epoch, prob,
    lambda, area; lines are means over seeds, single seeds are faint. planned: cell_key -> the
    planned probability of each epoch, where it is known beforehand.
    """
    shown = cells[cells["cell_key"].isin(mixing["cell_key"])]
    columns = min(_COLUMNS, len(shown)) if len(shown) != 6 else 3
    rows = rows_of(len(shown), columns)
    lines = max(1 + wrap(label, 30).count("\n") for label in shown["label"])
    names = styles(list(dict.fromkeys(shown["method"])), paper)
    with settings(paper):
        tall = 1.55 + 0.15 * lines
        figure = Figure(figsize=(WIDTH, rows * tall + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for number, axis in enumerate(grid.flat):
            if number >= len(shown):
                axis.set_visible(False)
                continue
            cell = shown.iloc[number]
            epochs = mixing[mixing["cell_key"] == cell["cell_key"]]
            _panel(axis, epochs, planned.get(cell["cell_key"]), names[cell["method"]], paper)
            axis.set_title(wrap(str(cell["label"]), 30), loc="left", size=8.5)
            axis.tick_params(labelbottom=number + columns >= len(shown))
            if number + columns >= len(shown):
                axis.set_xlabel("Epoch")
        _legend(figure, mixing, bool(planned), paper)
        return png(figure)


def _panel(
    axis: Axes, epochs: pd.DataFrame, planned: Sequence[float] | None, style: Style, paper: Paper
) -> None:
    last = int(epochs["epoch"].max())
    for _, seed in epochs.groupby("seed"):
        _steps(axis, seed.set_index("epoch")["prob"], color=style.colour, lw=0.7, alpha=0.35)
    mean = epochs.groupby("epoch")[["prob", "lambda", "area"]].mean()
    edges, heights = _closed(mean["prob"])
    axis.fill_between(edges, heights, step="post", color=style.colour, alpha=0.16, lw=0)
    _steps(axis, mean["prob"], color=style.colour, lw=1.8)
    for key, (dashes, _) in _OTHERS.items():
        if mean[key].notna().any():
            _steps(axis, mean[key], color=paper.soft, lw=1.2, ls=dashes)
    if planned is not None:
        plan = pd.Series(planned, index=range(1, len(planned) + 1))
        _steps(axis, plan, color=paper.ink, **_PLANNED)
        last = max(last, len(planned))
    axis.set(xlim=(0, last), ylim=(-0.02, 1.05), yticks=[0, 0.5, 1])
    axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axis.grid(axis="y")


def _steps(axis: Axes, values: pd.Series, **style: Any) -> None:
    """Draw the values of epochs (from 1), each over the whole of its epoch."""
    edges, heights = _closed(values)
    axis.step(edges, heights, where="post", **style)


def _closed(values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return where epochs begin, and their values, with the end of the last."""
    edges = np.append(values.index.to_numpy(dtype=float) - 1, values.index[-1])
    return edges, np.append(values, values.iloc[-1])


def _legend(figure: Figure, mixing: pd.DataFrame, has_plan: bool, paper: Paper) -> None:
    handles = {"part of the images that is mixed": Line2D([], [], color=paper.ink, lw=1.8)}
    if has_plan:
        handles["as planned"] = Line2D([], [], color=paper.ink, **_PLANNED)
    for key, (dashes, words) in _OTHERS.items():
        if mixing[key].notna().any():
            handles[words] = Line2D([], [], color=paper.ink, lw=1.2, ls=dashes)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
    )
