"""Schedules of equal dose: the same amount of mixing, at different times of the training.

The dose is a share of what the method does when it mixes in every step, with its own `prob`: the
mean over all steps of the probability of mixing, divided by `prob`. It is matched within half a
step, whatever the number of epochs and of steps in an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mixbench.experiments.errors import UserError

CONSTANT, EARLY, LATE = "constant", "early", "late"
RAMP_UP, RAMP_DOWN, ALTERNATE = "ramp_up", "ramp_down", "alternate"
DOSE_SHAPES = (CONSTANT, EARLY, LATE, RAMP_UP, RAMP_DOWN, ALTERNATE)

_Phases = tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Dose:
    """A dose above 0 and at most 1, and one of `DOSE_SHAPES`."""

    share: float
    shape: str

    @property
    def name(self) -> str:
        """What the schedule is called, such as "dose 0.5 late"."""
        return f"dose {self.share!r} {self.shape}"

    def phases(self, augmentation: Mapping[str, Any], epochs: int) -> _Phases:
        """Return the phases, as a user would write them, of a run with this augmentation.

        They don't depend on the steps of an epoch, which may not be known yet.

        Raises UserError where there are too few epochs to alternate.
        """
        if self.share == 1:
            return ({},)
        # As they are written: 0.1 is a tenth.
        dose, prob = Fraction(repr(self.share)), Fraction(repr(float(augmentation["prob"])))
        if self.shape == CONSTANT:
            return ({"prob": float(dose * prob)},)
        if self.shape == ALTERNATE:
            return self._alternating(dose, epochs)
        if self.shape == EARLY:
            return ({"to": float(dose)},)
        if self.shape == LATE:
            return ({"from": float(1 - dose)},)
        if 2 * dose <= 1:
            ends = {"from": 0.0, "to": float(2 * dose * prob)}
            if self.shape == RAMP_DOWN:
                ends = {"from": ends["to"], "to": 0.0}
            return ({"prob": ends},)
        # A ramp to the method's own `prob` has half the dose of its steps; the rest has all.
        if self.shape == RAMP_UP:
            return ({"to": float(2 - 2 * dose), "prob": {"from": 0.0}}, {})
        return ({"to": float(2 * dose - 1)}, {"prob": {"to": 0.0}})

    def _alternating(self, dose: Fraction, epochs: int) -> _Phases:
        """Return whole epochs, evenly spread; what is missing or too much is of the last block."""
        count = math.ceil(epochs * dose - Fraction(1, 2))
        if count < 2 or count == epochs:
            more = math.floor(Fraction(3, 2) / dose) + 1
            least = max(more, math.ceil(Fraction(1, 2) / (1 - dose)))
            raise UserError(
                f"staging.shape: got 'alternate' with match_dose {self.share!r}, expected at least "
                f"{least} epochs, so that it mixes at two times and pauses between, got {epochs}"
            )
        turns = [(2 * count * epoch + epochs) // (2 * epochs) for epoch in range(epochs + 1)]
        mixing = [epoch for epoch in range(epochs) if turns[epoch + 1] > turns[epoch]]
        rest = epochs * dose - count
        every = mixing[1] - mixing[0]
        if not rest and every > 1 and mixing == list(range(mixing[0], epochs, every)):
            start = {"from": f"epoch {mixing[0]}"} if mixing[0] else {}
            return ({**start, "every": every},)
        blocks: list[tuple[int, int]] = []
        for epoch in mixing:
            if blocks and blocks[-1][1] == epoch:
                blocks[-1] = (blocks[-1][0], epoch + 1)
            else:
                blocks.append((epoch, epoch + 1))
        phases: list[dict[str, Any]] = [
            {"from": f"epoch {first}" if first else 0.0, "to": f"epoch {end}"}
            for first, end in blocks
        ]
        first, end = blocks[-1]
        if rest > 0 and end == epochs:
            phases[-1]["from"] = float((first - rest) / epochs)
        elif rest:
            phases[-1]["to"] = float((end + rest) / epochs)
        if phases[-1]["to"] == f"epoch {epochs}":
            phases[-1]["to"] = 1.0
        return tuple(phases)
