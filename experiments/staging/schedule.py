"""The method of every step of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixbench import augmentations
from mixbench.experiments.config.staging import StagingConfig
from mixbench.experiments.staging.moments import Moment
from mixbench.experiments.staging.spans import Span, Times
from mixbench.experiments.staging.values import changes, method_at, value_at


class Schedule:
    """The method of every step of one training."""

    def __init__(
        self,
        augmentation: dict[str, Any],
        staging: StagingConfig | None,
        steps: int,
        steps_per_epoch: int,
    ) -> None:
        self._mix = augmentations.create(**augmentation)
        self.phases = () if staging is None else staging.phases
        self._staged = staging is not None
        self._steps_per_epoch = steps_per_epoch
        self._times = Times(self.phases, steps, steps_per_epoch)
        self._nothing = augmentations.create("none")
        self._methods = [method_at(phase, augmentation, 0.0) for phase in self.phases]
        self._changes = [changes(phase) for phase in self.phases]

    @property
    def deepest(self) -> int:
        """The deepest layer of a network at which any phase mixes; 0: images alone."""
        if not self._staged:
            return self._mix.deepest
        return max((method.deepest for method in self._methods), default=0)

    def method(
        self, step: int, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> augmentations.Method:
        """The method of step `step` (from 0), which draws nothing where nothing is mixed.

        accuracies: of all epochs before the step's. A change in a phase that ends at a plateau is
        on its way to where that comes at the latest, and is cut off when it comes.
        """
        if not self._staged:
            return self._mix
        spans = self._times.spans(accuracies, unfreezings)
        number = _within(spans, step)
        if number == 0 or self._pauses(number, spans[number - 1], step):
            return self._nothing
        made = self._methods[number - 1]
        changing = self._changes[number - 1]
        if changing:
            made = made.having(_values(changing, spans[number - 1], step))
        return made if made.prob else self._nothing

    def phase(
        self, step: int, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> int:
        """The number of the phase that step `step` is in, from 1; 0 outside of all."""
        return _within(self._times.spans(accuracies, unfreezings), step)

    def waits(self, step: int, points: Sequence[Moment], unfreezings: Sequence[int | None]) -> bool:
        """Planned before the training: is the end of what holds at `step` still to be found?

        points: the moments of the unfreezings, of which `unfreezings` are the steps.
        """
        return self._times.waits(step, points, unfreezings)

    def _pauses(self, number: int, span: Span, step: int) -> bool:
        every = self.phases[number - 1].get("every", 1)
        first = span[0] // self._steps_per_epoch
        return bool((step // self._steps_per_epoch - first) % every)


def _within(spans: Sequence[Span], step: int) -> int:
    for number, (start, end) in enumerate(spans, start=1):
        if start <= step < end:
            return number
    return 0


def _values(changing: Mapping[str, Mapping[str, Any]], span: Span, step: int) -> dict[str, float]:
    # From exactly `from` at the phase's first step to exactly `to` at its last.
    share = (step - span[0]) / max(1, span[1] - 1 - span[0])
    return {key: value_at(value, share) for key, value in changing.items()}
