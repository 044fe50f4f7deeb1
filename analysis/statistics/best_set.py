"""The best set: the cells that can't be told apart from the best one."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import special

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import max_t, two_way
from mixbench.analysis.statistics.contrasts import LEVEL, Values
from mixbench.analysis.statistics.units import overlap_of, variance_of_mean

_MOST_EXACT = 40
"""Above so many cells one critical value serves all: that of independent statistics."""


def best_set(
    values: Mapping[str, Values], better: int = 1, level: float = LEVEL, unit: str = ""
) -> list[str]:
    """Return the cells that no other cell is significantly better than.

    With a probability of 1 - level the best cell is among them, however many there are: each cell
    is compared one-sided with all others as a control (Hsu, "Constrained simultaneous confidence
    intervals for multiple comparisons with the best", Annals of Statistics 12, 1984). A cell is
    never named the winner because it alone differs significantly from some baseline.

    Args:
        values: cell -> replicate -> value of one metric. Cells without a value are left out;
            where some lack replicates, the variances come from what is there.
        better: 1 where higher is better, -1 where lower is.
        level: The probability that the best cell is missing, at most.
        unit: What a replicate is; folds overlap (`units.unit_of`).

    Returns:
        Cells in the order of their means, the best first; all where the spread is unknown.

    Examples:
        >>> best_set({
        ...     "none": {0: 0.80, 1: 0.81, 2: 0.82},
        ...     "mixup": {0: 0.84, 1: 0.86, 2: 0.86},
        ...     "cutmix": {0: 0.85, 1: 0.85, 2: 0.87},
        ... })
        ['cutmix', 'mixup']
    """
    known = {
        cell: {r: float(value) for r, value in of_cell.items() if is_number(value)}
        for cell, of_cell in values.items()
    }
    known = {cell: of_cell for cell, of_cell in known.items() if of_cell}
    ordered = sorted(known, key=lambda cell: -better * _mean(known[cell]))
    if len(ordered) < 2:
        return ordered
    replicates = sorted({replicate for of_cell in known.values() for replicate in of_cell})
    model = two_way.fit(
        np.array([[known[c].get(r, math.nan) for c in ordered] for r in replicates])
    )
    if not (model.variances > 0).any():
        return ordered
    return [
        cell
        for index, cell in enumerate(ordered)
        if not _is_worse(index, ordered, known, model, better, level, overlap_of(unit))
    ]


def _is_worse(
    index: int,
    cells: list[str],
    known: Mapping[str, Mapping[int, float]],
    model: two_way.TwoWay,
    better: int,
    level: float,
    overlap: float,
) -> bool:
    """Tell whether any other cell is significantly better than the one with this index."""
    own = known[cells[index]]
    deviations = np.sqrt(model.variances)
    deviations[index] = math.sqrt(model.guarded[index])
    largest, df = 0.0, model.total_df
    for other, cell in enumerate(cells):
        shared = own.keys() & known[cell].keys()
        error = math.hypot(deviations[other], deviations[index])
        if other == index or len(shared) < 2 or error == 0:
            continue
        lead = better * math.fsum(known[cell][r] - own[r] for r in shared) / len(shared)
        t = lead / (error * math.sqrt(variance_of_mean(len(shared), overlap)))
        if t > largest:
            largest, df = t, model.df(len(shared))
    # Between the p value of this one statistic and Bonferroni's the exact one lies.
    alone = float(special.stdtr(df, -largest)) if largest > 0 else 1.0
    if alone >= level or alone * (len(cells) - 1) < level:
        return alone < level
    loads = np.diag(deviations)
    if len(cells) <= _MOST_EXACT:
        loads[:, index] -= deviations[index]
    loads = np.delete(loads, index, axis=0)
    family = max_t.family(loads, df, one_sided=True)
    return max_t.adjusted_p([family], largest) < level


def _mean(values: Mapping[int, float]) -> float:
    return math.fsum(values.values()) / len(values)
