"""Boxes around objects in the user's own images, from a data set in YOLO's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments.config.box_files.boxes import (
    LOCALISATION,
    Box,
    BoxedImages,
    BoxFile,
    checked,
    read_text,
)
from mixbench.experiments.errors import UserError

SPLITS = ("train", "val", "test")
_NOT_IMAGES = (".txt", ".yaml", ".yml", ".cache", ".json", ".csv")


def read_yolo(path: Path) -> BoxFile:
    """Read the boxes of all splits.

    Args:
        path: The YAML file, or the folder that has one.

    Raises:
        UserError: What is wrong, with the line of the label file.
    """
    _, splits = yolo_splits(path)
    boxes = [box for one in splits.values() for rows in one.images.values() for box in rows]
    if not boxes:
        raise UserError(f"{LOCALISATION}: {path}: no box in the images of {', '.join(SPLITS)}")
    return BoxFile(boxes)


def yolo_splits(
    path: Path, field: str = LOCALISATION
) -> tuple[tuple[str, ...], dict[str, BoxedImages]]:
    """Read the names of the classes, and the images of each split, with and without boxes.

    Args:
        path: The YAML file, or the folder that has one.
        field: What errors name.

    Raises:
        UserError: What is wrong, with the line of the label file.
    """
    file = _yaml_in(path, field) if path.is_dir() else path
    name = f"{field}: {file}"
    try:
        content = yaml.safe_load(read_text(file, field))
    except yaml.YAMLError as error:
        raise UserError(f"{name}: no YAML: {str(error).splitlines()[0]}") from None
    content = content if isinstance(content, dict) else {}
    names = _names(content.get("names"), name)
    classes = tuple(dict.fromkeys(names[number] for number in sorted(names)))
    root = file.parent / str(content.get("path") or "")
    splits = {}
    for split in SPLITS:
        given = content.get(split)
        images: dict[Path, list[Box]] = {}
        for folder in given if isinstance(given, list) else [given] if given else []:
            images |= _of_folder(root / str(folder), names, f"{name}: {split}", field)
        if images:
            splits[split] = BoxedImages(classes, images)
    return classes, splits


def _yaml_in(folder: Path, field: str) -> Path:
    files = sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    if len(files) != 1:
        raise UserError(
            f"{field}: {folder} has {len(files)} YAML files, expected the one of a data "
            "set in YOLO's form; name the file"
        )
    return files[0]


def _names(given: Any, name: str) -> dict[int, str]:
    pairs = dict(enumerate(given)) if isinstance(given, list) else given
    if not isinstance(pairs, dict) or not pairs or not all(type(key) is int for key in pairs):
        raise UserError(f"{name}: names: got {given!r:.80}, expected the names of the classes")
    return {key: str(value) for key, value in pairs.items()}


def _of_folder(
    folder: Path, names: dict[int, str], where: str, field: str
) -> dict[Path, list[Box]]:
    if not folder.is_dir():
        raise UserError(f"{where}: no folder {str(folder)!r}")
    images: dict[Path, list[Box]] = {}
    for image in sorted(folder.rglob("*")):
        if image.suffix.lower() in _NOT_IMAGES or not image.is_file():
            continue
        boxes = images[image] = []
        labels = _label_file(image)
        if not labels.is_file():
            continue  # an image without objects has no file
        for number, line in enumerate(read_text(labels, field).splitlines(), start=1):
            if line.strip():
                row = f"{field}: {labels}, line {number}"
                boxes.append(_box(line.split(), names, image, row))
    return images


def _label_file(image: Path) -> Path:
    """Replace the last folder `images` by `labels`; without one, it is beside the image."""
    parts = list(image.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)


def _box(fields: list[str], names: dict[int, str], image: Path, where: str) -> Box:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        raise UserError(f"{where}: got {' '.join(fields)!r:.80}, expected numbers") from None
    if len(numbers) < 5 or (len(numbers) > 5 and len(numbers) % 2 == 0):
        raise UserError(
            f"{where}: got {len(numbers)} numbers, expected class x y width height, or a class and "
            "the corners of a polygon"
        )
    label = names.get(int(numbers[0])) if numbers[0] == int(numbers[0]) else None
    if label is None:
        raise UserError(
            f"{where}: class: got {fields[0]}, expected one of {', '.join(map(str, names))}"
        )
    if len(numbers) == 5:
        x, y, width, height = numbers[1:]
        sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    else:
        across, down = numbers[1::2], numbers[2::2]
        sides = (min(across), min(down), max(across), max(down))
    return checked(Box(where, image, label, sides, fractions=True, slack=True))
