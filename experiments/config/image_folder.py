"""The user's own images: how a folder of them is laid out, and what identifies it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Contents:
    """How many classes and images a folder has."""

    root: Path
    classes: int
    train: int
    test: int


def class_folders(root: Path) -> list[Path]:
    """The class folders of an image folder, sorted by name."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")


def image_files(folder: Path) -> Iterator[Path]:
    """The image files below a class folder, sorted."""
    for base, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."):
                yield Path(base) / file


def image_splits(root: Path) -> dict[str, Path]:
    """{"train": ..., "test": ...} where the folder has them (test, or val), else {"all": root}."""
    train = root / "train"
    for name in ("test", "val"):
        if train.is_dir() and (root / name).is_dir():
            return {"train": train, "test": root / name}
    return {"all": root}


def count(path: str) -> Contents:
    """Count the images of a folder; UserError unless there are images of at least two classes."""
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"imagefolder: {path!r} is not a folder")
    splits = image_splits(root)
    counts: dict[str, int] = {}
    for split, folder in splits.items():
        classes = class_folders(folder)
        counts[split] = sum(1 for entry in classes for _ in image_files(entry))
        if len(classes) < 2 or not counts[split]:
            raise UserError(
                f"imagefolder: expected a folder of images for each of at least two classes in "
                f"{str(folder)!r}, got {len(classes)} folders with {counts[split]} images"
            )
    # About: the split of an undivided folder is made when its images are read.
    train = counts.get("train", counts.get("all", 0) * 4 // 5)
    classes = class_folders(next(iter(splits.values())))
    return Contents(root, len(classes), train, sum(counts.values()) - train)


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify the images of a folder by their names and sizes."""
    root = Path(path).expanduser()
    total = hashlib.sha256()
    for folder in image_splits(root).values():
        for entry in class_folders(folder):
            for file in image_files(entry):
                total.update(f"{file.relative_to(root)}\0{file.stat().st_size}\n".encode())
    return total.hexdigest()[:16]
