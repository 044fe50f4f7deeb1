"""When the phases of a training begin and end, in steps, and what about that is known beforehand.

Every moment in the order of the phases (`from` and `to` of the first, of the second, ...) is looked
for since the one before it, and comes at the latest where the next fixed one comes, or at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.moments import Moment, is_fixed, latest, step_of

Span = tuple[int, int]
"""The first step of a phase, and the one after its last."""


class Times:
    """The steps of some resolved phases in one training."""

    def __init__(
        self, phases: Sequence[Mapping[str, Any]], steps: int, steps_per_epoch: int
    ) -> None:
        self._moments: list[Moment] = [phase[key] for phase in phases for key in ("from", "to")]
        self._steps = steps
        self._steps_per_epoch = steps_per_epoch
        self._known: tuple[tuple[float, ...], tuple[int | None, ...]] | None = None
        self._spans: tuple[Span, ...] = ()
        self._limits = self._latest()

    def spans(
        self, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> tuple[Span, ...]:
        """Of each phase; what is not known yet is taken to come as late as it can.

        Which steps of the epochs so far are in which phase does not change when more is known.
        """
        known = tuple(accuracies), tuple(unfreezings)
        if known != self._known:
            self._known = known
            self._spans = self._found(*known)
        return self._spans

    def waits(self, step: int, points: Sequence[Moment], unfreezings: Sequence[int | None]) -> bool:
        """See `Schedule.waits`."""
        edges = [edge for span in self.spans((), unfreezings) for edge in span]
        for edge, moment in zip(edges, self._moments, strict=True):
            if edge > step:
                return not is_fixed(_in_its_place(moment, points))
        return False

    def _latest(self) -> list[int]:
        limits: list[int] = []
        limit = self._steps
        for moment in reversed(self._moments):
            if is_fixed(moment):
                limit = min(limit, self._step(moment))
            limits.append(limit)
        return limits[::-1]

    def _step(self, moment: Moment) -> int:
        return step_of(moment, self._steps, self._steps_per_epoch) or 0

    def _found(
        self, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> tuple[Span, ...]:
        found: list[int] = []
        at = 0
        before: Moment | None = None
        for number, (moment, limit) in enumerate(zip(self._moments, self._limits, strict=True)):
            # Written twice, as the end of one phase and the start of the next, it is one moment.
            if number % 2 or moment != before:
                step = step_of(
                    moment,
                    self._steps,
                    self._steps_per_epoch,
                    since=at,
                    accuracies=accuracies,
                    unfreezings=unfreezings,
                )
                # An unfreezing may have come before the phase that it is to end.
                at = max(at, limit if step is None else min(step, limit))
            found.append(at)
            before = moment
        return tuple(zip(found[::2], found[1::2], strict=True))


def check(
    phases: Sequence[Mapping[str, Any]],
    epochs: int,
    steps_per_epoch: int,
    unfreezings: Sequence[Moment] | None,
) -> None:
    """Raise UserError for phases that overlap, are reversed or have no step, as far as is known.

    unfreezings: the moments of `transfer.unfreeze`; None where they are not known yet.
    """
    steps = epochs * steps_per_epoch
    edges = [
        _Edge.of(f"staging.phases[{number}].{key}", phase[key], epochs, unfreezings)
        for number, phase in enumerate(phases)
        for key in ("from", "to")
    ]
    floor, before = 0.0, ""
    floors: list[float] = []
    for edge in edges:
        if edge.latest is not None and edge.latest > 1:
            raise UserError(
                f"{edge.where}: got {edge.moment!r}, expected at most 'epoch {epochs}', the end of "
                "the training"
            )
        if edge.latest is not None and edge.latest < floor:
            raise UserError(
                f"{edge.where}: got {edge.moment!r}, expected nothing before {before}: phases come "
                "in order and don't overlap"
            )
        floors.append(edge.earliest or (floors[-1] if floors else 0.0))
        if edge.latest is not None:
            floor, before = edge.latest, f"{edge.moment!r}, {edge.where}"
    ceiling = 1.0
    ceilings = []
    for edge in reversed(edges):
        ceiling = ceiling if edge.latest is None else edge.latest
        ceilings.append(ceiling)
    longest = zip(phases, floors[::2], ceilings[-2::-2], strict=True)
    for number, (phase, first, last) in enumerate(longest):
        if round(last * steps) <= round(first * steps):
            raise UserError(
                f"staging.phases[{number}].to: got {phase['to']!r}, expected something later: from "
                f"{phase['from']!r} on, the phase has none of the training's {steps} steps"
            )


@dataclass(frozen=True)
class _Edge:
    """Where a phase begins or ends, as shares of the training, so far as they are known."""

    where: str
    moment: Moment
    earliest: float | None
    latest: float | None

    @classmethod
    def of(
        cls, where: str, moment: Moment, epochs: int, unfreezings: Sequence[Moment] | None
    ) -> _Edge:
        counted = None if isinstance(moment, float) else moment.split(" ")
        if counted and counted[0] == "unfreeze" and unfreezings is not None:
            if int(counted[1]) > len(unfreezings):
                most = f"at most 'unfreeze {len(unfreezings)}'" if unfreezings else "none of these"
                raise UserError(
                    f"{where}: got {moment!r}, expected {most}, for transfer.unfreeze has "
                    f"{len(unfreezings) or 'none'}"
                )
        told = _in_its_place(moment, unfreezings or ())
        if is_fixed(told):
            share = _share(told, epochs)
            return cls(where, moment, share, share)
        limit = latest(told)
        return cls(where, moment, None, None if limit is None else _share(limit, epochs))


def _in_its_place(moment: Moment, unfreezings: Sequence[Moment]) -> Moment:
    """For an unfreezing, the moment at which it comes, so far as that is known."""
    if isinstance(moment, float) or not moment.startswith("unfreeze"):
        return moment
    number = int(moment.split(" ")[1])
    return unfreezings[number - 1] if number <= len(unfreezings) else moment


def _share(fixed: Moment, epochs: int) -> float:
    """The part of the training that is over by a fixed moment."""
    return fixed if isinstance(fixed, float) else int(fixed.split(" ")[1]) / epochs
