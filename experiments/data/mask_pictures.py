"""Pictures of masks: the colours of the classes over the images."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.augmentations import Method
from mixbench.augmentations.dense_targets import DenseTargets
from mixbench.experiments.config.tasks import with_inner

COLOURS = (
    (213, 94, 0),
    (0, 158, 115),
    (0, 114, 178),
    (240, 228, 66),
    (204, 121, 167),
    (86, 180, 233),
    (230, 159, 0),
)
"""Of class 1, 2, ..., and again (Okabe and Ito's palette); class 0 keeps its pixels."""
_OPACITY = 0.5


def masks_for(method: Method, targets: Tensor) -> Tensor:
    """Return the masks (B,H,W) for a method that asks for them, of targets (B,2,H,W).

    Copy-Paste gets the objects, all other methods the classes.
    """
    return targets[:, int(any(one.name == "copy_paste" for one in with_inner(method)))]


def soft_masks(targets: Tensor, classes: int) -> Tensor:
    """Return the classes of targets (B,2,H,W) as soft masks (B,K,H,W)."""
    labels = targets[:, :1].long()
    return DenseTargets(labels, torch.ones(labels.shape)).dense(classes)


def tinted(images: Tensor, soft: Tensor) -> Tensor:
    """Return images with the colours of classes over them, where blended by their shares.

    Args:
        images: (B,C,H,W) from 0 to 255, C 1 or 3.
        soft: (B,K,H,W) float, the shares of classes.

    Returns:
        (B,3,H,W) uint8.

    Examples:
        >>> soft = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1)
        >>> tinted(torch.full((1, 1, 1, 1), 100), soft).flatten().tolist()
        [156, 97, 50]
    """
    count = soft.shape[1]
    palette = [COLOURS[number % len(COLOURS)] for number in range(count - 1)]
    colours = torch.tensor([(0, 0, 0), *palette], dtype=torch.float32)
    shown = _OPACITY * soft[:, 1:].sum(1, keepdim=True)
    over = _OPACITY * torch.einsum("bkhw,kc->bchw", soft, colours)
    return (images.float() * (1 - shown) + over).round().clamp(0, 255).to(torch.uint8)
