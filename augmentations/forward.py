"""What the loss of a method gets: forward passes, and the criterion of the training.

loss = method.loss(Forward(run, criterion), clean, mixed)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from mixbench.augmentations.networks.attention import seen_attention, unwrapped, why_no_attention
from mixbench.augmentations.plans.base import Batch
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.targets import Targets

Run = Callable[[Batch], Tensor]
Criterion = Callable[[Targets, Tensor], Tensor]


class Forward:
    """Runs the network that is trained; see `Method.loss`.

    Args:
        run: Returns the network's logits of a batch, its mixing inside the network included.
        criterion: The loss of a training, a mean over the batch, from targets and logits.
        network: The network that `run` runs, for `watch`.
    """

    def __init__(
        self, run: Run, criterion: Criterion, network: torch.nn.Module | None = None
    ) -> None:
        self._run = run
        self._network = network
        self._criterion = criterion
        self._seen: list[tuple[Batch, Tensor]] = []

    def __call__(self, batch: Batch) -> Tensor:
        """Return the logits (B, num_classes) of a batch, with gradients for the network."""
        logits = self._run(batch)
        self._seen.append((batch, logits.detach()))
        return logits

    def watch(self, batch: Batch, what: str) -> tuple[Tensor, Tensor]:
        """Return the logits of a batch, and what is seen inside the network on the way.

        Args:
            batch: As in a call.
            what: "attention": of the class token in the last block of a ViT of timm, (B, h, w)
                float32, without a gradient.

        Raises:
            ValueError: The network has no such thing.
        """
        if what != "attention":
            raise ValueError(f"what: got {what!r}, expected attention")
        if self._network is None:
            raise ValueError("watch: expected the network, got None")
        network = unwrapped(self._network)
        reason = why_no_attention(network)
        if reason is not None:
            raise ValueError(f"attention: {reason}")
        with seen_attention(network) as seen:
            logits = self(batch)
        if not seen:
            raise ValueError("attention: the last block did not run (was the network compiled?)")
        return logits, seen[-1]

    def loss(self, targets: Targets, logits: Tensor) -> Tensor:
        """Return the loss of the training, such as the cross-entropy: a number, float32."""
        return self._criterion(targets, logits)

    def seen(self, batch: Batch) -> Tensor | None:
        """Return the logits of the first pass with this batch, detached; None without one."""
        return next((logits for known, logits in self._seen if known is batch), None)


def clean_batch(images: Tensor, labels: Tensor, num_classes: int | None = None) -> Batch:
    """Return a batch as it is: its own labels, and a plan that changes nothing.

    Args:
        images: (B, C, H, W) floating point, or features.
        labels: (B,) int64, or (B, num_classes) floating point.
        num_classes: The number of classes, to check the labels with.
    """
    plan = unmixed(images)
    return Batch(images, plan.mix_labels(labels, num_classes), plan)


def unmixed(images: Tensor) -> Blend:
    """Return a plan that leaves these images as they are.

    Args:
        images: (B, C, H, W), or features.
    """
    keep = torch.ones(1, 1, 1, 1, device=images.device, dtype=torch.float32)
    return Blend(keep.expand(len(images), -1, -1, -1))


class HasLoss(Protocol):
    """A method, as far as its loss goes."""

    @property
    def has_loss(self) -> bool:
        """Whether it has a loss of its own."""

    def loss(self, forward: Forward, clean: Batch, mixed: Batch) -> Tensor:
        """Return the loss of a training batch; see `Method.loss`."""


def step_loss(method: HasLoss, forward: Forward, clean: Batch | None, mixed: Batch) -> Tensor:
    """Return the loss of a training batch: the method's own, or that of the mixed batch.

    Args:
        method: The method that mixed the batch.
        forward: The forward passes of this step.
        clean: The batch before mixing; None will do for a method without a loss of its own.
        mixed: The mixed batch.
    """
    if clean is None or not method.has_loss:
        return forward.loss(mixed.targets, forward(mixed))
    return method.loss(forward, clean, mixed)
