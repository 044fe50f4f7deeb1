"""Heartbeats, stops and other ranks: what controls a training besides its configuration."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.signals import Stopped


class Paused(Stopped):
    """The training has got as far as it may for now; its state is saved."""


class Beat(Protocol):
    """Send a heartbeat, with the progress if there is any; raises to end the run."""

    def __call__(self, progress: dict[str, Any] | None, *, force: bool = False) -> None: ...


class Order(enum.IntEnum):
    """What rank 0 wants all ranks to do before a step."""

    GO = 0
    SAVE = 1
    STOP = 2


@dataclass(frozen=True)
class Control:
    """beat: called at every step. stopping: asked before every step. ranks: who trains together."""

    beat: Beat
    stopping: Callable[[], bool] = lambda: False
    ranks: Ranks = ALONE

    def order(self, checkpoint_is_due: Callable[[], bool]) -> Order:
        """What this rank wants: only rank 0 decides."""
        if not self.ranks.leads:
            return Order.GO
        if self.stopping():
            return Order.STOP
        return Order.SAVE if checkpoint_is_due() else Order.GO

    def beat_or_stop(self, progress: dict[str, Any] | None, *, force: bool = False) -> None:
        """As `beat`; raises Stopped if the work is to stop."""
        self.beat(progress, force=force)
        if self.stopping():
            raise Stopped("between two epochs")
