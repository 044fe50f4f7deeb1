"""The user's own images with masks, in the layout of Pascal VOC: which files, classes and splits.

    JPEGImages/NAME.jpg (or .png)           the images
    SegmentationClass/NAME.png              a class for each pixel: palette or grey, 255 is ignored
    SegmentationObject/NAME.png             optional: a number for each object
    ImageSets/Segmentation/train.txt, ...   optional: NAMEs of train, val and test, one a line
    labels.txt                              optional: names of classes from 0 on, one a line

Without lists every mask is used. Without `val` and `test` every fifth image tests; with `train` and
`val` alone, `val` tests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError

KIND = "maskfolder"
IMAGES, MASKS, OBJECTS = "JPEGImages", "SegmentationClass", "SegmentationObject"
LISTS = "ImageSets/Segmentation"
NAMES = "labels.txt"
IGNORED = 255
_SUFFIXES = (".jpg", ".jpeg", ".png")
_MODES = ("P", "L", "1")
_VOC = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


@dataclass(frozen=True)
class Pair:
    """An image and its mask; `objects`: the mask of its objects, if there is one."""

    image: Path
    mask: Path
    objects: Path | None


@dataclass(frozen=True)
class MaskFolder:
    """What is in a folder; `validation` is None where nothing lists it."""

    root: Path
    classes: tuple[str, ...]
    train: tuple[Pair, ...]
    validation: tuple[Pair, ...] | None
    test: tuple[Pair, ...]


@cache
def open_mask_folder(path: str) -> MaskFolder:
    """List a folder; of images and masks the headers are read, and the values of masks.

    Raises UserError for a missing folder or file, a mask of another size than its image, one
    without a number for each pixel, and a class without a name.
    """
    root = Path(path).expanduser()
    for folder in (root, root / IMAGES, root / MASKS):
        if not folder.is_dir():
            raise UserError(
                f"{KIND}: {str(folder)!r} is not a folder; expected one that holds {IMAGES} and "
                f"{MASKS}"
            )
    images = {
        file.stem: file for file in sorted((root / IMAGES).iterdir()) if _has(file, _SUFFIXES)
    }
    masks = {file.stem: file for file in sorted((root / MASKS).iterdir()) if _has(file, (".png",))}
    lists = {name: _read_list(root, name) for name in ("train", "val", "test")}
    listed = {name: names for name, names in lists.items() if names is not None}
    if listed and "train" not in listed:
        raise UserError(f"{KIND}: {root / LISTS} has no train.txt")
    splits = listed or {"train": list(masks)}
    pairs = {
        split: tuple(_pair(root, name, images, masks) for name in names)
        for split, names in splits.items()
    }
    if len(pairs["train"]) < 2:
        raise UserError(
            f"{KIND}: {root} has {len(pairs['train'])} images with masks to train on, expected at "
            f"least 2"
        )
    _check_apart(root, splits)
    every = [pair for part in pairs.values() for pair in part]
    classes = _classes(root, every)
    if "test" in pairs or "val" in pairs:
        validation = pairs.get("val") if "test" in pairs else None
        test = pairs["test"] if "test" in pairs else pairs["val"]
        return MaskFolder(root, classes, pairs["train"], validation, test)
    # Every fifth, in the order of their names.
    train = tuple(pair for number, pair in enumerate(pairs["train"]) if number % 5 != 1)
    return MaskFolder(root, classes, train, None, pairs["train"][1::5])


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify the images and masks by names, sizes and splits."""
    folder = open_mask_folder(path)
    total = hashlib.sha256("\0".join(folder.classes).encode())
    for split in ("train", "validation", "test"):
        total.update(f"\n{split}\n".encode())
        for pair in getattr(folder, split) or ():
            for file in (pair.image, pair.mask, pair.objects):
                if file is not None:
                    name = os.fsencode(file.relative_to(folder.root))
                    total.update(b"%s\0%d\n" % (name, file.stat().st_size))
    return total.hexdigest()[:16]


def _has(file: Path, suffixes: Iterable[str]) -> bool:
    return file.suffix.lower() in suffixes and not file.name.startswith(".")


def _read_list(root: Path, name: str) -> list[str] | None:
    path = root / LISTS / f"{name}.txt"
    try:
        names = path.read_text(encoding="utf-8").split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{KIND}: cannot read {path} ({error})") from None
    if not names:
        raise UserError(f"{KIND}: {path} is empty")
    return list(dict.fromkeys(names))


def _check_apart(root: Path, splits: dict[str, list[str]]) -> None:
    seen: dict[str, str] = {}
    for split, names in splits.items():
        for name in names:
            if name in seen:
                raise UserError(
                    f"{KIND}: {name} is both in {seen[name]}.txt and {split}.txt of {root / LISTS}"
                )
            seen[name] = split


def _pair(root: Path, name: str, images: dict[str, Path], masks: dict[str, Path]) -> Pair:
    for kind, found, suffix in ((IMAGES, images, ".jpg"), (MASKS, masks, ".png")):
        if name not in found:
            there = images.get(name) or masks.get(name)
            other = f", which {there.relative_to(root)} needs" if there else ""
            raise UserError(f"{KIND}: {root} has no {kind}/{name}{suffix}{other}")
    objects = root / OBJECTS / f"{name}.png"
    return Pair(images[name], masks[name], objects if objects.is_file() else None)


def _classes(root: Path, pairs: list[Pair]) -> tuple[str, ...]:
    """The names of the classes; numbers where nothing names them."""
    names = root / NAMES
    given = names.read_text(encoding="utf-8").split("\n") if names.is_file() else None
    highest, where = -1, pairs[0].mask
    for pair in pairs:
        value = _highest(root, pair)
        if value > highest:
            highest, where = value, pair.mask
    if given is not None:
        classes = tuple(line.strip() for line in given if line.strip())
        if highest >= len(classes):
            raise UserError(
                f"{KIND}: {where.relative_to(root)} has the class {highest}, but {names} names "
                f"{len(classes)}"
            )
        return classes
    if highest < 1:
        raise UserError(f"{KIND}: masks of {root} have no class but 0; expected at least two")
    is_voc = highest == len(_VOC) - 1
    return tuple(_VOC) if is_voc else tuple(str(number) for number in range(highest + 1))


def _highest(root: Path, pair: Pair) -> int:
    """The highest class of a mask, which must be one of its image; 255 is ignored."""
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    sizes = {}
    try:
        with Image.open(pair.image) as image:
            sizes[pair.image] = ImageOps.exif_transpose(image).size
        for file in (pair.mask, *([pair.objects] if pair.objects else [])):
            with Image.open(file) as mask:
                if mask.mode not in _MODES:
                    raise UserError(
                        f"{KIND}: {file.relative_to(root)} has colours ({mask.mode}), expected a "
                        f"number for each pixel: a palette or grey"
                    )
                sizes[file] = mask.size
                if file == pair.mask:
                    values = np.unique(np.asarray(mask))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        broken = next((one for one in (pair.image, pair.mask) if one not in sizes), pair.mask)
        raise UserError(f"{KIND}: cannot read {broken.relative_to(root)} ({error})") from None
    (image_file, size), *others = sizes.items()
    for file, other in others:
        if other != size:
            raise UserError(
                f"{KIND}: {file.relative_to(root)} has {other[0]} x {other[1]} pixels, but "
                f"{image_file.relative_to(root)} has {size[0]} x {size[1]}"
            )
    counted = values[values != IGNORED]
    return int(counted.max()) if len(counted) else -1
