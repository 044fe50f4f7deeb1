"""Crop, flip and normalise a whole batch on its device; from the same draws for every method."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations.pixels.preparation import Preparation, crop_and_flip, normalise

__all__ = [
    "crop_and_flip",
    "crop_box",
    "denormalise",
    "normalise",
    "prepare",
    "random_resized_crop",
]

CROP_AREA = (0.08, 1.0)
CROP_RATIO = (3 / 4, 4 / 3)


def prepare(
    images: Tensor,
    mean: Tensor,
    std: Tensor,
    *,
    crop_padding: int = 0,
    flip: bool = False,
    generator: torch.Generator | None = None,
    channels_last: bool = False,
) -> Tensor:
    """Random crop of the padded image, random horizontal flip, then `normalise`.

    images (B,C,H,W) uint8; mean and std (C,) float32 of the images in [0,1], all on one device.
    Each image moves by up to `crop_padding` pixels either way, with black (0) from outside, and
    is mirrored with probability 1/2. `generator` is of the images' device (None: its default).
    Returns (B,C,H,W) float32; the input is untouched. Never waits for the device.

    The draws depend on the batch size, `crop_padding` and `flip` alone. Give mixing a generator of
    its own, and every mixing method sees the same crops. Where the images are mixed next,
    `mixbench.augmentations.pixels.fused.mix_raw` does both at once.
    """
    drawn = Preparation.draw(
        len(images),
        mean,
        std,
        crop_padding=crop_padding,
        flip=flip,
        generator=generator,
        channels_last=channels_last,
    )
    return drawn(images)


def denormalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The uint8 pictures of normalised float images (B,C,H,W), clipped to 0..255."""
    pixels = (images.float() * std.view(-1, 1, 1) + mean.view(-1, 1, 1)) * 255
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def crop_box(draws: Tensor, aspect: float = 1.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random-resized-crop boxes (left, top, width, height) as fractions of an image's sides.

    draws (N,4) uniform in [0,1); `aspect` is width / height in pixels. The crop has 8 to 100% of
    the area and sides of 3:4 to 4:3 (log-uniform), placed uniformly. After Szegedy et al. 2015
    ("Going deeper with convolutions", section 6); a side that does not fit is cut to the image's,
    where common implementations draw again.
    """
    area = CROP_AREA[0] + (CROP_AREA[1] - CROP_AREA[0]) * draws[:, 0]
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    ratio = torch.exp(low + (high - low) * draws[:, 1]) / aspect
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    return (1 - width) * draws[:, 2], (1 - height) * draws[:, 3], width, height


def random_resized_crop(images: Tensor, draws: Tensor) -> Tensor:
    """The crop that each row of `draws` (B,4) makes of its image, scaled back: uint8 (B,C,H,W)."""
    batch, _, rows, columns = images.shape
    left, top, width, height = crop_box(draws, columns / rows)
    # affine_grid counts from -1 to 1 over a side.
    affine = images.new_zeros((batch, 2, 3), dtype=torch.float32)
    affine[:, 0, 0], affine[:, 0, 2] = width, 2 * left + width - 1
    affine[:, 1, 1], affine[:, 1, 2] = height, 2 * top + height - 1
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    # A crop is never larger than its image, so bilinear sampling has nothing to smooth away.
    crops = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return crops.round_().to(torch.uint8)
