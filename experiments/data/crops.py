"""Crop, flip and normalise a whole batch on its device; from the same draws for every method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config.training import CROP_SCALE
from mixbench.experiments.data.geometry import Shape, crop_area

Scale = tuple[float, float]
"""The shares of a picture's area that crops have, from and to."""
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

    images (B,C,H,W) from 0 to 255; mean and std (C,) float32 of the images in [0,1], all on one
    device.
    Each image moves by up to `crop_padding` pixels either way, with black (0) from outside, and
    is mirrored with probability 1/2. `generator` is of the images' device (None: its default).
    Returns (B,C,H,W) float32; the input is untouched. Never waits for the device.

    The draws depend on the batch size, `crop_padding` and `flip` alone. Give mixing a generator of
    its own, and every mixing method sees the same crops.
    """
    moves = draw_moves(images, crop_padding=crop_padding, flip=flip, generator=generator)
    return normalise(moves.apply(images), mean, std, channels_last=channels_last)


@dataclass(frozen=True)
class Moves:
    """Crops and flips of a batch, as `crop_and_flip` takes them; None for no crop, or no flip."""

    padding: int
    offsets: Tensor | None
    mirrored: Tensor | None

    def apply(self, images: Tensor) -> Tensor:
        """Return the images (B,C,H,W), moved."""
        if self.offsets is None and self.mirrored is None:
            return images
        return crop_and_flip(images, self.padding, self.offsets, self.mirrored)


def draw_moves(
    images: Tensor, *, crop_padding: int, flip: bool, generator: torch.Generator | None
) -> Moves:
    """Draw the crops and flips of a batch; arguments: `prepare`."""
    offsets = mirrored = None
    if crop_padding:
        size, high = (2, len(images)), 2 * crop_padding + 1
        offsets = torch.randint(high, size, generator=generator, device=images.device)
    if flip:
        mirrored = torch.randint(2, (len(images),), generator=generator, device=images.device)
    return Moves(crop_padding, offsets, mirrored)


def crop_and_flip(
    images: Tensor, padding: int, offsets: Tensor | None, mirrored: Tensor | None
) -> Tensor:
    """The crop at `offsets` of each image padded with zeros, mirrored where `mirrored` is 1.

    images (B,C,H,W); offsets (2,B) int64 in 0..2*padding, rows then columns (None: no
    crop); mirrored (B,) int64 of 0 and 1 (None: no mirror). Returns (B,C,H,W) of the same type.
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
    """(images / 255 - mean) / std: (B,C,H,W) of any type to float32 of the same shape."""
    scale = (1 / (255 * std)).view(-1, 1, 1)
    shift = (mean / std).view(-1, 1, 1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    floats = images.to(torch.float32, copy=True).mul_(scale).sub_(shift)
    return floats.contiguous(memory_format=layout)


def denormalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The uint8 pictures of normalised float images (B,C,H,W), clipped to 0..255."""
    pixels = (images.float() * std.view(-1, 1, 1) + mean.view(-1, 1, 1)) * 255
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def crop_box(
    draws: Tensor, aspect: float = 1.0, scale: Scale = CROP_SCALE
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random-resized-crop boxes (left, top, width, height) as fractions of an image's sides.

    draws (N,4) uniform in [0,1); `aspect` is width / height in pixels, over that of the crops. The
    crop has `scale` of the area and sides of 3:4 to 4:3 (log-uniform), placed uniformly. After
    Szegedy et al. 2015 ("Going deeper with convolutions", section 6); a side that does not fit is
    cut to the image's, where common implementations draw again.
    """
    area = scale[0] + (scale[1] - scale[0]) * draws[:, 0]
    low, high = math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])
    ratio = torch.exp(low + (high - low) * draws[:, 1]) / aspect
    width = (area * ratio).sqrt().clamp(max=1)
    height = (area / ratio).sqrt().clamp(max=1)
    return (1 - width) * draws[:, 2], (1 - height) * draws[:, 3], width, height


def random_resized_crop(
    images: Tensor,
    draws: Tensor,
    scale: Scale = CROP_SCALE,
    sides: tuple[int, int] | None = None,
) -> Tensor:
    """The crop that each row of `draws` (B,4) makes of its image, on the images' device.

    images (B,C,H,W) of pixels from 0 to 255; `sides` are height and width of the result (None: the
    images'). A crop with the images' aspect, of `scale` of the area. Returns the images' type.
    """
    batch, channels, rows, columns = images.shape
    high, wide = sides or (rows, columns)
    left, top, width, height = crop_box(draws, (columns / rows) / (wide / high), scale)
    # affine_grid counts from -1 to 1 over a side.
    affine = images.new_zeros((batch, 2, 3), dtype=torch.float32)
    affine[:, 0, 0], affine[:, 0, 2] = width, 2 * left + width - 1
    affine[:, 1, 1], affine[:, 1, 2] = height, 2 * top + height - 1
    # A crop may have several times the pixels of the result: average that many samples for each.
    finer = max(1, math.ceil(max(rows / high, columns / wide)))
    fine = [batch, channels, high * finer, wide * finer]
    grid = F.affine_grid(affine, fine, align_corners=False)
    crops = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    if finer > 1:
        crops = F.avg_pool2d(crops, finer)
    return crops if images.is_floating_point() else crops.round_().to(images.dtype)


def crop_of_picture(
    picture: NDArray[Any], draws: Tensor, shape: Shape, scale: Scale = CROP_SCALE
) -> Tensor:
    """The crop that `draws` (4,) make of a picture: (C,H,W) of `shape`, pixels from 0 to 255.

    picture (h,w,C): uint8, or uint16 from 0 to 65535, which becomes float32. Cut in whole pixels
    and smoothed where it shrinks. With `pad`, what is beyond the picture is black.
    """
    rows, columns = picture.shape[:2]
    (x, y, across, down), aspect = crop_area(columns, rows, shape)
    left, top, width, height = (float(part) for part in crop_box(draws[None], aspect, scale))
    first, above = round(x + left * across), round(y + top * down)
    last = max(first + 1, round(x + (left + width) * across))
    below = max(above + 1, round(y + (top + height) * down))
    part = picture[max(above, 0) : max(below, 0), max(first, 0) : max(last, 0)]
    pixels = torch.from_numpy(np.array(part)).permute(2, 0, 1)
    if picture.dtype == np.uint16:
        pixels = from_16_bits(pixels)
    border = (max(-first, 0), max(last - columns, 0), max(-above, 0), max(below - rows, 0))
    if any(border):
        height_in, width_in = below - above, last - first
        canvas = pixels.new_zeros((len(pixels), height_in, width_in))
        at_top, at_left = min(border[2], height_in), min(border[0], width_in)
        canvas[:, at_top : at_top + part.shape[0], at_left : at_left + part.shape[1]] = pixels
        pixels = canvas
    size = (shape.height, shape.width)
    if pixels.shape[1:] == size:
        return pixels
    return F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]


def from_16_bits(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 65535 as float32 from 0 to 255."""
    return pixels.to(torch.float32) * (255 / 65535)
