"""The user's own images with texts, in a CSV: which rows, which splits, what is odd.

    image,text,split                    the first line; `split` may be left out
    photos/1.jpg,A red apple,train      paths are relative to the file

Without `split` every fifth object tests. An object is all rows with the same image or the same
text: no object is in two splits.
"""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError, did_you_mean

KIND = "pairs"
_COLUMNS = ("image", "text")
_SPLITS = ("train", "val", "test")
_FEWEST = 4


@dataclass(frozen=True)
class Row:
    """An image with its text; `thing`: the object that it shows, a number from 0 on."""

    image: Path
    text: str
    thing: int


@dataclass(frozen=True)
class PairFile:
    """What is in a file; `validation` is None where it has no split `val`."""

    path: Path
    train: tuple[Row, ...]
    validation: tuple[Row, ...] | None
    test: tuple[Row, ...]


@cache
def open_pair_file(path: str) -> PairFile:
    """Read a file of pairs; whether images can be decoded is seen when they are.

    Raises UserError, with the line, for columns, images, texts or splits that are not there, and
    for an object in two splits.
    """
    file = Path(path).expanduser()
    lines = _lines(file)
    things = _things([(str(image), text) for _, image, text, _ in lines])
    split_of: dict[int, tuple[str, int]] = {}
    named = [split for _, _, _, split in lines]
    if not any(named):
        first = list(dict.fromkeys(things))
        tests = set(first[1::5])
        named = ["test" if thing in tests else "train" for thing in things]
    parts: dict[str, list[Row]] = {split: [] for split in _SPLITS}
    for (line, image, text, _), thing, split in zip(lines, things, named, strict=True):
        other, where = split_of.setdefault(thing, (split, line))
        if other != split:
            raise UserError(
                f"{KIND}: {file}: line {line} ({split}) shows the same as line {where} ({other}); "
                "an image or text may be in one split alone"
            )
        parts[split].append(Row(image, text, thing))
    for split in ("train", "test"):
        least = _FEWEST if split == "train" else 2
        if len(parts[split]) < least:
            raise UserError(
                f"{KIND}: {file} has {len(parts[split])} pairs to {split}, expected at least "
                f"{least}"
            )
    validation = tuple(parts["val"]) or None
    return PairFile(file, tuple(parts["train"]), validation, tuple(parts["test"]))


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify the texts, splits, and images by name and size."""
    file = open_pair_file(path)
    total = hashlib.sha256()
    for split in ("train", "validation", "test"):
        total.update(f"\n{split}\n".encode())
        for row in getattr(file, split) or ():
            name = os.path.relpath(row.image, file.path.parent)
            total.update(f"{name}\0{row.image.stat().st_size}\0{row.text}\n".encode())
    return total.hexdigest()[:16]


def _lines(file: Path) -> list[tuple[int, Path, str, str]]:
    """Return line number, image, text and split ("" without) of each row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            columns = reader.fieldnames or []
            for column in _COLUMNS:
                if column not in columns:
                    raise UserError(
                        f"{KIND}: {file} has no column {column!r}{did_you_mean(column, columns)}; "
                        f"expected image,text and optionally split, got {', '.join(columns)}"
                    )
            return [_line(file, reader.line_num, row, "split" in columns) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{KIND}: cannot read {file} ({reason}); expected a CSV file") from None


def _line(
    file: Path, number: int, row: dict[str, str], has_split: bool
) -> tuple[int, Path, str, str]:
    where = f"{KIND}: {file}, line {number}"
    name, text = ((row[column] or "").strip() for column in _COLUMNS)
    image = file.parent / name
    if not name or not image.is_file():
        raise UserError(f"{where}: there is no image {str(image)!r}")
    # As the encoder of texts has it: of what has neither letters nor digits nothing is left.
    if not any(one.isalnum() for one in text):
        raise UserError(f"{where}: got the text {text!r}, expected letters or digits")
    split = (row["split"] or "").strip().lower() if has_split else ""
    if has_split and split not in _SPLITS:
        raise UserError(f"{where}: got the split {split!r}, expected {', '.join(_SPLITS)}")
    return number, image.resolve(), text, split


def _things(rows: list[tuple[str, str]]) -> list[int]:
    """Number rows by what they show: those that share an image or a text have the same number."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = key = parent[parent[key]]
        return key

    for image, text in rows:
        parent[root(f"image {image}")] = root(f"text {' '.join(text.casefold().split())}")
    numbers: dict[str, int] = {}
    return [numbers.setdefault(root(f"image {image}"), len(numbers)) for image, _ in rows]
