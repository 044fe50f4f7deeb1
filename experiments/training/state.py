"""What a training keeps while it goes on: an epoch's sums, the history, and both in checkpoints."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.realised import UNIT, sum_realised
from mixbench.experiments.ranks import Ranks
from mixbench.experiments.store import checkpoint
from mixbench.experiments.training.plan_prefetch import PlansAhead
from mixbench.experiments.training.schedules import Course

log = logging.getLogger(__name__)
CHECKPOINT_SECONDS = 30.0
CHECKPOINT_SHARE = 0.015
"""The most of the time that may go into checkpoints: large ones are written less often."""


PLANS = 32
"""Of so many steps it is looked at once what mixing came to."""


class Beat(Protocol):
    """Says that the work goes on, with the progress where there is any; raises to end the run."""

    def __call__(self, progress: dict[str, Any] | None, *, force: bool = False) -> None: ...


class Sums:
    """What an epoch has added up so far over this rank's images.

    Loss and own weight of all; with a staging also what mixing came to, as `sum_realised`,
    of many steps at a time: the plans of each alone would cost as much as the mixing itself.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.clear()

    def clear(self) -> None:
        self.loss = torch.zeros((), device=self._device)
        self.own = torch.zeros((), device=self._device)
        self._mixed = torch.zeros(3, dtype=torch.int64, device=self._device)
        self._plans: list[Plan] = []
        self.seen = 0
        self.of_all = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, own: Tensor, images: int) -> None:
        self.loss += loss * images
        self.own += own
        self.seen += images

    def mix(self, plan: Plan) -> None:
        """One more step of a staging has mixed."""
        self._plans.append(plan)
        if len(self._plans) == PLANS or not plan.is_small:
            self.mixed()

    def mixed(self) -> Tensor:
        """As `sum_realised`, of all steps so far."""
        if self._plans:
            self._mixed += sum_realised(self._plans)
            self._plans = []
        return self._mixed

    def tensor(self) -> Tensor:
        values = [self.loss.item(), self.own.item(), float(self.seen), *self.mixed().tolist()]
        return torch.tensor(values, dtype=torch.float64)

    def state(self) -> dict[str, Any]:
        return {
            "loss": self.loss.cpu(),
            "own": self.own.cpu(),
            "mixed": self.mixed().cpu(),
            "seen": self.seen,
            "of_all": self.of_all,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.loss = state["loss"].to(self._device)
        self.own = state["own"].to(self._device)
        # Older checkpoints have none, and are of runs without a staging.
        self._plans = []
        self._mixed = state.get("mixed", torch.zeros(3, dtype=torch.int64)).to(self._device)
        self.seen, self.of_all = state["seen"], state["of_all"]
        self.seconds = state["seconds"]


def staging_row(phase: int, seen: float, mixed: list[float]) -> dict[str, float]:
    """What an epoch with a staging realised; without means where no image was mixed.

    phase: at the epoch's end. mixed: summed over all ranks, as `Sums` has it.
    """
    images, own, area = (value / UNIT for value in mixed)
    row: dict[str, float] = {"staging/phase": phase, "mix/prob": images / max(1, seen)}
    if images:
        row |= {"mix/lambda": own / images, "mix/area": area / images}
    return row


class History:
    """`metrics.jsonl`, with its length at the last checkpoint, and the sums over epochs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.length = 0
        self.seconds = 0.0
        self.images = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0

    def begin(self) -> None:
        self.path.write_bytes(b"")

    def add(self, row: dict[str, Any], seconds: float, images: int) -> None:
        with self.path.open("r+b") as file:
            # Not simply appended: one who was overtaken may have written in the meantime.
            file.truncate(self.length)
            file.seek(self.length)
            file.write((json.dumps(row) + "\n").encode())
            self.length = file.tell()
        self.seconds += seconds
        self.images += images
        if row["validation/accuracy"] > self.best_accuracy:
            self.best_epoch, self.best_accuracy = row["epoch"], row["validation/accuracy"]

    def holds(self, length: int) -> bool:
        return self.path.exists() and self.path.stat().st_size >= length

    def restore(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        # Epochs that ran after the checkpoint will run again.
        with self.path.open("ab") as file:
            file.truncate(self.length)

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "path"}

    def summary(self) -> dict[str, Any]:
        return {
            "train_seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
            "best_epoch": self.best_epoch,
            "best_validation_accuracy": self.best_accuracy,
        }


@dataclass
class Book:
    """Everything that the rest of the training depends on, into the checkpoint and out of it."""

    folder: Path
    device: torch.device
    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    order: torch.Generator
    generators: Mapping[str, torch.Generator | PlansAhead]
    history: History
    course: Course
    sums: Sums
    ranks: Ranks
    beat: Beat
    saved: int = 0
    at: float = field(default_factory=time.monotonic)
    cost: float = 0.0

    def open(self) -> tuple[int, int]:
        """Take up the newest checkpoint that fits; the epoch and batch to go on from, from 0."""
        state = self._newest() if self.ranks.leads else None
        state = self.ranks.share(state)
        if state is None:
            if self.ranks.leads:
                self.history.begin()
            return 0, 0
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        own = state["ranks"][self.ranks.rank]
        for name, generator in self.generators.items():
            generator.set_state(own["generators"][name])
        torch.set_rng_state(own["global_generator"])
        if own["cuda_generator"] is not None:
            torch.cuda.set_rng_state(own["cuda_generator"], self.device)
        self.sums.restore(own["sums"])
        self.order.set_state(state["order"])
        self.course.restore(state.get("accuracies", []))
        self.saved = state["step"]
        if self.ranks.leads:
            self.history.restore(state["history"])
            log.info("going on from step %d", self.saved)
        return state["epoch"], state["position"]

    def _newest(self) -> dict[str, Any] | None:
        for state in checkpoint.load(self.folder):
            if self._fits(state):
                return state
        if checkpoint.exists(self.folder):
            log.warning("no checkpoint can be used: starting over")
        return None

    def _fits(self, state: dict[str, Any]) -> bool:
        """Can the training go on from `state` here?  Said in the log when it can't."""
        device, ranks, length = state["device"], len(state["ranks"]), state["history"]["length"]
        if device != self.device.type:
            # Random numbers of another device are other numbers.
            log.warning("the checkpoint is from %s, this is %s: not used", device, self.device)
        elif ranks != self.ranks.size:
            log.warning("the checkpoint is of %d ranks, not %d: not used", ranks, self.ranks.size)
        elif not self.history.holds(length):
            log.warning("metrics.jsonl is shorter than the checkpoint says: not used")
        else:
            return True
        return False

    def is_due(self) -> bool:
        """Is it time for a checkpoint?"""
        return time.monotonic() - self.at >= max(CHECKPOINT_SECONDS, self.cost / CHECKPOINT_SHARE)

    def save(self, epoch: int, position: int, order: Tensor, step: int) -> None:
        """The state before batch `position` of `epoch`; `order` is that of the epoch's start."""
        started = time.monotonic()
        cuda = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        own = {
            "generators": {name: made.get_state() for name, made in self.generators.items()},
            "global_generator": torch.get_rng_state(),
            "cuda_generator": cuda,
            "sums": self.sums.state(),
        }
        of_all = self.ranks.gather(own)
        if self.ranks.leads:
            state = {
                "epoch": epoch,
                "position": position,
                "step": step,
                "device": self.device.type,
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "scaler": self.scaler.state_dict(),
                "order": order,
                "ranks": of_all,
                "history": self.history.state(),
                "accuracies": self.course.accuracies,
            }
            self.beat(None, force=True)  # overtaken since the last beat: write nothing more
            checkpoint.save(self.folder, state)
        self.saved = step
        self.at = time.monotonic()
        self.cost = self.at - started
