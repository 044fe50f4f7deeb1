"""Means and t intervals over seeds, on plain numbers.

Every interval is a two-sided t interval with ddof=1: with 3, 5 or 10 seeds it has its nominal
coverage, unlike a standard error or a percentile bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import stats

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics.units import variance_of_mean

CONFIDENCE = 0.95
"""The share of intervals that hold the true mean, if values are normally distributed."""
SEEDS_WANTED = 5
"""Warn below this many seeds: a t interval is then very wide, or narrow by luck."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its t interval, mean ± half_width.

    Attributes:
        n: How many values there are.
        mean: Their mean, in the metric's unit; None without a value.
        half_width: Half the width of the interval, in the same unit; None below two values.
    """

    n: int
    mean: float | None
    half_width: float | None

    @property
    def low(self) -> float | None:
        """The lower end of the interval, None where there is no interval."""
        return _shifted(self.mean, self.half_width, -1)

    @property
    def high(self) -> float | None:
        """The upper end of the interval, None where there is no interval."""
        return _shifted(self.mean, self.half_width, 1)


def estimate(
    values: Sequence[float | None], confidence: float = CONFIDENCE, *, overlap: float = 0.0
) -> Estimate:
    """Return the mean of the values with its t interval.

    The interval is mean ± t(1 - (1 - confidence) / 2, n - 1) · s / √n, with s the standard
    deviation with ddof=1 (Student, "The probable error of a mean", Biometrika 6, 1908).

    Args:
        values: One per seed, in any unit; None and NaN are left out.
        confidence: The part of such intervals that hold the true mean, between 0 and 1.
        overlap: Of replicates that are folds, see `units.variance_of_mean`.

    Returns:
        The estimate; without an interval below two values, without a mean below one.

    Examples:
        >>> accuracy = estimate([0.80, 0.82, None, 0.81])
        >>> accuracy.n, round(accuracy.mean, 4), round(accuracy.half_width, 4)
        (3, 0.81, 0.0248)
        >>> estimate([0.8])
        Estimate(n=1, mean=0.8, half_width=None)
    """
    numbers = [float(value) for value in values if is_number(value)]
    n = len(numbers)
    if n == 0:
        return Estimate(0, None, None)
    mean = math.fsum(numbers) / n
    if n == 1:
        return Estimate(1, mean, None)
    return Estimate(n, mean, _quantile(confidence, n - 1) * _standard_error(numbers, overlap))


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation with ddof=1."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _standard_error(values: Sequence[float], overlap: float) -> float:
    if not overlap:
        return _deviation(values) / math.sqrt(len(values))
    return _deviation(values) * math.sqrt(variance_of_mean(len(values), overlap))


@lru_cache(maxsize=256)
def _quantile(confidence: float, degrees_of_freedom: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom))


def _shifted(mean: float | None, half_width: float | None, sign: int) -> float | None:
    return None if mean is None or half_width is None else mean + sign * half_width
