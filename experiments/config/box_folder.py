"""The user's own images with boxes: which files, classes and splits, from COCO or YOLO files.

    boxfolder:data.yaml        YOLO: names of classes, and folders of images: train, val, test
    boxfolder:FOLDER           with one YAML file: YOLO; with `annotations/*.json`: COCO, where
                               `annotations/instances_train2017.json` names images of `train2017`
    boxfolder:boxes.json       one COCO file; images lie beside it, or in `images`

Without `test` images those of `val` test; without either, every fifth image does.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.config.box_files.boxes import Box, BoxedImages
from mixbench.experiments.config.box_files.coco import coco_images
from mixbench.experiments.config.box_files.yolo import yolo_splits
from mixbench.experiments.errors import UserError

KIND = "boxfolder"
ANNOTATIONS = "annotations"
_SPLITS = ("train", "val", "test")

Images = Mapping[Path, list[Box]]


@dataclass(frozen=True)
class BoxFolder:
    """What is named; `validation` is None where nothing lists it.

    Attributes:
        root: What names count from.
        classes: Their names.
        train: The boxes of each image.
        validation: The same, or None.
        test: The same.
        crowds: Boxes left out because they are around many objects.
    """

    root: Path
    classes: tuple[str, ...]
    train: Images
    validation: Images | None
    test: Images
    crowds: int


@cache
def open_box_folder(path: str) -> BoxFolder:
    """Read the boxes; UserError for what is missing or wrong. No image is opened."""
    given = Path(path).expanduser()
    if not given.exists():
        raise UserError(f"{KIND}: no file or folder {str(given)!r}")
    splits = _splits(given)
    classes = tuple(dict.fromkeys(name for one in splits.values() for name in one.classes))
    train = splits["train"].images if "train" in splits else {}
    if len(train) < 2 or not any(train.values()):
        raise UserError(
            f"{KIND}: {given} has {len(train)} images to train on with "
            f"{sum(map(len, train.values()))} boxes, expected at least 2 images and a box"
        )
    _check_apart(given, splits)
    root = given if given.is_dir() else given.parent
    crowds = sum(one.crowds for one in splits.values())
    validation = splits["val"].images if "val" in splits else None
    if "test" in splits:
        return BoxFolder(root, classes, train, validation, splits["test"].images, crowds)
    if validation is not None:
        return BoxFolder(root, classes, train, None, validation, crowds)
    files = list(train)
    # Every fifth, in the order of their names.
    test = {file: train[file] for file in files[1::5]}
    rest = {file: train[file] for file in files if file not in test}
    return BoxFolder(root, classes, rest, None, test, crowds)


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify images and boxes by names, sizes and splits."""
    folder = open_box_folder(path)
    total = hashlib.sha256("\0".join(folder.classes).encode())
    for split in ("train", "validation", "test"):
        total.update(f"\n{split}\n".encode())
        for file, boxes in (getattr(folder, split) or {}).items():
            name = os.fsencode(os.path.relpath(file, folder.root))
            total.update(b"%s\0%d\n" % (name, file.stat().st_size))
            for box in boxes:
                total.update(f"{box.label}\0{box.sides}\0{box.fractions}\n".encode())
    return total.hexdigest()[:16]


def _splits(given: Path) -> dict[str, BoxedImages]:
    if given.is_file() and given.suffix.lower() == ".json":
        images = given.parent / "images"
        folder = images if images.is_dir() else given.parent
        return {"train": coco_images(given, folder, KIND)}
    annotations = given / ANNOTATIONS
    if not annotations.is_dir():
        return yolo_splits(given, KIND)[1]
    splits = {}
    for split in _SPLITS:
        files = sorted(annotations.glob(f"*{split}*.json"))
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise UserError(f"{KIND}: {annotations} has {names}; expected one file for {split}")
        if files:
            splits[split] = coco_images(files[0], _images_of(given, files[0], split), KIND)
    if "train" not in splits:
        raise UserError(f"{KIND}: {annotations} has no file with train in its name, *.json")
    return splits


def _images_of(root: Path, file: Path, split: str) -> Path:
    """The folder of a COCO file's images: named by the end of its name, or by the split."""
    tried = [root / file.stem.rpartition("_")[2], root / split, root / "images" / split]
    tried += [root / "images", root]
    return next(folder for folder in tried if folder.is_dir())


def _check_apart(given: Path, splits: Mapping[str, BoxedImages]) -> None:
    seen: dict[str, str] = {}
    for split, one in splits.items():
        for file in one.images:
            name = os.path.realpath(file)
            if name in seen:
                raise UserError(
                    f"{KIND}: {given}: {file.name} is both in {seen[name]} and in {split}"
                )
            seen[name] = split
