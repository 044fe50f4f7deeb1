"""Resize images to the size a network takes, on their device, as they enter it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Resizing:
    """A forward pre-hook: images (B, C, H, W) of any size become (B, C, size, size).

    Bilinear, and smoothed where it makes them smaller (a plain bilinear sample would skip pixels).
    A hook, not a module around the network: names of layers and weights stay as they are.
    """

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, _network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *rest = arguments
        return (resized(images, self.size), *rest)


def resized(images: Tensor, size: int) -> Tensor:
    """Images (B, C, H, W) as (B, C, size, size); the very same where they have that size."""
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    shrinks = max(height, width) > size
    return F.interpolate(images, (size, size), mode="bilinear", antialias=shrinks)
