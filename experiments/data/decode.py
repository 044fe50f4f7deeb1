"""Decode image files: any of the usual kinds and colours, as RGB of one shape.

Pixels are uint8; uint16, from 0 (black) to 65535 (white), where the data set has any with more than
8 bits.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from mixbench.experiments.config.member_file import told
from mixbench.experiments.data.crops import from_16_bits
from mixbench.experiments.data.geometry import Box, Shape, kept_size, window
from mixbench.experiments.data.open_image import open_image, upright, why_unreadable
from mixbench.experiments.data.pixel_range import BYTES, WHITE, Scale, kind_of

log = logging.getLogger(__name__)

Pixels = NDArray[Any]
"""(H,W,3), or (H,W,1) for grey ones; uint8 or uint16."""


@dataclass(frozen=True)
class Form:
    """What becomes of a picture: the shape of its image and the scale of its pixels."""

    shape: Shape
    scale: Scale = BYTES

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The type of pixels that are kept."""
        return np.uint16 if self.scale.is_wide else np.uint8

    @property
    def type_of_batches(self) -> torch.dtype:
        """The type of pixels that are trained on, from 0 to 255: fractions where 8 bits lose some.

        32 bits, because half of them would lose some of 12 bits.
        """
        return torch.float32 if self.scale.is_wide else torch.uint8


def decode(path: Path, form: Form) -> Pixels:
    """The image in a file as (H,W,3) of the form.

    Turned as its EXIF says; transparency on white; the first frame of several. Raises whatever
    Pillow does on a file that it cannot read.
    """
    shape = form.shape
    picture = _picture(path, form, 2 * max(shape.height, shape.width))
    height, width = picture.shape[:2]
    cut = cut_out(picture, window(width, height, shape), shape)
    return cut if cut.shape[2] == 3 else cut.repeat(3, axis=2)


def decode_whole(path: Path, form: Form, least: float) -> Pixels:
    """The whole picture in a file, as large as crops with `least` of its area need it."""
    shape = form.shape
    # The shorter side when all of the picture has as many pixels as `kept_size` keeps, doubled.
    side = 2 * math.sqrt(shape.height * shape.width / least)
    picture = _picture(path, form, side, longer=True)
    height, width = picture.shape[:2]
    kept = kept_size(width, height, shape, least)
    if kept == (width, height):
        return picture
    whole = (0.0, 0.0, float(width), float(height))
    return cut_out(picture, whole, Shape(kept[1], kept[0]))


def cut_out(picture: Pixels, box: Box, shape: Shape) -> Pixels:
    """The part of a picture in a box, resized to (H,W), bilinear and smoothed where it shrinks.

    What of the box is outside of the picture is black.
    """
    rows, columns = picture.shape[:2]
    x, y, w, h = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + w, float(columns)), min(y + h, float(rows))
    inside = (left, top, right, bottom)
    if (left, top) == (x, y) and right >= x + w - 1e-6 and bottom >= y + h - 1e-6:
        return _resized(picture, inside, shape.width, shape.height)
    image = np.zeros((shape.height, shape.width, picture.shape[2]), picture.dtype)
    # Where the picture's part begins and ends in the image, in whole pixels.
    first, last = (round((edge - x) / w * shape.width) for edge in (left, right))
    above, below = (round((edge - y) / h * shape.height) for edge in (top, bottom))
    if first < last and above < below:
        image[above:below, first:last] = _resized(picture, inside, last - first, below - above)
    return image


def as_batch(images: list[Pixels]) -> Tensor:
    """Images of one shape as (B,3,H,W) on the CPU, pixels from 0 to 255."""
    three = [image if image.shape[2] == 3 else image.repeat(3, axis=2) for image in images]
    stacked = torch.from_numpy(np.stack(three).transpose(0, 3, 1, 2).copy())
    return stacked if stacked.dtype == torch.uint8 else from_16_bits(stacked)


def _picture(path: Path, form: Form, side: float, *, longer: bool = False) -> Pixels:
    """The picture in a file, turned; large JPEG files smaller, with sides of at least `side`.

    longer: the geometric mean of the sides counts, not the shorter one.
    """
    with open_image(path) as image:
        # Decoding at a half, a quarter or an eighth is quicker and loses nothing that is wanted.
        width, height = image.size
        keep = side / (math.sqrt(width * height) if longer else min(width, height))
        if keep < 1:
            image.draft(None, (int(width * keep), int(height * keep)))
        return _pixels(upright(image), form)


def _pixels(image: Image.Image, form: Form) -> Pixels:
    """The pixels of an image: RGB or grey, transparency on white."""
    kind = kind_of(image.mode)
    if kind != "bytes":
        return form.scale.levels(np.asarray(image), kind)[:, :, None]
    pixels: Pixels
    if image.mode in ("1", "L") and "transparency" not in image.info:
        pixels = np.asarray(image.convert("L"))[:, :, None]
    elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        pixels = np.asarray(Image.alpha_composite(white, layer).convert("RGB"))
    else:
        pixels = np.asarray(image.convert("RGB"))
    return pixels.astype(np.uint16) * 257 if form.scale.is_wide else pixels


def _resized(
    picture: Pixels, box: tuple[float, float, float, float], width: int, height: int
) -> Pixels:
    """The part of a picture between left, top, right and bottom, resized."""

    def resize(image: Image.Image) -> NDArray[Any]:
        return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))

    if picture.dtype == np.uint8:
        single = picture.shape[2] == 1
        found = resize(Image.fromarray(picture[:, :, 0] if single else picture))
        return found[:, :, None] if single else found
    channels = [
        resize(Image.fromarray(picture[:, :, channel].astype(np.float32)))
        for channel in range(picture.shape[2])
    ]
    return np.stack(channels, axis=2).round().clip(0, WHITE).astype(np.uint16)


def decode_all(
    paths: Sequence[Path], labels: Tensor, form: Form, warned: dict[str, str]
) -> tuple[Tensor, Tensor]:
    """The images of the files that can be read (N,3,H,W), pixels from 0 to 255, and their labels.

    The paths of the others are added to `warned`, with the reason, and a warning is logged.
    """
    size = (form.shape.height, form.shape.width)
    images = torch.empty((len(paths), 3, *size), dtype=form.type_of_batches)

    def fill(index: int, path: Path) -> None:
        images[index] = as_batch([decode(path, form)])[0]

    readable = torch.tensor(for_each(paths, fill, warned), dtype=torch.bool)
    return (images, labels) if bool(readable.all()) else (images[readable], labels[readable])


def for_each(
    paths: Sequence[Path], do: Callable[[int, Path], None], warned: dict[str, str]
) -> list[bool]:
    """Do something with each number and file, several at once; which of them could be read."""

    def tried(index: int) -> bool:
        try:
            do(index, paths[index])
        except Exception as error:  # a broken file can raise anything
            warn_once(paths[index], why_unreadable(paths[index], error), warned)
            return False
        return True

    # Pillow decodes outside Python's lock.
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        return list(pool.map(tried, range(len(paths))))


def warn_once(path: Path, reason: str, warned: dict[str, str]) -> None:
    """Log that a file is left out, the first time; `warned` has the paths so far, with reasons."""
    if str(path) not in warned:
        warned[str(path)] = reason
        log.warning("skipped %s: %s", told(path), reason)
