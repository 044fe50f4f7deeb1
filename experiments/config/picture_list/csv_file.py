"""`csv:FILE`: a table of pictures with their labels.

    path,label,split,boxes
    photos/one.jpg,cat,train,12 30 140 200; 150 20 190 60 dog

Paths count from the file's folder. `split` and `boxes` may be missing. A box is left, top, right
and bottom in pixels of the upright picture, then its class where that is not the row's label.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.config.image_folder import suffixes
from mixbench.experiments.config.image_folder.files import shown
from mixbench.experiments.config.image_folder.layout import UNDIVIDED
from mixbench.experiments.config.image_folder.names import split_kind
from mixbench.experiments.config.picture_list.base import (
    SPLITS,
    Found,
    Picture,
    PictureList,
    class_name,
    picture_list,
)
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.text import plural

KIND = "csv"
COLUMNS = ("path", "label")
OPTIONAL = ("split", "boxes")
_DELIMITERS = (",", ";", "\t")

Sides = tuple[float, float, float, float]


@dataclass(frozen=True)
class RowBox:
    """A box of a row: what names the row in errors, its picture, class and sides in pixels."""

    where: str
    image: Path
    label: str
    sides: Sides


@dataclass(frozen=True)
class _Row:
    number: int
    path: str
    label: str
    split: str
    boxes: str


def read(path: str) -> PictureList:
    """Read a table; UserError, with the row's number, for what can't be read."""
    file = Path(path).expanduser().absolute()
    rows = list(_rows(file))
    found = _pictures(rows, file)
    for row in rows:
        _boxes(row, file)
    return picture_list(KIND, file, file.parent, found)


def has_boxes(path: Path) -> bool:
    """Whether a CSV file is such a table, and has the column `boxes`."""
    header = next(iter(_lines(path.absolute())), ([], 0))[0]
    return {"path", "boxes"} <= {name.lower() for name in header}


def boxes_of(path: Path) -> list[RowBox]:
    """Return the boxes of all rows of a table.

    Raises:
        UserError: A row can't be read; it is named with its number.
    """
    file = path.absolute()
    return [box for row in _rows(file) for box in _boxes(row, file)]


def _lines(file: Path) -> Iterator[tuple[list[str], int]]:
    """Yield the fields of each line that has any, and its number."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = "not UTF-8 text" if isinstance(error, ValueError) else error.strerror
        raise UserError(f"csv: {shown(file)} can't be read: {reason}") from None
    first = text.lstrip().partition("\n")[0].lower()
    delimiter = max(_DELIMITERS, key=first.count)
    rows = csv.reader(
        io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=delimiter
    )
    try:
        for row in rows:
            fields = [field.strip() for field in row]
            if any(fields):
                yield fields, rows.line_num
    except csv.Error as error:
        raise UserError(f"csv: {shown(file)}, row {rows.line_num}: {error}") from None


def _rows(file: Path) -> Iterator[_Row]:
    header: list[str] | None = None
    for fields, number in _lines(file):
        if header is None:
            header = _header(fields, file)
            continue
        if len(fields) != len(header):
            raise UserError(
                f"csv: {shown(file)}, row {number}: got {plural(len(fields), 'field')}, expected "
                f"{len(header)}; a field with a comma in it needs quotes"
            )
        row = dict(zip(header, fields, strict=True))
        yield _Row(number, row["path"], row["label"], row.get("split", ""), row.get("boxes", ""))
    if header is None:
        raise UserError(f"csv: {shown(file)} is empty; expected a first row path,label")


def _header(fields: Sequence[str], file: Path) -> list[str]:
    names = [field.lower() for field in fields]
    for column in (*COLUMNS, *OPTIONAL):
        count = names.count(column)
        if count > 1 or (not count and column in COLUMNS):
            problem = "more than one" if count else "no"
            guess = "" if count else did_you_mean(column, names).replace("did you mean", "is it")
            raise UserError(
                f"csv: {shown(file)}: {problem} column {column!r} in {','.join(fields)}{guess}; "
                "expected path,label and, if there are any, split,boxes"
            )
    return names


def _pictures(rows: Sequence[_Row], file: Path) -> Found:
    found = Found()
    first: dict[str, _Row] = {}
    outside = []
    for row in rows:
        where = f"row {row.number}"
        split = _split(row, file)
        name = os.path.relpath(file.parent / row.path, file.parent)
        problem = _problem(row, file.parent / name)
        if problem:
            found.left_out.append((f"{where}: {row.path}" if row.path else where, problem))
            continue
        before = first.setdefault(name, row)
        if before is not row:
            _check_same(before, row, file)
            continue
        if name.split("/")[0] == "..":
            outside.append(row.path)
        path = Path(os.path.normpath(file.parent / name))
        found.pictures.append(Picture(path, name, class_name(row.label), split))
    if outside:
        found.notes.append(
            f"{plural(len(outside), 'picture')} outside of the folder of {shown(file.name)}, such "
            f"as {shown(outside[0])}"
        )
    return found


def _split(row: _Row, file: Path) -> str:
    if not row.split:
        return UNDIVIDED
    kind = split_kind(row.split)
    if kind not in SPLITS:
        raise UserError(
            f"csv: {shown(file)}, row {row.number}: split: got {row.split!r}, expected "
            f"{', '.join(SPLITS)}{did_you_mean(row.split, SPLITS)}"
        )
    return str(kind)


def _problem(row: _Row, path: Path) -> str:
    """Say why a row is not used; "" if it is."""
    if not row.path:
        return "no path"
    if not class_name(row.label):
        return "no label"
    suffix = path.suffix.lower()
    if suffix in suffixes.OTHER_IMAGES or suffix in suffixes.NOT_IMAGES:
        return f"{suffix} files are not read"
    try:
        if path.is_file():
            return ""
        return "not a regular file" if path.exists() else "no such file"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def _check_same(before: _Row, row: _Row, file: Path) -> None:
    """Raise UserError for a picture that is named twice, with other labels or splits."""
    for field in ("label", "split"):
        one, other = getattr(before, field), getattr(row, field)
        if one != other:
            raise UserError(
                f"csv: {shown(file)}: {shown(row.path)} has the {field} {one!r} in row "
                f"{before.number} and {other!r} in row {row.number}; expected one {field}"
            )


def _boxes(row: _Row, file: Path) -> list[RowBox]:
    where = f"csv: {shown(file)}, row {row.number}"
    texts = (text.strip() for text in row.boxes.split(";"))
    return [_box(text, row, where, file.parent) for text in texts if text]


def _box(text: str, row: _Row, where: str, folder: Path) -> RowBox:
    *words, label = [*text.split(maxsplit=4), row.label][:5]
    try:
        left, top, right, bottom = (float(word) for word in words)
        fine = 0 <= left < right < math.inf and 0 <= top < bottom < math.inf
    except ValueError:
        fine = False
    if not fine:
        raise UserError(
            f"{where}: boxes: got {text!r}, expected left top right bottom in pixels, left below "
            "right and top below bottom, and several boxes with ; between"
        )
    return RowBox(where, folder / row.path, class_name(label), (left, top, right, bottom))
