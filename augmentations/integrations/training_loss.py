"""The loss of a batch, in a training loop of one's own, with any method in one line."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mixbench.augmentations.bank import Bank
from mixbench.augmentations.forward import Criterion, Forward, clean_batch
from mixbench.augmentations.integrations.hooks import mixing_inside
from mixbench.augmentations.method import Method
from mixbench.augmentations.networks.views import NetworkView
from mixbench.augmentations.plans.base import Batch
from mixbench.augmentations.sampling.operations import Normalisation
from mixbench.augmentations.targets import Targets


def training_loss(
    mix: Method,
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    generator: torch.Generator | None = None,
    criterion: Criterion | None = None,
    masks: Tensor | None = None,
    model: NetworkView | None = None,
    bank: Bank | None = None,
    normalisation: Normalisation | None = None,
    layers: Sequence[str] | None = None,
) -> Tensor:
    """Mix a batch, run the network and return the loss to call `backward` of: any method, one line.

    This is for training loops of one's own, and the only way there to use a method with a loss of
    its own (several views or terms) or one that needs earlier batches.

    Args:
        mix: The method.
        network: The network, in training mode.
        images: (B, C, H, W) floating point.
        labels: (B,) int64, or (B, num_classes) floating point.
        num_classes: The number of classes.
        generator: Source of the random numbers, on the images' device; None for its default one.
        criterion: Returns the loss of (targets, logits); None for `Targets.cross_entropy`.
        masks: As in `Method.sample`, for a method that needs them.
        model: A `NetworkView` of the network, for a method that needs it; None to make one.
        bank: A `Bank`, always the same one, for a method that needs earlier batches.
        normalisation: As in `Method.sample`, for a method that needs it.
        layers: The layers of the network to mix at, as in `mixing_inside`.

    Returns:
        A number, float32, with gradients for the network.

    Raises:
        ValueError: Something that the method needs is missing, or of another shape.

    Examples:
        >>> import mixbench, torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 10))
        >>> images, labels = torch.rand(6, 3, 4, 4), torch.arange(6)
        >>> loss = mixbench.training_loss(
        ...     mixbench.create("regmixup"), network, images, labels, num_classes=10
        ... )
        >>> loss.backward()
        >>> network[1].weight.grad.shape
        torch.Size([10, 48])
    """
    if model is None and "model" in mix.needs:
        model = NetworkView(network)
    mixed = mix(
        images,
        labels,
        num_classes,
        generator,
        masks=masks,
        model=model,
        bank=bank,
        normalisation=normalisation,
    )
    clean = clean_batch(images, labels, num_classes)

    def run(batch: Batch) -> Tensor:
        with mixing_inside(network, batch.plan, layers):
            logits: Tensor = network(batch.images)
        return logits

    forward = Forward(run, criterion or Targets.cross_entropy, network)
    loss = mix.loss(forward, clean, mixed)
    if bank is not None:
        bank.clear()
        mix.remember(bank, clean, mixed, forward.seen(mixed))
    return loss
