"""Save a training to `checkpoint.pt` in the run's folder, and continue from it."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from torch import Tensor

from mixbench.experiments.store import checkpoint
from mixbench.experiments.training.control import Control
from mixbench.experiments.training.state import TrainingState

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 30.0
CHECKPOINT_SHARE = 0.015
"""The largest share of the time that checkpoints may take: large ones are written less often."""


class Checkpoints:
    """Writes and reads the checkpoints of one training. All ranks call all of it together."""

    def __init__(
        self, folder: Path, state: TrainingState, control: Control, steps_per_epoch: int
    ) -> None:
        self._folder = folder
        self._state = state
        self._control = control
        self._steps_per_epoch = steps_per_epoch
        self.last_step = 0
        self._last_time = time.monotonic()
        self._seconds = 0.0

    def resume(self) -> tuple[int, int]:
        """Load the newest checkpoint that fits; the epoch and batch to continue at, from 0."""
        ranks = self._control.ranks
        stored = ranks.share(self._newest() if ranks.leads else None)
        if stored is None:
            if ranks.leads:
                self._state.history.begin()
            return 0, 0
        self._state.restore(stored, ranks.rank)
        self.last_step = stored["step"]
        if ranks.leads:
            self._state.history.restore(stored["history"])
            log.info("going on from step %d", self.last_step)
        return stored["epoch"], stored["position"]

    def is_due(self) -> bool:
        """Is it time for a checkpoint?"""
        pause = max(CHECKPOINT_SECONDS, self._seconds / CHECKPOINT_SHARE)
        return time.monotonic() - self._last_time >= pause

    def save(self, epoch: int, position: int, order: Tensor) -> None:
        """Save the state before batch `position` of `epoch`.

        order: the state of the stream `order` at the beginning of that epoch.
        """
        started = time.monotonic()
        ranks = self._control.ranks
        step = epoch * self._steps_per_epoch + position
        of_ranks = ranks.gather(self._state.of_rank())
        if ranks.leads:
            stored = {
                "epoch": epoch,
                "position": position,
                "step": step,
                "order": order,
                "ranks": of_ranks,
                **self._state.of_all(),
            }
            # A worker that was overtaken since its last heartbeat must write nothing more.
            self._control.beat(None, force=True)
            checkpoint.save(self._folder, stored)
        self.last_step = step
        self._last_time = time.monotonic()
        self._seconds = self._last_time - started

    def _newest(self) -> dict[str, Any] | None:
        for stored in checkpoint.load(self._folder):
            if self._fits(stored):
                return stored
        if checkpoint.exists(self._folder):
            log.warning("no checkpoint can be used: starting over")
        return None

    def _fits(self, stored: dict[str, Any]) -> bool:
        """Can this training continue from `stored`?  If not, the log says why."""
        device, size = self._state.learner.device, self._control.ranks.size
        ranks, length = len(stored["ranks"]), stored["history"]["length"]
        if stored["device"] != device.type:
            # Random numbers of another device are other numbers.
            log.warning("the checkpoint is from %s, this is %s: not used", stored["device"], device)
        elif ranks != size:
            log.warning("the checkpoint is of %d ranks, not %d: not used", ranks, size)
        elif not self._state.history.holds(length):
            log.warning("metrics.jsonl is shorter than the checkpoint says: not used")
        else:
            return True
        return False
