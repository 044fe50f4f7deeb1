"""How well maps of images point at boxes: three scores, and what a flat map scores.

Maps are (B,H,W), at least 0. Boxes are (B,K,4): left, top, right, bottom as fractions of the image,
K of each image; one without an area is ignored. A map without a positive value is taken for a flat
one, and scores the chance level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

TIE = 1e-5
"""Values as near to the largest as this share of it are its equals: interpolation rounds."""

_WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_AN_IMAGE[1] = True


@dataclass(frozen=True)
class Scores:
    """The scores of each image, (B,) float64, from 0 to 1.

    Attributes:
        pointing: Whether the maximum is in a box.
        iou: Overlap of the map's box with the best of the boxes.
        energy: The map's share in the boxes.
        pointing_chance: `pointing` of a flat map.
        iou_chance: `iou` of a flat map.
        energy_chance: `energy` of a flat map.
    """

    pointing: Tensor
    iou: Tensor
    energy: Tensor
    pointing_chance: Tensor
    iou_chance: Tensor
    energy_chance: Tensor


def scores(maps: Tensor, boxes: Tensor, threshold: float = 0.2) -> Scores:
    """Score maps against boxes.

    pointing: whether the map's maximum is in a box (Zhang et al. 2016, "Top-down Neural Attention
    by Excitation Backprop"; without their margin of 15 pixels); of several maxima, the share of
    them in a box. energy: the share of the map's sum that is in a box (Wang et al. 2020,
    "Score-CAM"). iou: of the box around the largest connected part above `threshold` times the
    maximum (Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", with 0.2;
    here pixels that touch at a corner are connected, and of equally large parts the first counts)
    with the box that it fits best.

    Args:
        maps: (B,H,W), at least 0.
        boxes: (B,K,4), as fractions of the image.
        threshold: For `iou`, a share of the maximum.
    """
    maps, boxes = maps.double(), boxes.double()
    highest = maps.amax(dim=(1, 2), keepdim=True)
    maps = torch.where(highest > 0, maps, torch.ones_like(maps))
    highest = maps.amax(dim=(1, 2), keepdim=True)
    inside = cover(boxes, maps.shape[1], maps.shape[2])
    maxima = (maps >= highest * (1 - TIE)).double()
    area = inside.mean(dim=(1, 2))
    whole = boxes.new_tensor([0, 0, 1, 1]).expand(len(boxes), 4)
    return Scores(
        pointing=_share(maxima, inside),
        iou=best_iou(boxes_around(maps > threshold * highest), boxes),
        energy=_share(maps, inside),
        pointing_chance=area,
        iou_chance=best_iou(whole, boxes),
        energy_chance=area,
    )


def cover(boxes: Tensor, height: int, width: int) -> Tensor:
    """How much of each pixel is in one of the boxes.

    Of boxes that share a pixel, the one that has most of it counts.

    Args:
        boxes: (B,K,4), as fractions of the image.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        (B,height,width) float64, from 0 to 1.
    """
    across = _along(boxes[..., 0], boxes[..., 2], width)
    down = _along(boxes[..., 1], boxes[..., 3], height)
    covered = boxes.new_zeros(len(boxes), height, width)
    for number in range(boxes.shape[1]):
        # One after the other: all at once they would take K times the memory.
        covered = torch.maximum(covered, down[:, number, :, None] * across[:, number, None, :])
    return covered


def boxes_around(masks: Tensor) -> Tensor:
    """The box around the largest connected part of each mask.

    Args:
        masks: (B,H,W) bool.

    Returns:
        (B,4) float64: left, top, right, bottom as fractions of the image.
    """
    edges = torch.from_numpy(_around_largest(masks.cpu().numpy())).to(masks.device)
    height, width = masks.shape[1:]
    return edges.double() / edges.new_tensor([width, height, width, height])


def best_iou(predicted: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union with the box that fits best.

    Args:
        predicted: (B,4), as fractions of the image.
        boxes: (B,K,4), the same.

    Returns:
        (B,), from 0 to 1.
    """
    predicted = predicted.unsqueeze(1)
    sides = (
        torch.minimum(predicted[..., 2:], boxes[..., 2:])
        - torch.maximum(predicted[..., :2], boxes[..., :2])
    ).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    union = _area(predicted) + _area(boxes) - shared
    return (shared / union.clamp(min=1e-12)).amax(dim=1)


def _around_largest(masks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """left, top, right, bottom (B,4) in pixels, right and bottom outside."""
    # All images at once: parts are connected within an image alone.
    labels, count = ndimage.label(masks, _WITHIN_AN_IMAGE)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    flat = labels.reshape(len(labels), -1)
    largest = flat[np.arange(len(flat)), sizes[flat].argmax(axis=1)]
    part = labels == largest[:, None, None]
    columns, rows = part.any(axis=1), part.any(axis=2)
    return np.stack(
        [
            columns.argmax(axis=1),
            rows.argmax(axis=1),
            columns.shape[1] - columns[:, ::-1].argmax(axis=1),
            rows.shape[1] - rows[:, ::-1].argmax(axis=1),
        ],
        axis=1,
    ).astype(np.int64)


def _along(low: Tensor, high: Tensor, count: int) -> Tensor:
    """How much of each of `count` pixels is between `low` and `high` (B,K): (B,K,count)."""
    pixel = torch.arange(count, device=low.device, dtype=low.dtype)
    low, high = (low * count).unsqueeze(-1), (high * count).unsqueeze(-1)
    return (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp(0, 1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def _share(values: Tensor, inside: Tensor) -> Tensor:
    return (values * inside).sum(dim=(1, 2)) / values.sum(dim=(1, 2))
