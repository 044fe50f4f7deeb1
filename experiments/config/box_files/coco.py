"""Boxes around objects in the user's own images, from a COCO file (Lin et al. 2014)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mixbench.experiments.config.box_files.boxes import (
    LOCALISATION,
    Box,
    BoxedImages,
    BoxFile,
    checked,
    read_text,
)
from mixbench.experiments.errors import UserError


def read_coco(path: Path, folder: Path | None) -> BoxFile:
    """Read the boxes of `annotations`.

    Args:
        path: The JSON file.
        folder: Where the images lie; None: beside the file.

    Raises:
        UserError: What is wrong, with the number of the annotation and the field.
    """
    name = f"{LOCALISATION}: {path}"
    parts = _parts(path, LOCALISATION)
    boxes, crowds = _boxes(parts, folder or path.parent, name)
    if not boxes:
        raise UserError(f"{name}: no box in it")
    return BoxFile(boxes, crowds)


def coco_images(path: Path, folder: Path, field: str) -> BoxedImages:
    """Read all images of a COCO file, with and without boxes.

    Args:
        path: The JSON file.
        folder: Where the images lie.
        field: Names the data set in errors.

    Raises:
        UserError: What is wrong, and where.
    """
    name = f"{field}: {path}"
    parts = _parts(path, field)
    boxes, crowds = _boxes(parts, folder, name)
    files = _by_id(parts["images"], "file_name", f"{name}: images")
    images: dict[Path, list[Box]] = {folder / file: [] for file in files.values()}
    for file in images:
        if not file.is_file():
            raise UserError(f"{name}: images: no file {str(file)!r}")
    for box in boxes:
        images[box.image].append(box)
    classes = _by_id(parts["categories"], "name", f"{name}: categories")
    return BoxedImages(tuple(dict.fromkeys(classes.values())), images, crowds)


def _parts(path: Path, field: str) -> dict[str, list[dict[str, Any]]]:
    name = f"{field}: {path}"
    try:
        content = json.loads(read_text(path, field))
    except ValueError as error:
        raise UserError(f"{name}: no JSON: {error}") from None
    return {key: _rows(content, key, name) for key in ("images", "annotations", "categories")}


def _boxes(
    parts: dict[str, list[dict[str, Any]]], folder: Path, name: str
) -> tuple[list[Box], int]:
    """The boxes, and how many are around crowds."""
    files = _by_id(parts["images"], "file_name", f"{name}: images")
    classes = _by_id(parts["categories"], "name", f"{name}: categories")
    boxes, crowds = [], 0
    for number, row in enumerate(parts["annotations"]):
        where = f"{name}, annotation {row.get('id', number)}"
        if row.get("iscrowd"):
            crowds += 1
            continue
        image = folder / _known(row, "image_id", files, where)
        left, top, width, height = _bbox(row, where)
        sides = (left, top, left + width, top + height)
        label = _known(row, "category_id", classes, where)
        boxes.append(checked(Box(where, image, label, sides, slack=True)))
    return boxes, crowds


def _rows(content: Any, key: str, name: str) -> list[dict[str, Any]]:
    rows = content.get(key) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{name}: {key}: expected a list of objects, as in a COCO file")
    return rows


def _by_id(rows: list[dict[str, Any]], field: str, where: str) -> dict[Any, str]:
    named = {}
    for number, row in enumerate(rows):
        value = row.get(field)
        if not isinstance(row.get("id"), int | str) or not isinstance(value, str):
            raise UserError(f"{where}[{number}]: expected id and {field}, got {row!r:.80}")
        named[row["id"]] = value
    return named


def _known(row: dict[str, Any], field: str, names: dict[Any, str], where: str) -> str:
    key = row.get(field)
    if not isinstance(key, int | str) or key not in names:
        raise UserError(f"{where}: {field}: got {key!r}, which the file does not list")
    return names[key]


def _bbox(row: dict[str, Any], where: str) -> tuple[float, float, float, float]:
    bbox = row.get("bbox")
    numbers = bbox if isinstance(bbox, list) else []
    if len(numbers) != 4 or not all(type(value) in (int, float) for value in numbers):
        raise UserError(f"{where}: bbox: got {bbox!r}, expected [left, top, width, height]")
    left, top, width, height = (float(value) for value in numbers)
    return left, top, width, height
