"""Boxes around objects in the user's own images, without torch: what they are, and from CSV.

    image,class,left,top,right,bottom
    photos/one.jpg,cat,12,30,140,200

Images are found relative to the file. Sides are in pixels of the upright image, from its left and
top edge: the whole of a 640 x 480 image is 0,0,640,480. An image may have many boxes.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.errors import UserError

SIDES = ("left", "top", "right", "bottom")
COLUMNS = ("image", "class", *SIDES)


@dataclass(frozen=True)
class Box:
    """One row of the file.

    Attributes:
        where: Names the row in errors.
        image: The file.
        label: The class.
        sides: Left, top, right, bottom, in pixels of the upright image.
        fractions: Whether `sides` are fractions of the image instead.
        slack: Whether sides are rounded: up to half a pixel outside is cut off.
    """

    where: str
    image: Path
    label: str
    sides: tuple[float, float, float, float]
    fractions: bool = False
    slack: bool = False

    def pixels(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The sides in pixels of an image of that size.

        Raises:
            UserError: The box is not in the image.
        """
        scale = (width, height, width, height) if self.fractions else (1, 1, 1, 1)
        sides = [side * factor for side, factor in zip(self.sides, scale, strict=True)]
        slack = 0.5 if self.slack else 0.0
        for name, value, most in zip(SIDES, sides, (width, height) * 2, strict=True):
            if not -slack <= value <= most + slack:
                limit = f"at most {most}" if value > 0 else "at least 0"
                raise UserError(
                    f"{self.where}: {name}: got {value:g}, expected {limit}: the image has "
                    f"{width} x {height} pixels"
                )
        left, top, right, bottom = sides
        return max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height)


@dataclass(frozen=True)
class BoxFile:
    """The boxes of a file; `crowds` were left out, because they are around many objects."""

    boxes: list[Box]
    crowds: int = 0


@dataclass(frozen=True)
class BoxedImages:
    """Images with all of their boxes.

    Attributes:
        classes: Their names, in order.
        images: The boxes of each image, which may be none, in order.
        crowds: Boxes left out because they are around many objects.
    """

    classes: tuple[str, ...]
    images: dict[Path, list[Box]]
    crowds: int = 0


LOCALISATION = "localisation.boxes"
"""The field that errors name, unless they name a data set."""


def read_text(path: Path, field: str = LOCALISATION) -> str:
    """Read a text file; UserError, which names the field, where that can't be done."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UserError(f"{field}: {path} can't be read: {reason}") from None


def checked(box: Box) -> Box:
    """The box; UserError where its image is missing or it has no area."""
    if not box.image.is_file():
        raise UserError(f"{box.where}: image: no file {str(box.image)!r}")
    left, top, right, bottom = box.sides
    for low, high, first, second in (
        (left, right, "left", "right"),
        (top, bottom, "top", "bottom"),
    ):
        if not low < high:
            raise UserError(f"{box.where}: {second}: got {high:g}, expected above {first}, {low:g}")
    return box


def read(path: Path) -> list[Box]:
    """Read all rows of a CSV file.

    Args:
        path: The CSV file.

    Raises:
        UserError: What is wrong, with the row's number in the file and the field.
    """
    name = f"{LOCALISATION}: {path}"
    text = read_text(path)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    boxes: list[Box] = []
    header: list[str] | None = None
    try:
        for row in rows:
            fields = [field.strip() for field in row]
            if not any(fields):
                continue
            where = f"{name}, row {rows.line_num}"
            if header is None:
                header = _header(fields, where)
                continue
            if len(fields) != len(header):
                raise UserError(f"{where}: got {len(fields)} fields, expected {len(header)}")
            boxes.append(_box(dict(zip(header, fields, strict=True)), where, path.parent))
    except csv.Error as error:
        raise UserError(f"{name}, row {rows.line_num}: {error}") from None
    if not boxes:
        raise UserError(f"{name}: no box in it; expected rows of {','.join(COLUMNS)}")
    return boxes


def _header(fields: list[str], where: str) -> list[str]:
    names = [field.lower() for field in fields]
    for column in COLUMNS:
        if names.count(column) != 1:
            problem = "no" if column not in names else "more than one"
            raise UserError(
                f"{where}: {problem} column {column!r}; expected a first row {','.join(COLUMNS)}"
            )
    return names


def _box(row: dict[str, str], where: str, folder: Path) -> Box:
    image = folder / row["image"]
    if not row["image"] or not image.is_file():
        raise UserError(f"{where}: image: no file {str(image)!r}")
    left, top, right, bottom = (_pixels(row[side], side, where) for side in SIDES)
    return checked(Box(where, image, row["class"], (left, top, right, bottom)))


def _pixels(text: str, side: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise UserError(f"{where}: {side}: got {text!r}, expected pixels, at least 0")
    return value
