"""Crop, flip and normalise a whole batch on its device; from the same draws for every method."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

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
    its own, and every mixing method sees the same crops.
    """
    offsets = mirrored = None
    if crop_padding:
        size, high = (2, len(images)), 2 * crop_padding + 1
        offsets = torch.randint(high, size, generator=generator, device=images.device)
    if flip:
        mirrored = torch.randint(2, (len(images),), generator=generator, device=images.device)
    if crop_padding or flip:
        images = crop_and_flip(images, crop_padding, offsets, mirrored)
    return normalise(images, mean, std, channels_last=channels_last)


def crop_and_flip(
    images: Tensor, padding: int, offsets: Tensor | None, mirrored: Tensor | None
) -> Tensor:
    """The crop at `offsets` of each image padded with zeros, mirrored where `mirrored` is 1.

    images (B,C,H,W) uint8; offsets (2,B) int64 in 0..2*padding, rows then columns (None: no
    crop); mirrored (B,) int64 of 0 and 1 (None: no mirror). Returns (B,C,H,W) uint8.
    """
    batch, channels, height, width = images.shape
    device = images.device
    variants = F.pad(images, (padding,) * 4) if offsets is not None else images
    rows, columns = variants.shape[2:]
    top, left = (0, 0) if offsets is None else offsets.view(2, batch, 1, 1).unbind()
    first: Tensor | int = 0
    if mirrored is not None:
        mirrored = mirrored.view(batch, 1, 1)
        first = mirrored * batch
        # Column 0 of the mirrored crop is the last column of the crop.
        left = torch.where(mirrored.bool(), columns - width - left, left)
        variants = torch.stack((variants, variants.flip(3)))
    plane = torch.arange(batch * channels, device=device).view(batch, channels, 1)
    row = torch.arange(height, device=device) + top
    starts = ((plane + first * channels) * rows + row) * columns + left
    # Every stretch of `width` pixels as a row of a view, so that one gather copies whole rows:
    # several times faster than gathering pixels.
    flat = variants.contiguous().view(-1)
    stretches = flat.as_strided((flat.numel() - width + 1, width), (1, 1))
    return stretches.index_select(0, starts.view(-1)).view(images.shape)


def normalise(images: Tensor, mean: Tensor, std: Tensor, *, channels_last: bool = False) -> Tensor:
    """(images / 255 - mean) / std: uint8 (B,C,H,W) to float32 of the same shape."""
    scale = (1 / (255 * std)).view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    floats = images.to(torch.float32, copy=True).mul_(scale).sub_(shift)
    return floats.contiguous(memory_format=layout)


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
