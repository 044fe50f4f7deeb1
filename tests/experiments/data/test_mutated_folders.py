"""Folders as people have them by accident: each is read right, or refused in one line.

What is right is known without the code under test: every picture has its class in its red channel
and its split in the green one, and a mutation says which pictures it makes unreadable.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from mixbench.experiments.config import datasets
from mixbench.experiments.data.inspection import words
from mixbench.experiments.data.inspection.inspect import Inspection, inspect
from mixbench.experiments.errors import UserError

CLASSES = ("blüte", "cat", "dog")
FORMATS = {"png": "PNG", "jpg": "PNG", "JPEG": "JPEG", "bmp": "BMP", "webp": "WEBP", "gif": "GIF"}


@cache
def content(label: int, part: int, number: int, kind: str) -> bytes:
    """A picture that says what it is: red is its class, green its split, blue its number."""
    file = BytesIO()
    Image.new("RGB", (4, 4), (60 * label + 30, 60 * part + 30, 8 * number)).save(file, kind)
    return file.getvalue()


@dataclass
class Folder:
    """A folder of images, and how many of each class can be read."""

    root: Path
    draw: random.Random
    parts: tuple[str, ...]
    files: list[Path] = field(default_factory=list)
    lost: set[Path] = field(default_factory=set)
    may_be_refused: bool = False

    def any_file(self) -> Path:
        return self.draw.choice([path for path in self.files if path not in self.lost])

    def any_class(self) -> Path:
        return self.root / self.draw.choice(self.parts) / self.draw.choice(CLASSES)


def build(root: Path, draw: random.Random) -> Folder:
    parts = draw.choice(
        [
            (".",),
            ("train", "test"),
            ("Train", "VAL", "Test"),
            ("training", "validation"),
            ("train",),
        ]
    )
    folder = Folder(root, draw, parts)
    for part, name in enumerate(parts):
        for label, of_class in enumerate(CLASSES):
            form = draw.choice(("NFC", "NFC", "NFD"))
            path = root / name / unicodedata.normalize(form, of_class)
            path.mkdir(parents=True)
            # Enough to train, validate and test on.
            for number in range(draw.randint(5, 7) if part == 0 else 3):
                suffix = draw.choice([*FORMATS])
                file = path / f"{number}.{suffix}"
                file.write_bytes(content(label, part, number, FORMATS[suffix]))
                folder.files.append(file)
    return folder


def _break(folder: Folder, write: Callable[[Path], object]) -> None:
    path = folder.any_file()
    write(path)
    folder.lost.add(path)


def _elsewhere(folder: Folder, path: Path) -> None:
    """Move a file or folder out of the folder and link to it."""
    target = folder.root.parent / f"{folder.root.name}-{len(os.listdir(folder.root.parent))}.bin"
    path.rename(target)
    path.symlink_to(target)


def _deeper(folder: Folder) -> None:
    path = folder.any_file()
    below = path.parent / "b_side" / "x.png"
    below.mkdir(parents=True, exist_ok=True)
    folder.files.append(path.rename(below / path.name))
    folder.files.remove(path)


def _linked_class(folder: Folder) -> None:
    path = folder.any_file().parent
    if not path.is_symlink():
        target = (
            folder.root.parent / f"{folder.root.name}-class-{len(os.listdir(folder.root.parent))}"
        )
        path.rename(target)
        path.symlink_to(target)


def _loop(folder: Folder) -> None:
    path = folder.any_file()
    back = path.parent / "back"
    if not back.is_symlink():
        back.symlink_to(folder.draw.choice([folder.root, path.parent, folder.root.parent, back]))


def _rename(folder: Folder, name: Callable[[Path], str]) -> None:
    path = folder.any_file()
    new = path.with_name(name(path))
    if not new.exists():
        folder.files[folder.files.index(path)] = path.rename(new)


def _file_in(folder: Folder, name: str, data: bytes) -> None:
    path = folder.any_file().with_name(name)
    path.write_bytes(data)


def _folder_in(folder: Folder, name: str, *, picture: bool) -> None:
    path = folder.draw.choice([folder.root, folder.any_file().parent]) / name
    path.mkdir(exist_ok=True)
    if picture:
        (path / "1.png").write_bytes(content(0, 0, 0, "PNG"))


def _unsure(change: Callable[[Folder], object]) -> Callable[[Folder], object]:
    """A change after which the folder may be refused, but not be read otherwise."""

    def changed(folder: Folder) -> None:
        folder.may_be_refused = True
        change(folder)

    return changed


def _all_broken(folder: Folder) -> None:
    path = folder.any_file().parent
    for file in [file for file in folder.files if path in file.parents]:
        file.unlink()
        file.write_bytes(b"<html>")
        folder.lost.add(file)


def _no_class(folder: Folder) -> None:
    path = folder.any_file().parent
    if not path.is_symlink():
        shutil.rmtree(path)
        folder.lost |= {file for file in folder.files if path in file.parents}


def _class_renamed(folder: Folder, change: Callable[[str], str]) -> None:
    path = folder.any_file().parent
    if path.parent.name in folder.parts and not path.is_symlink():
        new = path.rename(path.with_name(change(path.name)))
        folder.files = [
            new / file.relative_to(path) if path in file.parents else file for file in folder.files
        ]
        folder.lost = {
            new / file.relative_to(path) if path in file.parents else file for file in folder.lost
        }


MUTATIONS: list[Callable[[Folder], object]] = [
    lambda folder: _break(folder, lambda path: path.write_bytes(b"")),
    lambda folder: _break(folder, lambda path: path.write_bytes(path.read_bytes()[:20])),
    lambda folder: _break(folder, lambda path: path.write_text("<html>404</html>")),
    lambda folder: _break(folder, lambda path: (path.unlink(), path.symlink_to("/nonexistent"))),
    lambda folder: _break(folder, lambda path: (path.unlink(), os.mkfifo(path))),
    lambda folder: _break(folder, lambda path: (path.unlink(), path.symlink_to(path))),
    lambda folder: _elsewhere(folder, folder.any_file()),
    _deeper,
    _linked_class,
    _loop,
    lambda folder: _rename(folder, lambda path: f"{path.stem}.PNG"),
    lambda folder: _rename(folder, lambda path: f"n{path.stem}"),
    lambda folder: _rename(folder, lambda path: f"ä\n{path.stem} {path.suffix}"),
    lambda folder: _rename(folder, lambda path: os.fsdecode(b"\xff\xfe") + path.name),
    lambda folder: _file_in(folder, folder.draw.choice(["Thumbs.db", ".DS_Store", "a.txt"]), b"\0"),
    lambda folder: _file_in(folder, "._1.png", b"\0\5\26\7"),
    lambda folder: _file_in(folder, "copy.png.bak", content(0, 0, 0, "PNG")),
    lambda folder: _folder_in(folder, ".ipynb_checkpoints", picture=True),
    lambda folder: _folder_in(folder, "__MACOSX", picture=True),
    lambda folder: (folder.root / "readme.md").write_text("cats and dogs"),
    lambda folder: (folder.root / "beside.png").write_bytes(content(0, 0, 0, "PNG")),
    _unsure(lambda folder: (folder.root / "results").mkdir(exist_ok=True)),
    _unsure(lambda folder: (folder.any_class().parent / "gone").symlink_to("/nonexistent")),
    _unsure(_all_broken),
    _unsure(_no_class),
    _unsure(lambda folder: _class_renamed(folder, str.upper)),
    _unsure(lambda folder: _class_renamed(folder, lambda name: f"{name} ")),
]


def truth(folder: Folder) -> dict[str, int]:
    counts = dict.fromkeys(CLASSES, 0)
    for file in folder.files:
        if file not in folder.lost:
            names = [unicodedata.normalize("NFC", part).casefold().strip() for part in file.parts]
            counts[next(name for name in CLASSES if name in names)] += 1
    return counts


@pytest.mark.parametrize("seed", range(10))
def test_mutated_folders(seed: int, tmp_path: Path) -> None:
    read = 0
    for number in range(30):
        draw = random.Random(f"{seed} {number}")
        folder = build(tmp_path / f"f{number}", draw)
        for change in draw.sample(MUTATIONS, draw.randint(1, 4)):
            change(folder)
        datasets._folder_info.cache_clear()
        seen, problem = inspected(folder.root)
        if seen is None:
            # Broken ones may have been all that there was to train or test on.
            assert "\n" not in problem and (folder.may_be_refused or folder.lost), (number, problem)
            continue
        read += 1
        found = words.as_json(seen)
        json.dumps(found)
        words.as_text(seen).encode()
        classes = {name.casefold().strip(): count for name, count in found["classes"].items()}
        expected = truth(folder)
        if folder.may_be_refused:
            expected = {name: count for name, count in expected.items() if count}
        assert classes == expected, (number, found)
        assert sum(found["splits"].values()) == sum(expected.values())
        check_colours(seen, folder.parts)
    assert read >= 15


def inspected(root: Path) -> tuple[Inspection | None, str]:
    """What is read, or the line with which the folder is refused."""
    try:
        return inspect(str(root)), ""
    except UserError as error:
        return None, str(error)


def check_colours(seen: Inspection, parts: tuple[str, ...]) -> None:
    """Every picture must be in the class and the split that its colour says."""
    numbers = {"train": 0, "validation": 1, "test": len(parts) - 1}
    for picture in seen.pictures:
        with Image.open(picture.path) as image:
            red, green, _ = image.convert("RGB").getpixel((1, 1))
        assert CLASSES[round((red - 30) / 60)] == picture.label.casefold().strip()
        if picture.split in seen.listing.folders:
            assert round((green - 30) / 60) == numbers[picture.split]
