"""The user's own images: how many there are, and what identifies a folder of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.config.image_folder.files import Contents, contents, shown
from mixbench.experiments.config.image_folder.layout import (
    UNDIVIDED,
    Layout,
    layout,
    split_folders,
)
from mixbench.experiments.config.image_folder.level import EXPECTED, refused
from mixbench.experiments.errors import UserError


@dataclass(frozen=True)
class Counts:
    """How many classes and images a folder has; validation: None unless it has such a split."""

    root: Path
    classes: int
    train: int
    validation: int | None
    test: int


def open_folder(path: str) -> Layout:
    """Find the splits and classes of a folder; UserError where there is none, or another layout."""
    root = Path(path).expanduser()
    try:
        is_folder = bool(path) and root.is_dir()
    except OSError as error:  # a name that is too long
        raise UserError(f"imagefolder: {path!r}: {error.strerror}") from None
    if not is_folder:
        what = "is a file, not a folder" if path and root.exists() else "is not a folder"
        raise UserError(f"imagefolder: {path!r} {what}; expected {EXPECTED}")
    return layout(root)


def splits_of(
    found: Layout, *, may_lack_test: bool = False
) -> Iterator[tuple[str, list[Contents]]]:
    """List what is in each split, class by class.

    Raises UserError for a class without images to train on, or to take one of them off to test on
    where that is needed (unless `may_lack_test`), and for a split without images.
    """
    least = {"train": 1 if "test" in found.splits else 2, UNDIVIDED: 2}
    for split, folders in split_folders(found):
        by_class = [_contents(folder, found) for folder in folders]
        if not any(inside.images for inside in by_class):
            where = found.folders.get(split)
            where = "it" if where is None else shown(where)
            raise refused(found.root, f"{where} has {len(by_class)} folders with 0 images")
        for folder, inside in zip(folders, by_class, strict=True):
            enough = 1 if may_lack_test else 2
            if len(inside.images) < min(least.get(split, 0), enough):
                reasons = dict.fromkeys(why for _, why in inside.left_out)
                because = f" ({'; '.join([*reasons][:3])})" if reasons else ""
                raise UserError(
                    f"imagefolder: class folder {shown(folder or '')} has {len(inside.images)} "
                    f"images{because}, expected at least {least[split]}"
                )
        yield split, by_class


def count(path: str) -> Counts:
    """Count the images of a folder; UserError unless there are images of at least two classes."""
    found = open_folder(path)
    counts = {
        split: sum(len(inside.images) for inside in by_class)
        for split, by_class in splits_of(found, may_lack_test=True)
    }
    train = counts.get(UNDIVIDED, counts.get("train", 0))
    if "test" not in counts:
        # About: the split is made when the images are read.
        counts["test"] = train - train * 4 // 5
        train -= counts["test"]
    validation = counts.get("validation")
    return Counts(found.root, len(found.classes), train, validation, counts["test"])


def has_test(path: str) -> bool:
    """Return whether a folder has test images of its own."""
    return "test" in open_folder(path).splits


def _contents(folder: Path | None, found: Layout) -> Contents:
    return Contents() if folder is None else contents(folder, found.root)


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify the images of a folder by their names and sizes."""
    found = open_folder(path)
    total = hashlib.sha256()
    for line in _identifying(found):
        total.update(line)
    return total.hexdigest()[:16]


def _identifying(found: Layout) -> Iterator[bytes]:
    # Folders of these two forms have had keys from the first version on.
    if found.folders not in ({}, {"train": "train", "test": "test"}):
        for split, name in found.folders.items():
            yield b"%s\0%s\n" % (split.encode(), os.fsencode(name))
    for _, folders in split_folders(found):
        for folder in folders:
            for file in _contents(folder, found).images:
                place = os.fsencode(file.relative_to(found.base))
                yield b"%s\0%d\n" % (place, file.stat().st_size)
