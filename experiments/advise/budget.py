"""What a budget of time buys: how many methods, epochs, settings and replicates.

The rule, in order; what a later line needs is never taken from an earlier one:

1. two methods on two replicates, at the fewest epochs; less is refused,
2. more epochs, up to the usual number, as long as 12 runs are left (two methods, six replicates),
3. a second method from 18 runs on, a third from 40,
4. from 40 runs on the methods' `prob` is tuned, at most a third of the time; from 120 the learning
   rate too, for all of them and for no mixing,
5. the rest are replicates; from 120 runs on epochs grow to three times the usual number first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

METHODS = ("cutmix", "mixup", "cutout")
"""In the order in which a budget takes them."""
SECOND, THIRD, TUNED, RICH = 18, 40, 40, 120
"""How many runs it takes for a second and a third method, for tuning, and for more epochs."""
FEWEST_RUNS, SOUND_RUNS = 4, 12
PROBS = (0.5, 1.0)
RATES = (1 / 3, 1.0)
"""Tried learning rates, as shares of the proposed one."""
HALVING_AT = 0.5
MOST_TUNING = 1 / 3
MOST_REPLICATES = 50


class TooShort(Exception):
    """The budget is below that of the smallest comparison. seconds: that of a run, and of all."""

    def __init__(self, run: float, needed: float) -> None:
        super().__init__(f"one run takes {run:.0f} s, the smallest comparison {needed:.0f} s")
        self.run, self.needed = run, needed


@dataclass(frozen=True)
class Costs:
    """What was measured before planning, in seconds.

    Attributes:
        epoch: An epoch of one run, with its validation.
        rest: Of one run, what is not training: reading, measuring.
        workers: How many runs are done at a time.
        startup: Until workers train, and from the last result to the answer.
    """

    epoch: float
    rest: float
    workers: int = 1
    startup: float = 0.0

    def run(self, epochs: int) -> float:
        """Return the seconds of a run of so many epochs."""
        return self.epoch * epochs + self.rest

    def runs(self, seconds: float, epochs: int) -> float:
        """Return how many runs of so many epochs are done in this time, in parts."""
        return max(0.0, seconds - self.startup) * self.workers / self.run(epochs)


@dataclass(frozen=True)
class TrialPlan:
    """What is tried.

    Attributes:
        epochs: Of every run.
        methods: Beside no mixing.
        probs: Values of `augmentation.prob` that are tried for each method; empty: its default.
        rates: Learning rates that are tried for all, as shares of the proposed one; empty: that.
        tuning_replicates: On which settings are chosen; 0 where none are.
        replicates: On which all are compared.
    """

    epochs: int
    methods: tuple[str, ...]
    probs: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    tuning_replicates: int = 0
    replicates: int = 1

    @property
    def cells(self) -> int:
        """How many are compared, no mixing included."""
        return 1 + len(self.methods)

    @property
    def tuning_runs(self) -> float:
        """How much tuning costs, in whole runs: the poorer half is stopped half-way."""
        rates = len(self.rates) or 1
        settings = [len(self.probs or (1.0,)) * rates] * len(self.methods) + [rates]
        tried = [count for count in settings if count > 1]
        done = sum(
            math.ceil(count / 2) + (count - math.ceil(count / 2)) * HALVING_AT for count in tried
        )
        return done * self.tuning_replicates


def plan(seconds: float, costs: Costs, usual: int, fewest: int, *, tunes: bool = True) -> TrialPlan:
    """Return what a budget buys, by the rule above.

    Args:
        seconds: What is left of the budget.
        costs: What was measured.
        usual: The epochs that such a training usually has.
        fewest: Those below which it says nothing.
        tunes: Whether settings may be tuned.

    Raises:
        TooShort: The smallest comparison doesn't fit.
    """
    if costs.runs(seconds, fewest) < FEWEST_RUNS:
        run = costs.run(fewest)
        raise TooShort(run, run * FEWEST_RUNS / costs.workers + costs.startup)
    epochs = _epochs(seconds, costs, usual, fewest)
    runs = costs.runs(seconds, epochs)
    methods = METHODS[: 1 + (runs >= SECOND) + (runs >= THIRD)]
    found = TrialPlan(epochs, methods)
    if tunes and runs >= TUNED:
        found = _tuned(found, runs)
    left = runs - found.tuning_runs
    replicates = max(1, min(MOST_REPLICATES, int(left / found.cells)))
    return TrialPlan(epochs, methods, found.probs, found.rates, found.tuning_replicates, replicates)


def more_replicates(
    seconds: float, run: float, workers: int, cells: int, replicates: int, overhead: float
) -> int:
    """Return how many replicates there can be in all, with so much time left.

    Args:
        seconds: What is left of the budget.
        run: The seconds of a run, as measured in this trial.
        workers: How many runs are done at a time.
        cells: How many are compared.
        replicates: How many are done.
        overhead: Seconds until workers train again, and until the answer is written.
    """
    rounds = math.floor(max(0.0, seconds - overhead) * workers / (run * cells))
    return min(MOST_REPLICATES, replicates + rounds)


def _epochs(seconds: float, costs: Costs, usual: int, fewest: int) -> int:
    most = usual
    if costs.runs(seconds, usual) > RICH:
        most, wanted = 3 * usual, RICH
    else:
        wanted = SOUND_RUNS
    # The largest number of epochs that leaves `wanted` runs.
    budget = max(0.0, seconds - costs.startup) * costs.workers
    fit = math.floor((budget / wanted - costs.rest) / costs.epoch)
    return max(usual if wanted == RICH else fewest, min(most, fit))


def _tuned(found: TrialPlan, runs: float) -> TrialPlan:
    """Tune as much as a third of the runs allows."""
    rates = RATES if runs >= RICH else ()
    best = found
    for replicates in (1, 2, 3):
        tried = TrialPlan(found.epochs, found.methods, PROBS, rates, replicates)
        if tried.tuning_runs <= MOST_TUNING * runs:
            best = tried
    return best
