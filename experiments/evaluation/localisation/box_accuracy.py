"""Boxes and masks from maps by a threshold that is chosen on other images: MaxBoxAccV2 and IoU.

Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods Right" (arXiv:
2001.07437): a map, scaled to [0,1], is cut at a threshold; each connected part above it gives a
box, and the image counts where one of these overlaps a true box by at least δ. MaxBoxAccV2 is the
mean over δ of 0.3, 0.5 and 0.7 of the share of such images at the best threshold. They take the
best threshold of the measured images themselves; here it is chosen on others, for each δ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

DELTAS = (0.3, 0.5, 0.7)
THRESHOLDS = tuple(number / 50 for number in range(50))
"""Shares of the range of a map."""

_WITHIN_AN_IMAGE = np.zeros((3, 3, 3), dtype=bool)
_WITHIN_AN_IMAGE[1] = True
Overlaps = NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """Thresholds that are best for some images.

    Attributes:
        boxes: Of THRESHOLDS, for each of DELTAS.
        mask: For the IoU of masks; None without masks.
    """

    boxes: tuple[float, ...]
    mask: float | None


def scaled(maps: Tensor) -> Tensor:
    """Maps from 0 to 1, each by its own least and largest value; a flat one is 1 everywhere.

    Args:
        maps: (B,H,W).

    Examples:
        >>> scaled(torch.tensor([[[2.0, 4.0, 3.0]], [[5.0, 5.0, 5.0]]])).tolist()
        [[[0.0, 1.0, 0.5]], [[1.0, 1.0, 1.0]]]
    """
    low, high = maps.amin(dim=(1, 2), keepdim=True), maps.amax(dim=(1, 2), keepdim=True)
    span = high - low
    # Interpolation rounds: a flat map is flat but for the last digits.
    flat = span <= 1e-6 * high.abs()
    return torch.where(flat, 1.0, (maps - low) / torch.where(flat, 1.0, span))


def box_overlaps(
    maps: Tensor, boxes: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> Overlaps:
    """The best IoU of a part above each threshold with one of the boxes.

    Pixels that touch at a corner are of one part.

    Args:
        maps: (B,H,W) from 0 to 1, as of `scaled`.
        boxes: (B,K,4): left, top, right, bottom as fractions; one without an area is ignored.
        thresholds: A part has values above it.

    Returns:
        (B, thresholds) from 0 to 1.
    """
    values = maps.cpu().numpy()
    _, height, width = values.shape
    truth = boxes.double().cpu().numpy() * np.array([width, height, width, height])
    best = np.zeros((len(values), len(thresholds)))
    for column, threshold in enumerate(thresholds):
        labels, _ = ndimage.label(values > threshold, _WITHIN_AN_IMAGE)
        parts = ndimage.find_objects(labels)
        edges = np.array(
            [(image.start, x.start, y.start, x.stop, y.stop) for image, y, x in parts], dtype=float
        ).reshape(-1, 5)
        images = edges[:, 0].astype(np.int64)
        overlaps = _ious(edges[:, 1:], truth[images])
        np.maximum.at(best[:, column], images, overlaps)
    return best


def mask_overlaps(
    maps: Tensor, masks: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> Overlaps:
    """The IoU of what is above each threshold with the mask.

    Args:
        maps: (B,H,W) from 0 to 1, as of `scaled`.
        masks: (B,H,W) bool.
        thresholds: What counts has values above it.

    Returns:
        (B, thresholds) from 0 to 1.
    """
    flat, inside = maps.flatten(1), masks.flatten(1)
    columns = []
    for threshold in thresholds:
        above = flat > threshold
        shared, union = (above & inside).sum(dim=1), (above | inside).sum(dim=1)
        columns.append(shared.double() / union.clamp(min=1))
    return torch.stack(columns, dim=1).cpu().numpy()


def choose(boxes: Overlaps, masks: Overlaps | None) -> Choice:
    """The thresholds that are best on average; of equal ones, the middle one.

    Args:
        boxes: (N, thresholds) of `box_overlaps`.
        masks: (N, thresholds) of `mask_overlaps`; None without masks.
    """
    # What is not finite is no hit of any threshold.
    hits = [(boxes >= delta).mean(axis=0) for delta in DELTAS]
    best = tuple(_best(one) for one in hits)
    return Choice(best, None if masks is None else _best(np.nan_to_num(masks).mean(axis=0)))


def centre_overlaps(
    height: int, width: int, boxes: Tensor, thresholds: tuple[float, ...] = THRESHOLDS
) -> Overlaps:
    """`box_overlaps` of one map for all images: a Gaussian in the middle, which sees nothing.

    The baseline of Choe et al. 2020 for what the place of objects alone gives; its deviation is a
    third of each side.

    Args:
        height: Of the map.
        width: Of the map.
        boxes: (N,K,4), as fractions.
        thresholds: Shares of the map's range.

    Returns:
        (N, thresholds) from 0 to 1.
    """
    down, across = (
        torch.exp(-0.5 * (((torch.arange(n) + 0.5) / n - 0.5) * 3) ** 2) for n in (height, width)
    )
    middle = scaled((down.unsqueeze(1) * across).unsqueeze(0))[0].numpy()
    truth = boxes.double().cpu().numpy() * np.array([width, height, width, height])
    columns = []
    for threshold in thresholds:
        y, x = (np.flatnonzero((middle > threshold).any(axis=axis)) for axis in (1, 0))
        part = np.array([x[0], y[0], x[-1] + 1, y[-1] + 1], dtype=float)
        columns.append(_ious(np.tile(part, (len(truth), 1)), truth))
    return np.stack(columns, axis=1)


def _best(scores: NDArray[np.float64]) -> float:
    (places,) = np.nonzero(scores >= scores.max() - 1e-12)
    return THRESHOLDS[int(places[len(places) // 2])]


def _ious(parts: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """The best IoU of each part (P,4) with the boxes (P,K,4) of its image."""
    mine = parts[:, None]
    sides = np.minimum(mine[..., 2:], truth[..., 2:]) - np.maximum(mine[..., :2], truth[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas = [(one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (mine, truth)]
    overlaps: NDArray[np.float64] = (shared / (areas[0] + areas[1] - shared)).max(axis=1)
    return overlaps
