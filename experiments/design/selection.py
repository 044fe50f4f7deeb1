"""Choose one of several settings by their scores on tuning replicates: pure functions.

The same scores give the same choice, whoever chooses and in whatever order the runs ended.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mixbench.experiments.design.tune import ONE_SE

ALIKE = 0.03
"""Doses that are less than this apart count as equally strong: so far do they scatter."""


@dataclass(frozen=True)
class Tried:
    """A setting with its scores.

    Attributes:
        values: dotted key -> value.
        scores: The metric on each tuning replicate; the same replicates for all settings.
        dose: The mean dose of its runs (`mix/dose`), None where it is not known.
    """

    values: Mapping[str, Any]
    scores: tuple[float, ...]
    dose: float | None = None

    @property
    def mean(self) -> float:
        """The mean score."""
        return math.fsum(self.scores) / len(self.scores)

    @property
    def standard_error(self) -> float | None:
        """Of the mean score, over replicates; None for a single one."""
        count = len(self.scores)
        if count < 2:
            return None
        mean = self.mean
        spread = math.fsum((score - mean) ** 2 for score in self.scores)
        return math.sqrt(spread / (count - 1) / count)


def best(tried: Sequence[Tried], better: int) -> int:
    """Return the position of the best mean; of equal ones the first.

    Args:
        tried: The settings, in the order in which they were asked for.
        better: 1 where higher scores are better, -1 where lower ones are.
    """
    return max(range(len(tried)), key=lambda place: (better * tried[place].mean, -place))


def ranked(tried: Sequence[Tried], better: int) -> list[int]:
    """Return the positions of the settings from the best to the worst."""
    return sorted(range(len(tried)), key=lambda place: (-better * tried[place].mean, place))


def choose(
    tried: Sequence[Tried], better: int, rule: str, over: Mapping[str, Sequence[Any]]
) -> int:
    """Return the position of the setting that the rule chooses.

    `one_se` (Breiman et al. 1984) takes the weakest of the settings whose mean is within one
    standard error of the best one's, where the standard error is that of the best mean. See
    `by_strength` for which is weaker.

    Args:
        tried: The settings, in the order in which they were asked for.
        better: 1 where higher scores are better, -1 where lower ones are.
        rule: "best" or "one_se".
        over: dotted key -> the values that were tried, in order.
    """
    top = best(tried, better)
    if rule != ONE_SE:
        return top
    reach = tried[top].standard_error or 0.0
    near = {
        place for place, one in enumerate(tried) if better * (tried[top].mean - one.mean) <= reach
    }
    return next(place for place in by_strength(tried, over) if place in near)


def by_strength(tried: Sequence[Tried], over: Mapping[str, Sequence[Any]]) -> list[int]:
    """Return the positions of the settings from the weakest to the strongest.

    Weaker is what mixed less: the smaller realised dose. Doses less than `ALIKE` from the next are
    one dose; there the smaller value is the weaker one, key by key in the order of `over`, numbers
    by their size and all else by its place in the list.
    """
    level = _levels([one.dose or 0.0 for one in tried])
    keys = [
        (level[place], [_size(one.values.get(key), values) for key, values in over.items()], place)
        for place, one in enumerate(tried)
    ]
    return [place for _, _, place in sorted(keys)]


def _levels(doses: Sequence[float]) -> list[int]:
    """Return for each dose how many clear steps are below it."""
    order = sorted(range(len(doses)), key=lambda place: doses[place])
    levels = [0] * len(doses)
    for before, place in pairwise(order):
        levels[place] = levels[before] + (doses[place] - doses[before] >= ALIKE)
    return levels


def _size(value: Any, values: Sequence[Any]) -> float:
    numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in values)
    if numbers:
        # A key that the cell does not have counts for nothing.
        return float(value) if isinstance(value, int | float) else 0.0
    return float(list(values).index(value)) if value in values else 0.0
