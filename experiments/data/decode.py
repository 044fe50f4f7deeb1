"""Decode image files: any of the usual kinds and colours, as RGB of one size."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mixbench.experiments.data.crops import crop_box
from mixbench.experiments.data.open_image import open_image, upright, why_unreadable

log = logging.getLogger(__name__)

Crop = tuple[float, float, float, float]


def decode(path: Path, size: int, crop: Crop | None = None) -> Tensor:
    """The image in a file as RGB, uint8 (3,size,size).

    Without `crop`, the central square, that is, the shorter side resized to `size` and a centre
    crop; with the four draws of `crop_box`, that crop. Turned as its EXIF says; transparency on
    white; 16 bits a channel scaled to 8; the first frame of several. Raises whatever Pillow does
    on a file that it cannot read.
    """
    with open_image(path) as image:
        # Large JPEG files are decoded at a half, a quarter or an eighth where that loses nothing.
        keep = size * (2 if crop is None else 4) / min(image.size)
        if keep < 1:
            image.draft(None, (int(image.width * keep), int(image.height * keep)))
        picture = _rgb(upright(image))
    width, height = picture.size
    if crop is None:
        side = min(width, height)
        x, y, w, h = (width - side) / 2, (height - side) / 2, float(side), float(side)
    else:
        fractions = crop_box(torch.tensor([crop], dtype=torch.float32), width / height)
        sides = (width, height, width, height)
        x, y, w, h = (float(part) * side for part, side in zip(fractions, sides, strict=True))
    box = (x, y, min(x + w, width), min(y + h, height))
    pixels = np.array(picture.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    """The image as RGB: 16 bits scaled to 8, transparency on white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        top = float(values.max(initial=0))
        # Pillow's own conversion would clip at 255: all white.
        full = 65535 if image.mode.startswith("I;16") or top > 255 else 255 if top > 1 else 1
        values = (values * (255 / full)).round().clip(0, 255)
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


def decode_all(
    paths: Sequence[Path], labels: Tensor, size: int, warned: dict[str, str]
) -> tuple[Tensor, Tensor]:
    """The images of the files that can be read, uint8 (N,3,size,size), and their labels.

    The paths of the others are added to `warned`, with the reason, and a warning is logged.
    """
    images = torch.empty((len(paths), 3, size, size), dtype=torch.uint8)

    def fill(index: int) -> bool:
        try:
            images[index] = decode(paths[index], size)
        except Exception as error:  # a broken file can raise anything
            warn_once(paths[index], why_unreadable(paths[index], error), warned)
            return False
        return True

    # Pillow decodes outside Python's lock.
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        readable = torch.tensor(list(pool.map(fill, range(len(paths)))), dtype=torch.bool)
    return (images, labels) if bool(readable.all()) else (images[readable], labels[readable])


def warn_once(path: Path, reason: str, warned: dict[str, str]) -> None:
    """Log that a file is left out, the first time; `warned` has the paths so far, with reasons."""
    if str(path) not in warned:
        warned[str(path)] = reason
        log.warning("skipped %s: not readable as an image (%s)", path, reason)
