"""Blur: by a lens, frosted glass, motion, zooming, a Gaussian. Parameters as in `noise`.

Outside of an image its nearest pixel is repeated.
"""

# All have the same parameters, whether they need them or not.
# ruff: noqa: ARG001

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.evaluation.corruption import separable
from mixbench.experiments.evaluation.image_random import ImageRandom

FINE = 16
"""Points a pixel and axis, by which a disk's edge is smoothed."""


def gaussian_blur(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Blur with a Gaussian."""
    return gaussian(images, level * scale)


def defocus_blur(
    images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Blur with a disk, as a sum of a few separable maps of rows and columns."""
    height, width = images.shape[-2:]
    return separable.apply(images, _lens(level[0], level[1], scale, height, width))


def glass_blur(
    images: Tensor, level: tuple[float, float, int, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Replace each pixel by one nearby, all at once.

    The original swaps pixels one after the other, so that none is lost.
    """
    sigma, furthest, steps, share = level
    # The ends of the range are as likely as what is between, and it grows evenly with images.
    reach = furthest * scale + 0.5
    height, width = images.shape[-2:]
    blurred = gaussian(images, sigma * scale)
    for step in range(steps):
        moves = (draws.uniform(f"moves {step}", 2, height, width) * 2 - 1) * reach
        moves = moves.round().long()
        moves = moves * (draws.uniform(f"moved {step}", 1, height, width) < share)
        rows = torch.arange(height, device=images.device).unsqueeze(1) + moves[:, 0]
        columns = torch.arange(width, device=images.device) + moves[:, 1]
        blurred = _taken(blurred, rows, columns)
    return gaussian(blurred, sigma * scale)


def motion_blur(
    images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Blur to one side, within 45 degrees of the horizontal."""
    angle = (draws.uniform("angle") - 0.5) * (math.pi / 2)
    return trail(images, level[0] * scale, level[1] * scale, angle)


def zoom_blur(
    images: Tensor, level: tuple[float, float], scale: float, draws: ImageRandom
) -> Tensor:
    """Average the image with its enlargements."""
    return separable.apply(images, _zooms(*level, *images.shape[-2:]))


def trail(images: Tensor, radius: float, sigma: float, angle: Tensor) -> Tensor:
    """Draw each pixel out by `2 radius` pixels to one side, fading as a Gaussian.

    By whole pixels, as ImageMagick's motion blur, which the original calls.

    Args:
        images: (B,C,H,W).
        radius: Half the length, in pixels.
        sigma: Standard deviation of the Gaussian, in pixels.
        angle: (B,), in radians from the horizontal.

    Returns:
        (B,C,H,W).
    """
    height, width = images.shape[-2:]
    length = min(2 * max(1, round(radius)), math.ceil(4 * sigma))
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(length + 1)]
    down = torch.arange(height, device=images.device).view(1, -1, 1)
    across = torch.arange(width, device=images.device).view(1, 1, -1)
    total = images * (weights[0] / sum(weights))
    for offset in range(1, length + 1):
        rows, columns = (
            (offset * part(angle) - 0.5).ceil().long().view(-1, 1, 1)
            for part in (torch.sin, torch.cos)
        )
        shifted = _taken(images, down + rows, across + columns)
        total = total.add_(shifted, alpha=weights[offset] / sum(weights))
    return total


def _taken(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Of each image (C,H,W) the pixels at rows and columns, which together make (B,H,W)."""
    batch, channels, height, width = images.shape
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    index = index.view(batch, 1, height * width).expand(-1, channels, -1)
    return images.flatten(2).gather(2, index).view_as(images)


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Blur images (B,C,H,W) with a Gaussian of this deviation in pixels."""
    rows, columns = (separable.gaussian(side, sigma) for side in images.shape[-2:])
    return separable.apply(images, separable.Maps([(rows, columns)]))


@lru_cache(maxsize=16)
def _zooms(largest: float, step: float, height: int, width: int) -> separable.Maps:
    """The mean of the image, as it is, and of itself at each zoom from 1 to the largest."""
    factors = [1 + step * number for number in range(round((largest - 1) / step) + 1)]
    return separable.Maps(
        [
            (separable.zoom(height, factor) / (len(factors) + 1), separable.zoom(width, factor))
            for factor in [1.0, *factors]
        ]
    )


@lru_cache(maxsize=16)
def _lens(radius: float, sigma: float, scale: float, height: int, width: int) -> separable.Maps:
    """The kernel of `_disk`, a symmetric matrix, by its eigenvectors."""
    values, vectors = torch.linalg.eigh(_disk(radius, sigma, scale))
    significant = values.abs() > 1e-7
    return separable.Maps(
        [
            (value * separable.convolution(height, vector), separable.convolution(width, vector))
            for value, vector in zip(values[significant], vectors.T[significant], strict=True)
        ]
    )


def _disk(radius: float, sigma: float, scale: float) -> Tensor:
    """The kernel (K,K) float64 of a lens out of focus: a disk, smoothed by a Gaussian.

    Of the area of the original's disk of whole pixels, times `scale` squared; pixels at its edge
    count by how much of them it covers, so that the blur grows evenly with images of any size.
    """
    whole = torch.arange(-math.ceil(radius), math.ceil(radius) + 1)
    area = int((whole.unsqueeze(1) ** 2 + whole**2 <= radius**2).sum())
    radius, sigma = math.sqrt(area / math.pi) * scale, sigma * scale
    side = 2 * (math.ceil(radius) + int(4 * sigma + 0.5)) + 1
    points = (torch.arange(side * FINE, dtype=torch.float64) + 0.5) / FINE - side / 2
    inside = (points.unsqueeze(1) ** 2 + points**2 <= radius**2).double()
    covered = F.avg_pool2d(inside.view(1, 1, *inside.shape), FINE)[0, 0]
    blur = separable.gaussian(side, sigma)
    kernel = blur @ covered @ blur.T
    return kernel / kernel.sum()
