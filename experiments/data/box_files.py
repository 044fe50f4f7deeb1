"""The user's own images with boxes, decoded into memory: boxes are cut and scaled as images are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.box_files.boxes import Box
from mixbench.experiments.config.box_folder import KIND
from mixbench.experiments.data.decode import Form, decode
from mixbench.experiments.data.geometry import Shape, window
from mixbench.experiments.data.object_rows import LEAST, object_rows
from mixbench.experiments.data.open_image import open_image, orientation, why_unreadable
from mixbench.experiments.errors import UserError

Sides = tuple[float, float, float, float]


def decode_boxed(
    images: Mapping[Path, list[Box]], classes: Sequence[str], shape: Shape, room: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Images (N,3,H,W) of `shape`, and their objects as rows (N,L) with room for `room`.

    Raises UserError for an image that can't be read, and a box that is not in its image.
    """
    with ThreadPoolExecutor() as pool:
        every = list(pool.map(partial(_decode, classes=classes, shape=shape), images.items()))
    boxes = np.zeros((len(every), room, 4), dtype=np.float32)
    labels = np.full((len(every), room), -1, dtype=np.int64)
    for number, (_, sides, numbers) in enumerate(every):
        boxes[number, : len(sides)] = np.array(sides, dtype=np.float32).reshape(-1, 4)
        labels[number, : len(sides)] = numbers
    visible = np.ones(labels.shape, dtype=np.float32)
    decoded = np.ascontiguousarray(np.stack([pixels for pixels, _, _ in every]))
    return decoded, object_rows(boxes, labels, visible)


def _decode(
    item: tuple[Path, list[Box]], classes: Sequence[str], shape: Shape
) -> tuple[NDArray[np.uint8], list[Sides], list[int]]:
    file, rows = item
    try:
        with open_image(file) as image:
            turned = orientation(image) in (5, 6, 7, 8)
            width, height = (image.height, image.width) if turned else image.size
        pixels = decode(file, Form(shape)).transpose(2, 0, 1)
    except Exception as error:  # a broken file can raise anything
        raise UserError(f"{KIND}: cannot read {file} ({why_unreadable(file, error)})") from None
    x, y, across, down = window(width, height, shape)
    sides, labels = [], []
    for row in rows:
        left, top, right, bottom = row.pixels(width, height)
        edges = np.array([left - x, top - y, right - x, bottom - y])
        edges *= np.tile([shape.width / across, shape.height / down], 2)
        seen = edges.clip(0, np.tile([shape.width, shape.height], 2))
        # Of which what is cut off leaves next to nothing is gone.
        if _area(seen) >= LEAST * _area(edges):
            sides.append((float(seen[0]), float(seen[1]), float(seen[2]), float(seen[3])))
            labels.append(classes.index(row.label))
    return pixels, sides, labels


def _area(edges: NDArray[np.float64]) -> float:
    return float((edges[2] - edges[0]) * (edges[3] - edges[1]))
