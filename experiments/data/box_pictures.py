"""Pictures of boxes: their outlines over the images, in the colours of their classes."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.augmentations.box_targets import BoxTargets
from mixbench.experiments.data.mask_pictures import COLOURS


def outlined(images: Tensor, targets: BoxTargets) -> Tensor:
    """Return images with the outlines of their boxes, paler where a box weighs less.

    Args:
        images: (B,C,H,W) from 0 to 255, C 1 or 3.
        targets: Their boxes.

    Returns:
        (B,3,H,W) uint8.
    """
    height, width = images.shape[2:]
    shown = images.float().expand(-1, 3, -1, -1).clone()
    palette = torch.tensor(COLOURS, dtype=torch.float32)
    edges = targets.boxes.round().long().tolist()
    rows = zip(
        targets.sample.tolist(), targets.labels.tolist(), targets.weights.tolist(), strict=True
    )
    for (sample, label, weight), (left, top, right, bottom) in zip(rows, edges, strict=True):
        # The pixels of the border that are in the box.
        x1, y1 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
        x2, y2 = min(max(right, x1 + 1), width), min(max(bottom, y1 + 1), height)
        outline = torch.zeros(height, width, dtype=torch.bool)
        outline[y1:y2, x1:x2] = True
        outline[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1] = False
        colour = palette[label % len(palette)].view(3, 1)
        pixels = shown[sample]
        pixels[:, outline] = (1 - weight) * pixels[:, outline] + weight * colour
    return shown.round().clamp(0, 255).to(torch.uint8)
