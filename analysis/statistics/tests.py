"""Means, t intervals, seed-paired differences and Holm's correction, on plain numbers.

Nothing here knows about sweeps, tables or figures. Every interval is a two-sided t interval with
ddof=1: with 3, 5 or 10 seeds it has its nominal coverage, unlike a standard error or a percentile
bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from scipy import stats

from mixbench.analysis.numbers import is_number

CONFIDENCE = 0.95
"""The share of intervals that hold the true mean, if values are normally distributed."""
SEEDS_WANTED = 5
"""Warn below this many seeds: a t interval is then very wide, or narrow by luck."""

Key = TypeVar("Key", bound=Hashable)
Seeded = Mapping[int, float | None]
"""One metric of one cell: seed -> value, None where the run has no value."""


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


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean of seed-paired differences (cell minus baseline), with its test against zero.

    Attributes:
        p: Of the two-sided paired t test; None below two pairs, or when all pairs differ by the
            same amount.
        p_holm: `p` corrected over the family in which it was tested; None outside a family.
        seeds: The seeds that were paired, in order.
        note: What is missing and why, empty when nothing is.
    """

    p: float | None = None
    p_holm: float | None = None
    seeds: tuple[int, ...] = ()
    note: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Tell whether the interval excludes zero; false without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate(values: Sequence[float | None], confidence: float = CONFIDENCE) -> Estimate:
    """Return the mean of the values with its t interval.

    The interval is mean ± t(1 - (1 - confidence) / 2, n - 1) · s / √n, with s the standard
    deviation with ddof=1 (Student, "The probable error of a mean", Biometrika 6, 1908).

    Args:
        values: One per seed, in any unit; None and NaN are left out.
        confidence: The part of such intervals that hold the true mean, between 0 and 1.

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
    return Estimate(n, mean, _quantile(confidence, n - 1) * _standard_error(numbers))


def paired_difference(cell: Seeded, baseline: Seeded, confidence: float = CONFIDENCE) -> Difference:
    """Return the mean of cell - baseline over the seeds that both have, with interval and p.

    Pairing takes out what a seed changes in both alike. The test is the paired t test:
    t = mean / (s / √n) of the n differences, against Student's t with n - 1 degrees of freedom, as
    `scipy.stats.ttest_rel` has it.

    Args:
        cell: seed -> value; None and NaN are left out.
        baseline: seed -> value, in the same unit.
        confidence: Of the interval, between 0 and 1.

    Returns:
        The difference; seeds that only one side has are named in its note. When every pair differs
        by the same amount there is no spread to judge by: interval and p are then None, not zero.

    Examples:
        >>> difference = paired_difference({0: 0.84, 1: 0.83, 2: 0.86}, {0: 0.80, 1: 0.81, 2: 0.83})
        >>> round(difference.mean, 3), round(difference.half_width, 3), round(difference.p, 3)
        (0.03, 0.025, 0.035)
        >>> paired_difference({0: 0.84}, {0: 0.80, 1: 0.81}).note
        'no value for seed 1; one pair (seed 0): no interval'
    """
    here, there = _numbers(cell), _numbers(baseline)
    seeds = tuple(sorted(here.keys() & there.keys()))
    differences = [here[seed] - there[seed] for seed in seeds]
    notes = _unpaired(here, there)
    base = estimate(differences, confidence)
    half_width, p = base.half_width, None
    if base.n == 0:
        notes = [*(notes or ["neither side has a value"]), "no seed in common"]
    elif base.n == 1:
        notes.append(f"one pair ({_seeds(seeds)}): no interval")
    elif base.mean is not None:
        largest = max(abs(value) for seed in seeds for value in (here[seed], there[seed]))
        if _deviation(differences) <= 1e-12 * max(largest, 1e-300):
            half_width = None
            notes.append(f"all {base.n} pairs differ by the same amount: no interval")
        else:
            t = base.mean / _standard_error(differences)
            p = float(2 * stats.t.sf(abs(t), base.n - 1))
    return Difference(base.n, base.mean, half_width, p, None, seeds, "; ".join(notes))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for testing several hypotheses at once, by Holm's step-down method.

    Of m p values in rising order, the i-th (from 0) becomes the largest of
    min(1, (m - j) · p_j) for j ≤ i (Holm, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6, 1979).

    Args:
        p_values: From 0 to 1; None for what was not tested.

    Returns:
        The corrected values in the order given; None stays None and is not counted.

    Examples:
        >>> holm([0.03, None, 0.01, 0.02])
        [0.04, None, 0.03, 0.04]
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[index] = largest
    return corrected


def compare_family(
    comparisons: Mapping[Key, tuple[Seeded, Seeded]], confidence: float = CONFIDENCE
) -> dict[Key, Difference]:
    """Test all comparisons of one family, with Holm's correction over the family.

    Args:
        comparisons: Any key -> (cell, baseline), each seed -> value.
        confidence: Of the intervals, which are not corrected.

    Returns:
        key -> difference, in the same order, with `p_holm`.

    Examples:
        >>> base = {0: 0.80, 1: 0.81, 2: 0.83}
        >>> differences = compare_family({
        ...     "cutmix": ({0: 0.84, 1: 0.83, 2: 0.86}, base),
        ...     "mixup": ({0: 0.81, 1: 0.81, 2: 0.82}, base),
        ... })
        >>> round(differences["cutmix"].p, 3), round(differences["cutmix"].p_holm, 3)
        (0.035, 0.07)
    """
    differences = {key: paired_difference(*pair, confidence) for key, pair in comparisons.items()}
    corrected = holm([difference.p for difference in differences.values()])
    return {
        key: replace(difference, p_holm=p)
        for (key, difference), p in zip(differences.items(), corrected, strict=True)
    }


def _numbers(values: Seeded) -> dict[int, float]:
    return {seed: float(value) for seed, value in values.items() if is_number(value)}


def _unpaired(here: Mapping[int, float], there: Mapping[int, float]) -> list[str]:
    notes = []
    if only := sorted(here.keys() - there.keys()):
        notes.append(f"the baseline has no value for {_seeds(only)}")
    if only := sorted(there.keys() - here.keys()):
        notes.append(f"no value for {_seeds(only)}")
    return notes


def _deviation(values: Sequence[float]) -> float:
    """Return the standard deviation with ddof=1."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _standard_error(values: Sequence[float]) -> float:
    return _deviation(values) / math.sqrt(len(values))


@lru_cache(maxsize=256)
def _quantile(confidence: float, degrees_of_freedom: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, degrees_of_freedom))


def _shifted(mean: float | None, half_width: float | None, sign: int) -> float | None:
    return None if mean is None or half_width is None else mean + sign * half_width


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))
