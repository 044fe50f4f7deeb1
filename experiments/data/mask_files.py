"""The user's own images with masks, decoded into memory: both cut and resized alike."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mixbench.experiments.config.mask_folder import IGNORED, Pair
from mixbench.experiments.data.geometry import Shape, window

MOST_OBJECTS = 254

Bytes = NDArray[np.uint8]


def decode_pairs(pairs: tuple[Pair, ...], shape: Shape) -> tuple[Bytes, Bytes]:
    """Images (N,3,H,W), and classes and objects (N,2,H,W), of `shape`.

    Masks take the value of the nearest pixel. What is beyond a picture (`pad`) is black and
    ignored. Objects are those of the folder, else the connected parts of each class.
    """
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(partial(_decode, shape=shape), pairs))
    images, masks = zip(*decoded, strict=True)
    return np.ascontiguousarray(np.stack(images)), np.ascontiguousarray(np.stack(masks))


def objects_in(classes: Bytes) -> Bytes:
    """Number the connected parts (corners touch) of each class (H,W) but 0; 255 is no class.

    Examples:
        >>> objects_in(np.array([[1, 0, 1], [2, 0, 255]], dtype=np.uint8)).tolist()
        [[1, 0, 2], [3, 0, 0]]
    """
    objects = np.zeros(classes.shape, dtype=np.int64)
    for label in np.unique(classes[(classes > 0) & (classes != IGNORED)]):
        parts, _ = ndimage.label(classes == label, structure=np.ones((3, 3)))
        objects += np.where(parts > 0, parts + objects.max(), 0)
    return np.minimum(objects, MOST_OBJECTS).astype(np.uint8)


def _decode(pair: Pair, shape: Shape) -> tuple[Bytes, Bytes]:
    from PIL import Image, ImageOps

    with Image.open(pair.image) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    left, top, width, height = window(*image.size, shape)
    box = (max(left, 0.0), max(top, 0.0), *_ends(image.size, left, top, width, height))
    inner = (
        max(1, round((box[2] - box[0]) / width * shape.width)),
        max(1, round((box[3] - box[1]) / height * shape.height)),
    )
    corner = (shape.width - inner[0]) // 2, (shape.height - inner[1]) // 2

    def placed(picture: Image.Image, how: Image.Resampling, beyond: int) -> Bytes:
        fill = (beyond,) * len(picture.getbands())
        canvas = Image.new(picture.mode, (shape.width, shape.height), fill)
        canvas.paste(picture.resize(inner, how, box=box), corner)
        return np.asarray(canvas)

    def values(path: Path) -> Image.Image:
        with Image.open(path) as file:
            return Image.fromarray(np.asarray(file).astype(np.uint8))

    pixels = placed(image, Image.Resampling.BILINEAR, 0).transpose(2, 0, 1)
    classes = placed(values(pair.mask), Image.Resampling.NEAREST, IGNORED)
    if pair.objects is None:
        return pixels, np.stack([classes, objects_in(classes)])
    objects = placed(values(pair.objects), Image.Resampling.NEAREST, 0)
    # The seams of objects are those of classes: no object.
    return pixels, np.stack([classes, np.where(classes == IGNORED, 0, objects).astype(np.uint8)])


def _ends(
    size: tuple[int, int], left: float, top: float, width: float, height: float
) -> tuple[float, float]:
    return min(left + width, size[0]), min(top + height, size[1])
