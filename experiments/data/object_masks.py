"""Exact masks of objects on a black background, and images that carry theirs as a channel."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from mixbench.experiments.data.split import ArraySplit


def object_masks(images: Tensor) -> Tensor:
    """Exact masks of objects on a black background: all that is not 0, with holes closed.

    A hole is black and surrounded by the object, side by side, such as a black stripe or a dark
    print; what is between the legs of trousers is open to the border and stays background.

    Args:
        images: (N,C,H,W) uint8.

    Returns:
        (N,H,W) bool.

    Examples:
        >>> ring = torch.tensor([[[[0, 9, 9, 9], [0, 9, 0, 9], [0, 9, 9, 9]]]])
        >>> object_masks(ring)[0].int().tolist()
        [[0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1]]
    """
    shown = (images > 0).any(dim=1).cpu().numpy()
    filled = np.stack([ndimage.binary_fill_holes(one) for one in shown])
    return torch.from_numpy(filled).to(images.device)


def with_mask_channel(split: ArraySplit) -> ArraySplit:
    """Return the split with each image's mask, 0 or 255, as its last channel.

    So a mask goes through the same crops and flips as its image.
    """

    def masked(images: Tensor) -> Tensor:
        masks = object_masks(images).unsqueeze(1).to(images.dtype) * 255
        return torch.cat([images, masks], dim=1)

    whole = None if split.whole is None else masked(split.whole)
    return ArraySplit(masked(split.images), split.labels, whole)
