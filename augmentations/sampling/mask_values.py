"""The classes or objects that masks of whole numbers show: for methods that choose among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixbench.augmentations.checks import describe, readable

if TYPE_CHECKING:
    from mixbench.augmentations.sampling.draws import Draws

VALUES = 256
"""Masks have values below this."""
IGNORED_VALUE = 255
"""The value of pixels that nobody has labelled; never chosen."""


def mask_values(draws: Draws, name: str) -> Tensor:
    """Return the batch's masks as whole numbers: (B, H, W) int64.

    Args:
        draws: With the masks of the batch: bool, or whole numbers from 0 to 255.
        name: The method, for messages.

    Raises:
        ValueError: They have another shape, dtype or, where they can be read at once, other values.
    """
    masks, size = draws.masks, (draws.batch, draws.height, draws.width)
    fits = masks is not None and tuple(masks.shape) == size
    if masks is None or not fits or masks.is_floating_point() or masks.is_complex():
        raise ValueError(
            f"{name}: expected masks {size} of whole numbers or bool, got {describe(masks)}"
        )
    values = masks.to(torch.int64)
    if readable(values) and values.numel():
        low, high = (int(end) for end in values.aminmax())
        if low < 0 or high >= VALUES:
            raise ValueError(
                f"{name}: expected masks with values from 0 to {VALUES - 1}, got {low} to {high}"
            )
    return values.clamp(0, VALUES - 1)


def values_in(masks: Tensor) -> Tensor:
    """Tell which values each mask has, 255 left out.

    Args:
        masks: (N, H, W) int64, from 0 to 255.

    Returns:
        (N, 256) bool.

    Examples:
        >>> values_in(torch.tensor([[[0, 3], [3, 255]]])).nonzero().tolist()
        [[0, 0], [0, 3]]
    """
    found = torch.zeros(len(masks), VALUES, dtype=torch.bool, device=masks.device)
    found.scatter_(1, masks.flatten(1), True)
    found[:, IGNORED_VALUE] = False
    return found


def pixels_of_values(masks: Tensor, chosen: Tensor) -> Tensor:
    """Mark the pixels with chosen values.

    Args:
        masks: (N, H, W) int64, from 0 to 255.
        chosen: (N, 256), of any dtype.

    Returns:
        1 at these pixels, 0 elsewhere: (N, 1, H, W) float32.
    """
    marked = chosen.float().gather(1, masks.flatten(1))
    return marked.view(len(masks), 1, *masks.shape[1:])
