"""Resize images to the size a network takes, on their device, as they enter it."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class Resizing:
    """A forward pre-hook: images (B, C, H, W) of any size become squares, or (B, C, *size).

    Bilinear, and smoothed where it makes them smaller (a plain bilinear sample would skip pixels).
    A hook, not a module around the network: names of layers and weights stay as they are.
    """

    def __init__(self, size: int | tuple[int, int]) -> None:
        self.size = size

    def __call__(self, _network: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        images, *rest = arguments
        return (resized(images, self.size), *rest)


def resized(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) as (B, C, *size), or squares; the very same where they have that size."""
    height, width = images.shape[-2:]
    high, wide = (size, size) if isinstance(size, int) else size
    if (height, width) == (high, wide):
        return images
    shrinks = height > high or width > wide
    return F.interpolate(images, (high, wide), mode="bilinear", antialias=shrinks)
