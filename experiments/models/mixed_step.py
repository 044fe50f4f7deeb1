"""A training step on mixed images but for its update: training and measurements share it.

batch = mix_batch(plan, images, labels, classes)
logits = logits_of_mixed(network, network, layers, batch)
loss = Loss.of(...)(batch.targets, logits)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from mixbench.augmentations.integrations.hooks import mixing_inside
from mixbench.augmentations.plans.base import Batch, Plan


def mix_batch(plan: Plan, images: Tensor, labels: Tensor, classes: int) -> Batch:
    """Mix images (B, C, H, W) and labels (B,) as planned."""
    return Batch(plan.mix_images(images), plan.mix_labels(labels, classes), plan)


def logits_of_mixed(
    model: nn.Module, network: nn.Module, layers: Sequence[str] | None, batch: Batch
) -> Tensor:
    """Logits (B, K) of a mixed batch, with the features mixed where its plan mixes features.

    model: `network`, or what wraps it. layers: as `mixing_inside` takes them.
    """
    with mixing_inside(network, batch.plan, layers):
        return cast(Tensor, model(batch.images))
