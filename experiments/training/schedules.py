"""What changes over one training: the method that mixes, and how much of the network is trained.

Known from the configuration and the validation accuracies so far, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from mixbench import augmentations
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.staging.moments import Moment, steps_of
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.staging.spans import Length, check_order


class Course:
    """The schedules of one training; `accuracies` is all that it has to remember.

    moments: when the unfreezings come; None: as far as the configuration says it.
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
            # Once more, now that the steps and the unfreezings are known exactly.
            check_order(config.phases, Length(config.training.epochs, steps_per_epoch, moments))
        self._unfreezings: list[int | None] = []
        self._look()

    def observe(self, accuracy: float) -> None:
        """An epoch has ended with this validation accuracy."""
        self.accuracies.append(accuracy)
        self._look()

    def restore(self, accuracies: Sequence[float]) -> None:
        """Go on where a training was interrupted that had seen these."""
        self.accuracies = list(accuracies)
        self._look()

    def method(self, step: int) -> augmentations.Method:
        """What mixes step `step` (from 0)."""
        return self._schedule.method(step, self.accuracies, self._unfreezings)

    def unfreezings(self, step: int) -> int:
        """How many unfreezings come before step `step` is done."""
        return sum(at is not None and at <= step for at in self._unfreezings)

    @property
    def staged(self) -> bool:
        """Is there a staging?"""
        return self._phases is not None

    def entered(self, step: int) -> str | None:
        """A line where step `step` is in another phase than the step that was asked for before."""
        if self._phases is None:
            return None
        before, self._entered = self._entered, self.phase(step)
        if self._entered == before:
            return None
        if not self._entered:
            return "staging: outside of all phases, nothing is mixed"
        return f"staging: phase {self._entered} of {len(self._phases)}"

    def phase(self, step: int) -> int:
        """The number, from 1, of the staging's phase that step `step` is in; 0 outside of all."""
        return self._schedule.phase(step, self.accuracies, self._unfreezings)

    def _look(self) -> None:
        self._unfreezings = steps_of(
            self._moments, self._steps, self._steps_per_epoch, self.accuracies
        )
