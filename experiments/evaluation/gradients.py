"""Gradients of a network's output by its input images."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def input_gradients(network: nn.Module) -> Iterator[None]:
    """Differentiate by images alone: evaluation mode, no gradients for parameters.

    Afterwards everything is as before: parameters keep their values, their `.grad` and their
    `requires_grad`, modules their mode.

    Args:
        network: Whose input gradients are wanted.
    """
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    modes = [(module, module.training) for module in network.modules()]
    with torch.inference_mode(False), torch.enable_grad():
        try:
            network.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, was in wanted:
                parameter.requires_grad_(was)
            for module, training in modes:
                module.training = training


def slope(total: Tensor, images: Tensor, *, keep: bool = False) -> Tensor:
    """The gradient of `total` by the images: 0 where it does not depend on them.

    Args:
        total: A scalar, summed over images.
        images: (B,C,H,W).
        keep: Whether another gradient of the same computation follows.

    Returns:
        (B,C,H,W).
    """
    if not total.requires_grad:
        return torch.zeros_like(images)
    (gradient,) = torch.autograd.grad(total, images, retain_graph=keep, allow_unused=True)
    return torch.zeros_like(images) if gradient is None else gradient.detach()
