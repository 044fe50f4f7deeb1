"""Images whose object fills a given share of them: padded with black, or cropped into the object.

An object is what is not black: its background has to be exactly 0, as Fashion-MNIST's is.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST = 0.25
"""Smallest side of a crop, of the image's: 7 pixels of 28."""
_ROUNDING = 1e-6


def objects(images: Tensor) -> Tensor:
    """The pixels of the object (B,H,W) bool: those above 0 in any channel of (B,C,H,W)."""
    return (images > 0).any(dim=1)


def framed(images: Tensor, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pad or crop each image until its object fills `share` of it.

    An object that fills more is scaled down, in whole pixels, and centred in black. One that fills
    less is cropped: of the largest windows with the image's aspect of which it fills at least
    `share`, that closest to its centre of mass, scaled up.

    Args:
        images: (B,C,H,W) in [0,1].
        share: Of the area.

    Returns:
        Images of the same size; the realised shares (B,); and where it was possible (B,) bool: not
        without an object, nor where a window would be smaller than `LEAST` of the image's side.
    """
    masks = objects(images)
    height, width = masks.shape[1:]
    realised = masks.float().mean(dim=(1, 2))
    result, possible = images.clone(), realised > 0
    factor = (share / realised.clamp(min=1e-9)).sqrt()
    sides = (height * factor).round().clamp(1, height).long()
    is_padded = possible & (sides < height) & (realised > share)
    for side in sides[is_padded].unique().tolist():
        where = (is_padded & (sides == side)).nonzero().squeeze(1)
        columns = max(1, round(side * width / height))
        size = (side, columns)
        small = F.interpolate(images[where], size, mode="bilinear", antialias=True)
        top, left = (height - side) // 2, (width - columns) // 2
        canvas = torch.zeros_like(images[where])
        canvas[:, :, top : top + side, left : left + columns] = small
        result[where] = canvas
        realised[where] *= side * columns / (height * width)
    where = (possible & (realised < share) & ~is_padded).nonzero().squeeze(1)
    if len(where):
        boxes, filled = windows(masks[where], share)
        possible[where] = boxes[:, 2] > 0
        result[where] = _cropped(images[where], boxes)
        realised[where] = filled
    return result, realised, possible


def windows(masks: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The largest window of each mask of which at least `share` is covered.

    Of several of the same size, that whose centre is closest to the mask's centre of mass.

    Args:
        masks: (B,H,W) bool, each with one pixel at least.
        share: Of the window's area.

    Returns:
        Top, left, rows and columns (B,4) int64, all 0 where there is none, and what is covered
        (B,).

    Examples:
        >>> mask = torch.zeros(1, 8, 8, dtype=torch.bool)
        >>> mask[:, 2:6, 3:7] = True
        >>> windows(mask, 1.0)
        (tensor([[2, 3, 4, 4]]), tensor([1.]))
    """
    count, height, width = masks.shape
    # What is covered above and to the left of each corner.
    covered = F.pad(masks.long().cumsum(dim=1).cumsum(dim=2), (1, 0, 1, 0))
    total = covered[:, -1, -1].double()
    rows, columns = (
        torch.arange(side, device=masks.device, dtype=torch.float64) + 0.5
        for side in (height, width)
    )
    middle = (
        (masks.sum(dim=2) * rows).sum(dim=1) / total,
        (masks.sum(dim=1) * columns).sum(dim=1) / total,
    )
    boxes = torch.zeros(count, 4, dtype=torch.int64, device=masks.device)
    filled = torch.zeros(count, device=masks.device)
    for tall in range(height, max(1, math.ceil(LEAST * height)) - 1, -1):
        wide = max(1, round(tall * width / height))
        inside = (
            covered[:, tall:, wide:]
            - covered[:, :-tall, wide:]
            - covered[:, tall:, :-wide]
            + covered[:, :-tall, :-wide]
        )
        fits = inside >= share * tall * wide - _ROUNDING
        found = fits.flatten(1).any(dim=1) & (boxes[:, 2] == 0)
        if not found.any():
            continue
        down = torch.arange(inside.shape[1], device=masks.device) + tall / 2
        right = torch.arange(inside.shape[2], device=masks.device) + wide / 2
        distance = (down - middle[0][:, None]).square()[:, :, None] + (
            right - middle[1][:, None]
        ).square()[:, None, :]
        best = distance.masked_fill(~fits, math.inf).flatten(1).argmin(dim=1)
        top, left = best // inside.shape[2], best % inside.shape[2]
        sides = [torch.full_like(top, side) for side in (tall, wide)]
        boxes = torch.where(found[:, None], torch.stack([top, left, *sides], dim=1), boxes)
        part = inside.flatten(1).gather(1, best[:, None]).squeeze(1) / (tall * wide)
        filled = torch.where(found, part, filled)
    return boxes, filled


def _cropped(images: Tensor, boxes: Tensor) -> Tensor:
    """The boxes, scaled to the size of the images; those without a box as they are."""
    height, width = images.shape[2:]
    whole = torch.tensor([0, 0, height, width], device=images.device)
    boxes = torch.where(boxes[:, 2:3] > 0, boxes, whole)
    along = []
    for first, length, side in ((0, 2, height), (1, 3, width)):
        start, span = boxes[:, first, None], boxes[:, length, None]
        place = (torch.arange(side, device=images.device) + 0.5) * (span / side)
        # Between the centres of the window's own pixels: what is outside of it has no part in it.
        place = start + place.clamp(min=0.5).minimum(span - 0.5)
        along.append(2 * place / side - 1)
    down, right = along
    grid = torch.stack(
        [
            right[:, None, :].expand(-1, height, -1),
            down[:, :, None].expand(-1, -1, width),
        ],
        dim=-1,
    )
    return F.grid_sample(images, grid.to(images.dtype), align_corners=False)
