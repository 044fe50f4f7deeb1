"""The method of every step of one training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mixbench import augmentations
from mixbench.experiments.staging.methods import method_at
from mixbench.experiments.staging.moments import Moment
from mixbench.experiments.staging.spans import PhaseSpans, Span
from mixbench.experiments.staging.values import changing, value_at


class Schedule:
    """The method of every step of one training.

    phases: the resolved phases; None for a run without staging.
    """

    def __init__(
        self,
        augmentation: Mapping[str, Any],
        phases: Sequence[Mapping[str, Any]] | None,
        steps: int,
        steps_per_epoch: int,
    ) -> None:
        self._mix = augmentations.create(**augmentation)
        self._is_staged = phases is not None
        self._phases = () if phases is None else tuple(phases)
        self._steps_per_epoch = steps_per_epoch
        self._spans = PhaseSpans(self._phases, steps, steps_per_epoch)
        self._no_mixing = augmentations.create("none")
        self._methods = [method_at(phase, augmentation, 0.0) for phase in self._phases]
        self._changing = [changing(phase) for phase in self._phases]

    @property
    def deepest(self) -> int:
        """The deepest layer of a network at which any phase mixes; 0: images alone."""
        if not self._is_staged:
            return self._mix.deepest
        return max((method.deepest for method in self._methods), default=0)

    def method(
        self, step: int, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> augmentations.Method:
        """Return the method of step `step` (from 0), which draws nothing where nothing is mixed.

        accuracies: of all epochs before the step's. A change in a phase that ends at a plateau is
        on its way to the latest step at which that comes, and is cut off when it comes.
        """
        if not self._is_staged:
            return self._mix
        spans = self._spans.at(accuracies, unfreezings)
        number = _phase_at(spans, step)
        if number == 0 or self._pauses(number, spans[number - 1], step):
            return self._no_mixing
        method = self._methods[number - 1]
        values = self._changing[number - 1]
        if values:
            method = method.with_values(_values_at(values, spans[number - 1], step))
        return method if method.prob else self._no_mixing

    def phase(
        self, step: int, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> int:
        """Return the number of the phase of step `step`, from 1; 0 outside of all."""
        return _phase_at(self._spans.at(accuracies, unfreezings), step)

    def waits_for_plateau(
        self, step: int, points: Sequence[Moment], unfreezings: Sequence[int | None]
    ) -> bool:
        """Return whether the phase or gap at `step` ends at a plateau, seen before the training.

        points: the moments of the unfreezings, of which `unfreezings` are the steps.
        """
        return self._spans.wait_for_plateau(step, points, unfreezings)

    def _pauses(self, number: int, span: Span, step: int) -> bool:
        every = self._phases[number - 1].get("every", 1)
        first = span[0] // self._steps_per_epoch
        return bool((step // self._steps_per_epoch - first) % every)


def _phase_at(spans: Sequence[Span], step: int) -> int:
    for number, (start, end) in enumerate(spans, start=1):
        if start <= step < end:
            return number
    return 0


def _values_at(values: Mapping[str, Mapping[str, Any]], span: Span, step: int) -> dict[str, float]:
    # From exactly `from` at the phase's first step to exactly `to` at its last.
    share = (step - span[0]) / max(1, span[1] - 1 - span[0])
    return {key: value_at(value, share) for key, value in values.items()}
