"""The scenes of `fashion_scenes`: generated from a seed once, then read from the data folder."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.download import data_folder
from mixbench.experiments.data.scenes.compose import Painter, Scenes
from mixbench.experiments.data.scenes.draw import Source, draw
from mixbench.experiments.data.sets import fashion_mnist
from mixbench.experiments.store.files import atomic_write

REVISION = 1
"""Raised when the same seed gives other scenes."""
GROUPS = ("top", "trouser", "shoe", "bag")
GROUP_OF = (0, 1, 0, 0, 0, 2, 0, 2, 3, 2)
"""The group of each class of Fashion-MNIST: ten classes of items this small can't be told apart."""

Part = Literal["train", "test"]


def scenes(part: Part, *, count: int, size: int, seed: int, source: str) -> Scenes:
    """Return the first `count` scenes of a seed; their items are of that part of Fashion-MNIST.

    Args:
        part: Items of training images and of test images are never in the same scenes.
        count: How many.
        size: The side in pixels.
        seed: Which; those of a seed begin with the same scenes however many there are.
        source: Where Fashion-MNIST is.
    """
    path = _file(part, count, size, seed)
    cached = _read(path, count, size)
    if cached is not None:
        return cached
    source_of_items, painter = _items(source, part)
    layouts = draw(source_of_items, count=count, size=size, seed=seed)
    painted = painter.paint(layouts, size)
    _keep(path, painted)
    return painted


def _file(part: Part, count: int, size: int, seed: int) -> Path:
    name = f"{part}-{size}px-seed{seed}-{count}.npz"
    return data_folder() / "fashion_scenes" / f"revision{REVISION}" / name


@lru_cache(maxsize=2)
def _items(source: str, part: Part) -> tuple[Source, Painter]:
    arrays = fashion_mnist.DATASET.read(source)
    is_train = part == "train"
    images = arrays.train_images if is_train else arrays.test_images
    labels = arrays.train_labels if is_train else arrays.test_labels
    boxes = _tight_boxes(np.asarray(images[:, 0] > 0))
    groups = np.array(GROUP_OF, dtype=np.int64)[labels]
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return Source(groups, boxes), Painter(images[:, 0], middles, groups, labels)


def _tight_boxes(shown: NDArray[np.bool_]) -> NDArray[np.float64]:
    sides = []
    for axis in (1, 2):
        there = np.asarray(shown.any(axis=axis))
        sides += [there.argmax(axis=1), there.shape[1] - there[:, ::-1].argmax(axis=1)]
    left, right, top, bottom = sides
    return np.stack([left, top, right, bottom], axis=1).astype(np.float64)


def _read(path: Path, count: int, size: int) -> Scenes | None:
    """The scenes in a file; None without it, or where it is not what was written."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {field.name: file[field.name] for field in fields(Scenes)}
            digest = str(file["digest"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = arrays["images"].shape == (count, 1, size, size) and digest == _digest(arrays)
    return Scenes(**arrays) if fits else None


def _keep(path: Path, painted: Scenes) -> None:
    """Write the file; a data folder that can't be written to costs time alone."""
    arrays = {field.name: getattr(painted, field.name) for field in fields(Scenes)}
    content = io.BytesIO()
    np.savez_compressed(content, digest=np.array(_digest(arrays)), **arrays)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content.getvalue())
    except OSError:
        return


def _digest(arrays: dict[str, NDArray[np.generic]]) -> str:
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype} {array.shape}\n".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()
