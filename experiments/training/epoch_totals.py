"""Sums over the steps of an epoch: loss, mixing statistics and time."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.realised import UNIT, sum_realised
from mixbench.experiments.ranks import Ranks
from mixbench.experiments.training.history import CONFIDENT

PLANS = 32
"""Summarise mixing every 32 steps: for each step alone it would cost as much as mixing."""


class EpochMeans(NamedTuple):
    """Over the images of all ranks. mixing: the sums of `sum_realised`, for `staging_row`.

    unlabelled: `unlabelled/...`, of a training with images without labels.
    """

    loss: float
    own_weight: float
    images: float
    mixing: list[float]
    unlabelled: dict[str, float]


class EpochTotals:
    """The sums so far over this rank's images of one epoch, and the seconds they took.

    Loss and own label weight of every step; with a staging also the sums of `sum_realised`.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.clear()

    def clear(self) -> None:
        """Start the next epoch."""
        self.loss = torch.zeros((), device=self._device)
        self.own_weight = torch.zeros((), device=self._device)
        self._mixing = torch.zeros(3, dtype=torch.int64, device=self._device)
        self._plans: list[Plan] = []
        # Loss, share that counts, and images, of images without labels.
        self._unlabelled = torch.zeros(3, device=self._device)
        self.images = 0
        self.images_of_all_ranks = 0
        self.seconds = 0.0

    def add(self, loss: Tensor, plan: Plan, images: int, images_of_all_ranks: int) -> None:
        """Count a step with its mean `loss`."""
        self.loss += loss * images
        self.own_weight += plan.own_share().sum()
        self.images += images
        self.images_of_all_ranks += images_of_all_ranks

    def add_unlabelled(self, loss: Tensor, confident: Tensor, images: int) -> None:
        """Count the images without labels of a step: mean loss, and the share that counts."""
        ones = torch.ones_like(loss)
        self._unlabelled += torch.stack([loss, confident.to(loss), ones]) * images

    def add_mixing(self, plan: Plan) -> None:
        """Add the mixing statistics of a step, in a run with a staging."""
        self._plans.append(plan)
        if len(self._plans) == PLANS or not plan.is_small:
            self.mixing()

    def mixing(self) -> Tensor:
        """The sums of `sum_realised` over all steps so far."""
        if self._plans:
            self._mixing += sum_realised(self._plans)
            self._plans = []
        return self._mixing

    def start_clock(self) -> None:
        """Start the clock, in addition to the seconds so far."""
        self._started = time.monotonic() - self.seconds

    def stop_clock(self) -> None:
        """Bring `seconds` up to date."""
        self.seconds = time.monotonic() - self._started

    def images_per_second(self) -> float:
        """Of all ranks, while the clock runs."""
        return self.images_of_all_ranks / max(1e-9, time.monotonic() - self._started)

    def means(self, ranks: Ranks) -> EpochMeans:
        """The means over all ranks, which all call this."""
        values = [self.loss.item(), self.own_weight.item(), float(self.images)]
        values += [*self._unlabelled.tolist(), *self.mixing().tolist()]
        tensor = torch.tensor(values, dtype=torch.float64)
        loss, own_weight, images, *rest = ranks.total(tensor).tolist()
        of_loss, confident, seen, *mixing = rest
        unlabelled = {}
        if seen:
            unlabelled = {"unlabelled/loss": of_loss / seen, CONFIDENT: confident / seen}
        own = own_weight / max(1, images)
        return EpochMeans(loss / max(1, images), own, images, mixing, unlabelled)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "loss": self.loss.cpu(),
            "own": self.own_weight.cpu(),
            "mixed": self.mixing().cpu(),
            "unlabelled": self._unlabelled.cpu(),
            "seen": self.images,
            "of_all": self.images_of_all_ranks,
            "seconds": self.seconds,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.loss = state["loss"].to(self._device)
        self.own_weight = state["own"].to(self._device)
        # Older checkpoints have none, and are of runs without a staging.
        self._plans = []
        self._mixing = state.get("mixed", torch.zeros(3, dtype=torch.int64)).to(self._device)
        self._unlabelled = state.get("unlabelled", torch.zeros(3)).to(self._device)
        self.images, self.images_of_all_ranks = state["seen"], state["of_all"]
        self.seconds = state["seconds"]


def staging_row(phase: int, means: EpochMeans) -> dict[str, float]:
    """What an epoch with a staging realised; without means if no image was mixed.

    phase: at the epoch's end.
    """
    images, own_share, area = (value / UNIT for value in means.mixing)
    row: dict[str, float] = {"staging/phase": phase, "mix/prob": images / max(1, means.images)}
    if images:
        row |= {"mix/lambda": own_share / images, "mix/area": area / images}
    return row
