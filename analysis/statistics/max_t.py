"""Critical values and p values of the largest of several correlated t statistics.

Many-to-one and all-pairs comparisons share replicates and a variance, so their t statistics are
correlated. Testing each against the distribution of the largest one keeps the familywise error,
and is sharper than Bonferroni or Holm (Hothorn, Bretz and Westfall, "Simultaneous inference in
general parametric models", Biometrical Journal 50, 2008, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats
from scipy.stats import qmc

Array = NDArray[np.float64]

DRAWS = 1 << 13
"""Quasi-random draws; the error of a probability is then about 0.001."""
_LARGEST = 1 << 22
"""Numbers held at once: fewer draws where there are very many contrasts."""
_BLOCK = 32
"""Draws below the upper part are put together in blocks of so many: the tail counts."""
_UPPER = 16
"""The upper one in so many draws are kept singly."""


@dataclass(frozen=True, eq=False)
class Family:
    """The largest |t| (or t) of contrasts that share one estimate of the variance.

    Attributes:
        largest: (N,) draws of the largest of the correlated standard normal statistics.
        weights: (N,) the probability that each stands for; their sum is 1.
        df: The degrees of freedom of the variance, above 0.
    """

    largest: Array
    weights: Array
    df: float

    def with_df(self, df: float) -> Family:
        """Return the same contrasts with a variance of other degrees of freedom."""
        return Family(self.largest, self.weights, df)

    def tail(self, t: float) -> float:
        """Return the probability that the largest statistic is above t.

        The normal draws are divided by the square root of a chi-squared variable over its degrees
        of freedom; that integral is exact.

        Args:
            t: A value of the statistic, above 0.
        """
        if t <= 0:
            return 1.0
        # special.chdtr is scipy.stats.chi2.cdf without its checks, which take most of the time.
        below = special.chdtr(self.df, self.df * np.maximum(self.largest, 0.0) ** 2 / t**2)
        return float(below @ self.weights)


def family(loads: Array, df: float, *, one_sided: bool = False) -> Family:
    """Return the distribution of the largest statistic of a family of contrasts.

    Args:
        loads: (k, m) what each contrast takes of m independent errors: for independent cells its
            weights (such as -1, 1, 0) times the cells' standard deviations. Only ratios within a
            row matter.
        df: Degrees of freedom of the estimated variances.
        one_sided: Of the largest t rather than the largest |t|.

    Examples:
        >>> one = family(np.array([[-1.0, 1.0]]), df=4)
        >>> round(critical_value([one], 0.05), 2), round(float(stats.t.ppf(0.975, 4)), 2)
        (2.78, 2.78)
    """
    norms = np.sqrt((loads**2).sum(axis=1, keepdims=True))
    loads = loads[norms[:, 0] > 0] / norms[norms[:, 0] > 0]
    loads = loads[:, np.abs(loads).sum(axis=0) > 0]
    if len(loads) <= 1:
        # One statistic: its quantiles are known.
        single = stats.norm.ppf((np.arange(DRAWS) + 0.5) / DRAWS)
        return _compressed(single if one_sided else np.abs(single), df)
    draws = DRAWS
    while draws > 1 << 10 and draws * max(loads.shape) > _LARGEST:
        draws //= 2
    statistics = _normal_draws(draws, loads.shape[1]) @ loads.T
    largest = (statistics if one_sided else np.abs(statistics)).max(axis=1)
    return _compressed(largest, df)


@lru_cache(maxsize=4)
def _normal_draws(draws: int, dimensions: int) -> Array:
    points = qmc.Sobol(dimensions, scramble=True, rng=20181021).random(draws)
    return np.asarray(special.ndtri(np.clip(points, 1e-12, 1 - 1e-12)))


def _compressed(draws: Array, df: float) -> Family:
    """Keep the largest draws, and the means of blocks of the others."""
    draws = np.sort(draws)
    split = len(draws) - len(draws) // _UPPER
    blocks = draws[:split].reshape(-1, _BLOCK).mean(axis=1)
    weights = np.r_[np.full(len(blocks), _BLOCK), np.ones(len(draws) - split)] / len(draws)
    return Family(np.r_[blocks, draws[split:]], weights, df)


def adjusted_p(families: Sequence[Family], t: float) -> float:
    """Return the probability that the largest statistic of all families is above t.

    Args:
        families: Independent ones, such as those of different data sets.
        t: The statistic of one contrast, without its sign in two-sided families.
    """
    below = 1.0
    for each in families:
        below *= 1.0 - each.tail(t)
    return min(1.0, max(0.0, 1.0 - below))


def critical_value(families: Sequence[Family], level: float) -> float:
    """Return the value that the largest statistic exceeds with a given probability.

    Args:
        families: Independent ones; together they are tested at `level`.
        level: The familywise error, above 0 and below 1.

    Returns:
        The value; simultaneous intervals are difference ± value · standard error.

    Examples:
        Dunnett's table for three treatments and 20 degrees of freedom has 2.54:

        >>> many_to_one = np.array([[-1.0, 1, 0, 0], [-1, 0, 1, 0], [-1, 0, 0, 1]])
        >>> round(critical_value([family(many_to_one, df=20)], 0.05), 2)
        2.54
    """
    high = 4.0
    while adjusted_p(families, high) > level and high < 1e6:
        high *= 2
    return float(optimize.brentq(lambda t: adjusted_p(families, t) - level, 1e-6, high, xtol=1e-5))
