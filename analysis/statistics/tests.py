"""Means, t intervals, seed-paired differences and Holm's correction, on plain numbers.

Nothing here knows about sweeps, tables or figures. Every interval is a two-sided t interval with
ddof=1: with 3, 5 or 10 seeds it covers what it says, where a standard error or a percentile
bootstrap does not.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from scipy import stats

CONFIDENCE = 0.95
SEEDS_WANTED = 5
"""Below this many seeds a t interval is so wide, or so lucky, that a warning belongs beside it."""

Key = TypeVar("Key", bound=Hashable)
Seeded = Mapping[int, float | None]
"""One metric of one cell: seed -> value, None where the run has no value."""


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds; `half_width` is None below two values."""

    n: int
    mean: float | None
    half_width: float | None

    @property
    def low(self) -> float | None:
        return _plus(self.mean, self.half_width, -1)

    @property
    def high(self) -> float | None:
        return _plus(self.mean, self.half_width, 1)


@dataclass(frozen=True)
class Difference(Estimate):
    """A mean of seed-paired differences (cell minus baseline), with its test against zero.

    p: two-sided paired t test; None below two pairs, or when all pairs differ by the same amount.
    p_holm: p corrected over the family in which it was tested; None until `family` has seen it.
    seeds: the seeds that were paired. note: what is missing and why, empty when nothing is.
    """

    p: float | None = None
    p_holm: float | None = None
    seeds: tuple[int, ...] = ()
    note: str = ""

    @property
    def excludes_zero(self) -> bool:
        """Does the interval lie wholly on one side of zero?  False without an interval."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate(values: Sequence[float | None], confidence: float = CONFIDENCE) -> Estimate:
    """The mean of the values that are there, with its t interval (ddof=1)."""
    there = [float(value) for value in values if value is not None and is_number(value)]
    n = len(there)
    if n == 0:
        return Estimate(0, None, None)
    mean = math.fsum(there) / n
    if n == 1:
        return Estimate(1, mean, None)
    error = _deviation(there, mean) / math.sqrt(n)
    return Estimate(n, mean, _quantile(confidence, n - 1) * error)


def paired(cell: Seeded, baseline: Seeded, confidence: float = CONFIDENCE) -> Difference:
    """The differences cell - baseline of the seeds that both have, with interval and p value.

    Seeds that only one side has are left out and named in `note`. When every pair differs by the
    same amount there is no spread to judge by: interval and p are then None, not zero.
    """
    here, there = _numbers(cell), _numbers(baseline)
    seeds = tuple(sorted(here.keys() & there.keys()))
    notes = []
    if only := sorted(here.keys() - there.keys()):
        notes.append(f"the baseline has no value for {_seeds(only)}")
    if only := sorted(there.keys() - here.keys()):
        notes.append(f"no value for {_seeds(only)}")
    gaps = [here[seed] - there[seed] for seed in seeds]
    base = estimate(gaps, confidence)
    p = None
    half_width = base.half_width
    if base.n == 0:
        notes = notes or ["neither side has a value"]
        notes.append("no seed in common")
    elif base.n == 1:
        notes.append(f"one pair ({_seeds(seeds)}): no interval")
    elif base.mean is not None:
        deviation = _deviation(gaps, base.mean)
        scale = max(abs(value) for seed in seeds for value in (here[seed], there[seed]))
        if deviation <= 1e-12 * max(scale, 1e-300):
            half_width = None
            notes.append(f"all {base.n} pairs differ by the same amount: no interval")
        else:
            t = base.mean / (deviation / math.sqrt(base.n))
            p = float(2 * stats.t.sf(abs(t), base.n - 1))
    return Difference(base.n, base.mean, half_width, p, None, seeds, "; ".join(notes))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction, in the order given; a None was not tested and stays None."""
    tested = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, place) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[place] = largest
    return corrected


def family(
    comparisons: Mapping[Key, tuple[Seeded, Seeded]], confidence: float = CONFIDENCE
) -> dict[Key, Difference]:
    """All comparisons of one declared family, (cell, baseline) each, with Holm's correction."""
    differences = {key: paired(*pair, confidence) for key, pair in comparisons.items()}
    corrected = holm([difference.p for difference in differences.values()])
    return {
        key: replace(difference, p_holm=p)
        for (key, difference), p in zip(differences.items(), corrected, strict=True)
    }


def is_number(value: object) -> bool:
    """Is it a finite number?"""
    return isinstance(value, int | float) and math.isfinite(value)


def _numbers(values: Seeded) -> dict[int, float]:
    return {
        seed: float(value)
        for seed, value in values.items()
        if value is not None and is_number(value)
    }


def _deviation(values: Sequence[float], mean: float) -> float:
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def _quantile(confidence: float, freedom: int) -> float:
    return float(stats.t.ppf(0.5 + confidence / 2, freedom))


def _plus(mean: float | None, half_width: float | None, sign: int) -> float | None:
    return None if mean is None or half_width is None else mean + sign * half_width


def _seeds(seeds: Sequence[int]) -> str:
    return ("seed " if len(seeds) == 1 else "seeds ") + ", ".join(map(str, seeds))
