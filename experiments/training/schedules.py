"""What changes over one training: the learning rate, the method that mixes, the frozen layers.

All of it follows from the configuration and the validation accuracies so far.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mixbench import augmentations
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.staging.moments import Moment, steps_of
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.staging.spans import Length, check_order


def learning_rate(step: int, steps: int, config: TrainingConfig) -> float:
    """The rate of step `step` (from 0) of `steps`: a rise over `warmup`, then a half cosine to 0.

    "one_cycle" rises from 1/25 of the rate along a half cosine, as in Smith & Topin 2018
    (arXiv:1708.07120); "cosine" rises linearly if it is given a warm-up.
    """
    rising = (config.warmup or 0.0) * steps
    if step < rising:
        share = (step + 1) / (rising + 1)
        if config.schedule == "one_cycle":
            share = 1 / 25 + (1 - 1 / 25) * (1 - math.cos(math.pi * share)) / 2
        return config.learning_rate * share
    done = (step - rising) / max(1.0, steps - rising)
    return config.learning_rate * (1 + math.cos(math.pi * done)) / 2


class TrainingSchedules:
    """Which method mixes a step, and how much of the network it trains.

    accuracies: on the validation split, of all epochs so far; the only state.
    moments: when layers are unfrozen; None: as the configuration alone says it.
    """

    def __init__(
        self,
        config: RunConfig,
        steps: int,
        steps_per_epoch: int,
        moments: Sequence[Moment] | None = None,
    ) -> None:
        self.accuracies: list[float] = []
        self._steps = steps
        self._steps_per_epoch = steps_per_epoch
        self._phases = config.phases
        self._entered: int | None = None
        self._schedule = Schedule(config.augmentation, config.phases, steps, steps_per_epoch)
        if moments is None:
            moments = config.unfreezings
        self._moments = moments
        if config.phases is not None:
            # Check once more, now that the steps and the unfreezings are known exactly.
            check_order(config.phases, Length(config.training.epochs, steps_per_epoch, moments))
        self._unfreezings: list[int | None] = []
        self._update()

    def observe(self, accuracy: float) -> None:
        """Note the validation accuracy of an epoch that has ended."""
        self.accuracies.append(accuracy)
        self._update()

    def restore(self, accuracies: Sequence[float]) -> None:
        """Continue a training that had these accuracies."""
        self.accuracies = list(accuracies)
        self._update()

    def method(self, step: int) -> augmentations.Method:
        """What mixes step `step` (from 0)."""
        return self._schedule.method(step, self.accuracies, self._unfreezings)

    def unfreezings(self, step: int) -> int:
        """How many unfreezings come before step `step`."""
        return sum(at is not None and at <= step for at in self._unfreezings)

    @property
    def staged(self) -> bool:
        """Is there a staging?"""
        return self._phases is not None

    def entered(self, step: int) -> str | None:
        """A line for the log if step `step` is in another phase than the step asked for before."""
        if self._phases is None:
            return None
        before, self._entered = self._entered, self.phase(step)
        if self._entered == before:
            return None
        if not self._entered:
            return "staging: outside of all phases, nothing is mixed"
        return f"staging: phase {self._entered} of {len(self._phases)}"

    def phase(self, step: int) -> int:
        """The staging's phase at step `step`, from 1; 0 outside of all phases."""
        return self._schedule.phase(step, self.accuracies, self._unfreezings)

    def _update(self) -> None:
        self._unfreezings = steps_of(
            self._moments, self._steps, self._steps_per_epoch, self.accuracies
        )
