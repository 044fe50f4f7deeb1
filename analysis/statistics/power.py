"""What a comparison could have seen, and how many replicates a margin needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import optimize, special

from mixbench.analysis.statistics.max_t import Array
from mixbench.analysis.statistics.units import variance_of_mean

POWER = 0.8
"""The probability with which a detectable effect is found."""
_MOST = 10_000
_NODES = 96


def power(effect: float, df: float, critical: float) -> float:
    """Return the probability that a two-sided t test finds an effect.

    P(|T| > critical) for T noncentral t, as the mean over the chi-squared distribution of the
    estimated variance; `scipy.stats.nct` gives NaN with few degrees of freedom and large effects.

    Args:
        effect: The true difference in standard errors.
        df: The degrees of freedom of the standard error.
        critical: The critical value of |t|.

    Examples:
        >>> from scipy import stats
        >>> round(power(0.5 / 0.46 * 9**0.5, 8, float(stats.t.ppf(0.975, 8))), 2)
        0.81
    """
    nodes, weights = _chi2_nodes(df)
    limit = critical * np.sqrt(nodes / df)
    return float((special.ndtr(effect - limit) + special.ndtr(-limit - effect)) @ weights)


def detectable(standard_error: float, df: float, critical: float, wanted: float = POWER) -> float:
    """Return the true difference that is found with a given probability.

    Args:
        standard_error: Of the difference, in the metric's unit.
        df: Its degrees of freedom.
        critical: The critical value of |t|, which may be that of a family.
        wanted: The probability, above the level of the test and below 1.

    Returns:
        The difference, in the metric's unit.

    Examples:
        >>> from scipy import stats
        >>> t = float(stats.t.ppf(0.975, 4))
        >>> round(detectable(0.46 / 5**0.5, 4, t), 2)
        0.77
    """
    return _found(df, critical, wanted) * standard_error


def replicates_needed(
    margin: float,
    deviation: float,
    reference: Callable[[int], tuple[float, float]],
    wanted: float = POWER,
    overlap: float = 0.0,
) -> int | None:
    """Return how many replicates find a difference of the margin with a given probability.

    Args:
        margin: The smallest difference that matters, above 0, in the metric's unit.
        deviation: The standard deviation of the difference of one replicate, in the same unit.
        reference: From the number of replicates (2 or more) to degrees of freedom and the
            critical value.
        wanted: The probability.
        overlap: Of replicates that are folds, see `units.variance_of_mean`: no number of them is
            enough for a small margin.

    Returns:
        The number, at least 2; None where 10,000 are not enough.

    Examples:
        >>> from scipy import stats
        >>> def alone(n): return n - 1, float(stats.t.ppf(0.975, n - 1))
        >>> [replicates_needed(margin, 0.46, alone) for margin in (0.3, 0.5, 1.0)]
        [21, 9, 4]
    """

    def effect(n: int) -> float:
        return margin / (deviation * math.sqrt(variance_of_mean(n, overlap)))

    def enough(n: int) -> bool:
        return power(effect(n), *reference(n)) >= wanted

    if deviation <= 0:
        return 2
    low, high = 1, 2
    while not enough(high):
        low, high = high, high * 2
        if low >= _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


@lru_cache(maxsize=4096)
def _found(df: float, critical: float, wanted: float) -> float:
    """Return the effect in standard errors that is found with a given probability."""
    high = critical + 2.0
    while power(high, df, critical) < wanted:
        high *= 2
    return float(optimize.brentq(lambda e: power(e, df, critical) - wanted, 0.0, high, xtol=1e-5))


@lru_cache(maxsize=4096)
def _chi2_nodes(df: float) -> tuple[Array, Array]:
    """Return values of a chi-squared variable and their weights.

    The trapezoidal rule on its logarithm, whose density falls off fast on both sides: far more
    exact than it needs to be.
    """
    spread = 10 * math.sqrt(2 / df)
    logs = np.linspace(-spread - 50 / df, spread, _NODES)
    weights = np.exp(df / 2 * (logs - np.expm1(logs)))
    return df * np.exp(logs), weights / weights.sum()
