"""The two-way model of a comparison: value = cell + replicate + rest.

Every cell is trained on the same replicates (weights, order, mixing, training subset), so that a
replicate's own luck cancels in a difference. What is left, the rest, may spread more in one cell
than in another. Its variance is estimated for each cell and drawn towards the average of all
cells, by as much as the cells agree: with equal spreads nearly all cells tell the variance (many
degrees of freedom with few replicates), with unequal ones each cell mostly its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

from mixbench.analysis.statistics.max_t import Array

_NEVER = 1e3
"""Degrees of freedom of the average where the cells' variances differ no more than by chance."""


@dataclass(frozen=True)
class TwoWay:
    """The two-way model, fitted.

    Attributes:
        counts: (cells,) the number of values of each cell.
        variances: (cells,) of one value around cell + replicate, in squared units of the metric;
            drawn together.
        guarded: (cells,) the same, never below the cell's own estimate: for a cell that many
            contrasts share, such as a baseline.
        total_df: The degrees of freedom of the average variance.
        prior_df: What the average is worth, in degrees of freedom, for the variance of one cell.
    """

    counts: Array
    variances: Array
    guarded: Array
    total_df: float
    prior_df: float

    def df(self, count: float) -> float:
        """Return the degrees of freedom of a variance of cells with so many values."""
        return min(self.total_df, count - 1 + self.prior_df)


def fit(values: Array) -> TwoWay:
    """Fit the two-way model with a variance for each cell.

    The unbiased variance of a cell in a two-way layout is that of Grubbs ("On estimating precision
    of measuring instruments and product variability", JASA 43, 1948). It is drawn towards the
    average with the weight d0 / (d0 + n - 1), where d0 comes from how much the logarithms of the
    cells' variances spread beyond chance (Smyth, "Linear models and empirical Bayes methods",
    Statistical Applications in Genetics 3, 2004, equations 8 and 10). A cell that was above its
    drawn value takes the mean of the two: intervals may be too wide, hardly ever too narrow.

    Args:
        values: (replicates, cells) in the metric's unit; NaN where a cell has no value.

    Raises:
        ValueError: Fewer than two cells, or a cell without a value.

    Examples:
        >>> model = fit(np.array([[1.0, 2.0, 2.5], [2.0, 3.2, 3.4], [3.0, 3.9, 4.6]]))
        >>> model.variances.round(3).tolist(), model.total_df
        ([0.006, 0.034, 0.023], 4.0)
    """
    known = np.isfinite(values)
    counts = known.sum(axis=0).astype(float)
    cells = values.shape[1]
    if cells < 2 or (counts == 0).any():
        raise ValueError("the two-way model needs two cells or more, each with a value")
    rest = _residuals(values, known)
    total_df = float(known.sum() - cells - (known.any(axis=1).sum() - 1))
    if total_df < 1:
        nothing = np.zeros(cells)
        return TwoWay(counts, nothing, nothing, 0.0, 0.0)
    average = float((rest**2).sum() / total_df)
    if cells == 2:
        # Two cells: only the variance of their difference is known, as in the paired t test.
        equal = np.full(2, average)
        return TwoWay(counts, equal, equal, total_df, 0.0)
    own_df = np.maximum(counts - 1, 0.0)
    raw = (rest**2).sum(axis=0) / np.maximum(own_df, 1.0)
    own = np.maximum((raw - average / cells) / (1 - 2 / cells), 0.0)
    prior = _prior_df(raw[own_df > 0], float(np.median(own_df[own_df > 0])))
    drawn = (prior * average + own_df * own) / np.maximum(prior + own_df, 1e-9)
    # Without an estimate of its own, and no agreement among the others, a cell has the average.
    drawn = np.where((own_df == 0) & (prior == 0), average, drawn)
    return TwoWay(
        counts, np.maximum(drawn, (drawn + own) / 2), np.maximum(drawn, own), total_df, prior
    )


def _residuals(values: Array, known: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Array:
    """Return the rest of the least squares fit of cell + replicate; 0 where nothing is known."""
    largest = max(float(np.abs(values[known]).max()), 1e-300)
    rest = np.where(known, values, 0.0)
    in_cells, in_replicates = known.sum(axis=0), np.maximum(known.sum(axis=1), 1)
    # One round is exact without gaps; with gaps the rounds converge.
    for _ in range(200):
        shift = rest.sum(axis=1) / in_replicates
        rest = np.where(known, rest - shift[:, None], 0.0)
        means = rest.sum(axis=0) / in_cells
        rest = np.where(known, rest - means, 0.0)
        if known.all() or max(np.abs(shift).max(), np.abs(means).max()) <= 1e-10 * largest:
            break
    # What rounding leaves of identical columns is not a spread.
    rest[np.abs(rest) <= 1e-12 * largest] = 0.0
    return rest


def _prior_df(variances: Array, df: float) -> float:
    """Return the degrees of freedom that the average of the variances is worth for one of them."""
    if len(variances) < 2 or (variances <= 0).any():
        return 0.0
    beyond_chance = float(np.log(variances).var(ddof=1) - special.polygamma(1, df / 2))
    if beyond_chance <= special.polygamma(1, _NEVER / 2):
        return _NEVER
    lowest = 1e-3
    if beyond_chance >= special.polygamma(1, lowest / 2):
        return 0.0
    return float(
        optimize.brentq(
            lambda d0: special.polygamma(1, d0 / 2) - beyond_chance, lowest, _NEVER, xtol=1e-6
        )
    )
