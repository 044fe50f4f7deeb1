"""When the phases of a training begin and end, in steps, and what of that is known beforehand.

The moments of all phases (`from` and `to` of the first, of the second, ...) are looked for in
order, each from the one before it on. A moment that has not come when the next fixed one comes, or
at the end of the training, comes then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.moments import Moment, is_fixed, latest, step_of

Span = tuple[int, int]
"""The first step of a phase, and the one after its last."""


@dataclass(frozen=True)
class Length:
    """How long a training is, as far as it is known.

    unfreezings: the moments of `transfer.unfreeze`; None where they are not known yet.
    """

    epochs: int
    steps_per_epoch: int
    unfreezings: Sequence[Moment] | None

    @property
    def steps(self) -> int:
        """All steps of the training."""
        return self.epochs * self.steps_per_epoch


class PhaseSpans:
    """The steps of resolved phases in one training."""

    def __init__(
        self, phases: Sequence[Mapping[str, Any]], steps: int, steps_per_epoch: int
    ) -> None:
        self._moments: list[Moment] = [phase[key] for phase in phases for key in ("from", "to")]
        self._steps = steps
        self._steps_per_epoch = steps_per_epoch
        self._known: tuple[tuple[float, ...], tuple[int | None, ...]] | None = None
        self._spans: tuple[Span, ...] = ()
        self._limits = self._latest_steps()

    def at(
        self, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> tuple[Span, ...]:
        """Return the span of each phase; what is not known yet comes as late as it can.

        Which steps of the epochs so far are in which phase does not change when more is known.
        """
        known = tuple(accuracies), tuple(unfreezings)
        if known != self._known:
            self._known = known
            self._spans = self._compute(*known)
        return self._spans

    def wait_for_plateau(
        self, step: int, points: Sequence[Moment], unfreezings: Sequence[int | None]
    ) -> bool:
        """See `Schedule.waits_for_plateau`."""
        edges = [edge for span in self.at((), unfreezings) for edge in span]
        for edge, moment in zip(edges, self._moments, strict=True):
            if edge > step:
                return not is_fixed(_resolve_unfreezing(moment, points))
        return False

    def _latest_steps(self) -> list[int]:
        limits: list[int] = []
        limit = self._steps
        for moment in reversed(self._moments):
            if is_fixed(moment):
                step = step_of(moment, self._steps, self._steps_per_epoch) or 0
                limit = min(limit, step)
            limits.append(limit)
        return limits[::-1]

    def _compute(
        self, accuracies: Sequence[float], unfreezings: Sequence[int | None]
    ) -> tuple[Span, ...]:
        edges: list[int] = []
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
            edges.append(at)
            before = moment
        return tuple(zip(edges[::2], edges[1::2], strict=True))


def check_order(phases: Sequence[Mapping[str, Any]], length: Length) -> None:
    """Raise UserError for phases that overlap, are reversed or have no step, as far as known."""
    edges = [
        _Edge.of(f"staging.phases[{number}].{key}", phase[key], length)
        for number, phase in enumerate(phases)
        for key in ("from", "to")
    ]
    floors = _earliest_shares(edges, length.epochs)
    ceiling = 1.0
    ceilings = []
    for edge in reversed(edges):
        ceiling = ceiling if edge.latest is None else edge.latest
        ceilings.append(ceiling)
    longest = zip(phases, floors[::2], ceilings[-2::-2], strict=True)
    for number, (phase, first, last) in enumerate(longest):
        if round(last * length.steps) <= round(first * length.steps):
            raise UserError(
                f"staging.phases[{number}].to: got {phase['to']!r}, expected something later: from "
                f"{phase['from']!r} on, the phase has none of the training's {length.steps} steps"
            )


@dataclass(frozen=True)
class _Edge:
    """Where a phase begins or ends, as shares of the training, as far as they are known."""

    where: str
    moment: Moment
    earliest: float | None
    latest: float | None

    @classmethod
    def of(cls, where: str, moment: Moment, length: Length) -> _Edge:
        unfreezings = length.unfreezings
        words = None if isinstance(moment, float) else moment.split(" ")
        if words and words[0] == "unfreeze" and unfreezings is not None:
            if int(words[1]) > len(unfreezings):
                most = f"at most 'unfreeze {len(unfreezings)}'" if unfreezings else "none of these"
                raise UserError(
                    f"{where}: got {moment!r}, expected {most}, for transfer.unfreeze has "
                    f"{len(unfreezings) or 'none'}"
                )
        resolved = _resolve_unfreezing(moment, unfreezings or ())
        if is_fixed(resolved):
            share = _share(resolved, length.epochs)
            return cls(where, moment, share, share)
        limit = latest(resolved)
        return cls(where, moment, None, None if limit is None else _share(limit, length.epochs))


def _earliest_shares(edges: Sequence[_Edge], epochs: int) -> list[float]:
    """Return the earliest share of each edge; UserError where one comes before the last."""
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
    return floors


def _resolve_unfreezing(moment: Moment, unfreezings: Sequence[Moment]) -> Moment:
    """Return the moment of an unfreezing where it is known, any other moment as it is."""
    if isinstance(moment, float) or not moment.startswith("unfreeze"):
        return moment
    number = int(moment.split(" ")[1])
    return unfreezings[number - 1] if number <= len(unfreezings) else moment


def _share(fixed: Moment, epochs: int) -> float:
    """Return the part of the training that is over by a fixed moment."""
    return fixed if isinstance(fixed, float) else int(fixed.split(" ")[1]) / epochs
