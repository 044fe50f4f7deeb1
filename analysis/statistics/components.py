"""What the spread of a metric is made of: training subset, seed, and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mixbench.analysis.statistics.max_t import Array


@dataclass(frozen=True)
class Components:
    """Standard deviations of a paired difference, in the metric's unit.

    Attributes:
        replicate: Between replicates (training subset and validation split): more seeds don't
            shrink it.
        seed: Between seeds, over all replicates.
        rest: What is left of a single run.
        replicates, seeds: How many of each there were.
    """

    replicate: float
    seed: float
    rest: float
    replicates: int
    seeds: int

    def standard_error(self, replicates: int, seeds: int) -> float:
        """Return the standard error of the mean with other numbers of replicates and seeds."""
        return math.sqrt(
            self.replicate**2 / replicates
            + self.seed**2 / seeds
            + self.rest**2 / (replicates * seeds)
        )

    @property
    def better_more(self) -> str:
        """Name what shrinks the standard error more, if doubled: "replicates" or "seeds"."""
        more_replicates = self.standard_error(2 * self.replicates, self.seeds)
        more_seeds = self.standard_error(self.replicates, 2 * self.seeds)
        return "replicates" if more_replicates <= more_seeds else "seeds"


def components(values: Mapping[tuple[int, int], float]) -> Components | None:
    """Split the spread of differences over replicates that are crossed with seeds.

    difference = mean + replicate + seed + rest; the components are those of the analysis of
    variance of the two-way layout without repetition, 0 where an estimate is negative.

    Args:
        values: (replicate, seed) -> the difference of two cells. Replicates and seeds that are
            not crossed completely are left out, the emptiest first.

    Returns:
        The components; None below two crossed replicates or seeds.

    Examples:
        >>> parts = components({
        ...     (0, 0): 0.3, (0, 1): 0.4, (1, 0): 1.1, (1, 1): 1.2, (2, 0): 0.6, (2, 1): 0.8,
        ... })
        >>> round(parts.replicate, 2), round(parts.rest, 2), parts.better_more
        (0.4, 0.04, 'replicates')
    """
    table = _complete(values)
    if table is None:
        return None
    replicates, seeds = table.shape
    by_replicate, by_seed = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_replicate[:, None] - by_seed + table.mean()
    ms_rest = float((rest**2).sum()) / ((replicates - 1) * (seeds - 1))
    of_replicate = float(by_replicate.var(ddof=1)) - ms_rest / seeds
    of_seed = float(by_seed.var(ddof=1)) - ms_rest / replicates
    return Components(
        math.sqrt(max(of_replicate, 0.0)),
        math.sqrt(max(of_seed, 0.0)),
        math.sqrt(ms_rest),
        replicates,
        seeds,
    )


def _complete(values: Mapping[tuple[int, int], float]) -> Array | None:
    """Return the values as a table without gaps, dropping rows and columns where needed."""
    rows = sorted({replicate for replicate, _ in values})
    columns = sorted({seed for _, seed in values})
    table = np.array([[values.get((row, column), math.nan) for column in columns] for row in rows])
    while table.size and not np.isfinite(table).all():
        gaps = ~np.isfinite(table)
        worst_row, worst_column = gaps.mean(axis=1).argmax(), gaps.mean(axis=0).argmax()
        if gaps[worst_row].mean() >= gaps[:, worst_column].mean():
            table = np.delete(table, worst_row, axis=0)
        else:
            table = np.delete(table, worst_column, axis=1)
    return table if table.ndim == 2 and min(table.shape, default=0) >= 2 else None
