"""Looks at growing data: the level of each look, so that all looks together keep theirs.

Adding replicates until a test is significant is wrong far more often than its level says.
Group-sequential looks spend the level bit by bit (Lan and DeMets, "Discrete sequential boundaries
for clinical trials", Biometrika 70, 1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy import optimize, special

from mixbench.analysis.statistics.max_t import Array

RHO = 1.0
"""The exponent of the spending function: at a share t of the data, level · t^RHO is spent. With 1
an early look can decide, and the last look loses little (Kim and DeMets, Biometrika 74, 1987)."""
_STEP = 0.02
"""The distance of two points of the integration, in standard deviations at the first look."""
_ROOT_2PI = math.sqrt(2 * math.pi)


def look_levels(looks: Sequence[int], level: float = 0.05, rho: float = RHO) -> list[float]:
    """Return the two-sided level to test at in each look.

    The statistics of successive looks are a random walk; the boundaries come from integrating its
    density step by step (Armitage, McPherson and Rowe, JRSS A 132, 1969). With the levels of a
    normal statistic applied to t statistics the error stays as stated up to the approximation
    that simulations in the tests check.

    Args:
        looks: The number of replicates at each look, rising.
        level: The error over all looks, above 0 and below 1.
        rho: The exponent of the spending function, above 0.

    Returns:
        As many levels as looks.

    Raises:
        ValueError: Looks that don't rise, or are below 1.

    Examples:
        >>> [round(level, 4) for level in look_levels([10])]
        [0.05]
        >>> [round(level, 4) for level in look_levels([5, 10, 20])]
        [0.0125, 0.0161, 0.0322]
    """
    if not looks or looks[0] < 1 or any(b <= a for a, b in pairwise(looks)):
        raise ValueError(f"looks: got {list(looks)}, expected numbers that rise")
    return list(_levels(tuple(looks), level, rho))


@lru_cache(maxsize=64)
def _levels(looks: tuple[int, ...], level: float, rho: float) -> tuple[float, ...]:
    times = np.array(looks) / looks[-1]
    to_spend = np.diff(level * times**rho, prepend=0.0)
    spacing = _STEP * float(np.sqrt(times[0]))
    # The walk before the first look: at 0.
    places, masses, last = np.zeros(1), np.ones(1), 0.0
    levels = []
    for time, share in zip(times.tolist(), to_spend.tolist(), strict=True):
        step = math.sqrt(time - last)
        bound = optimize.brentq(_excess, 0.0, 12.0, (places, masses, step, share), xtol=1e-8)
        levels.append(2 * float(special.ndtr(-bound / math.sqrt(time))))
        # Simpson's rule over the walks that go on.
        points = max(3, 2 * int(bound / spacing) + 1)
        new, width = np.linspace(-bound, bound, points, retstep=True)
        weights = np.where(np.arange(points) % 2 == 1, 4.0, 2.0)
        weights[[0, -1]] = 1.0
        kernel = np.exp(-(((new[:, None] - places) / step) ** 2) / 2) / (step * _ROOT_2PI)
        places, masses, last = new, (kernel @ masses) * weights * float(width) / 3, time
    return tuple(levels)


def _excess(bound: float, places: Array, masses: Array, step: float, share: float) -> float:
    """Return the probability that the walk is beyond the bound after a step, minus a share."""
    beyond = special.ndtr((places - bound) / step) + special.ndtr((-bound - places) / step)
    return float(beyond @ masses) - share
