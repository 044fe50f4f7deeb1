"""`webdataset:FOLDER`: shards of tar with `KEY.jpg` and `KEY.cls` for each picture.

Labels are names, or whole numbers whose names are the lines of `classnames.txt` beside the shards,
if it is there. Names of shards say what is to train and to test on, as in train-00000.tar.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mixbench.experiments.config.image_folder import suffixes
from mixbench.experiments.config.image_folder.files import is_hidden, shown
from mixbench.experiments.config.picture_list.base import Found, PictureList, class_name
from mixbench.experiments.config.picture_list.base import picture_list as made_list
from mixbench.experiments.config.picture_list.packed import CLASS_FILES, Reader, Row, read
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import first_line

KIND = "webdataset"


def read_shards(path: str) -> PictureList:
    """Read shards; UserError for what can't be read."""
    source, root, found = read(Shards(), path)
    return made_list(KIND, source, root, found)


@dataclass(frozen=True)
class _Place:
    name: str
    offset: int
    size: int


class Shards(Reader):
    """Reads pictures where they lie in the shards; copies them where these are compressed."""

    kind = KIND
    suffixes = (".tar", ".tar.gz", ".tgz")

    def copies(self, files: Sequence[Path]) -> bool:
        return any(file.suffix.lower() != ".tar" for file in files)

    def look(
        self, files: Sequence[tuple[str, Path]], root: Path, bytes_file: IO[bytes] | None
    ) -> tuple[list[Row], Found]:
        rows: list[Row] = []
        found = Found(classes=_class_names(root))
        for index, (split, file) in enumerate(files):
            number = index if bytes_file is None else -1
            try:
                pairs = list(_pairs(file, root, found, bytes_file))
            except (tarfile.TarError, EOFError, OSError) as error:
                if isinstance(error, OSError) and error.errno and error.filename is None:
                    raise  # of the cache's disk
                raise UserError(
                    f"webdataset: {shown(file)} can't be read: {first_line(error)}"
                ) from None
            for place, label in pairs:
                rows.append((split, label, place.name, number, place.offset, place.size))
        _check_numbers(rows, found, root)
        return rows, found


def _pairs(
    file: Path, root: Path, found: Found, bytes_file: IO[bytes] | None
) -> Iterator[tuple[_Place, str]]:
    """Yield each picture of a shard that has a label."""
    pictures: dict[str, _Place] = {}
    labels: dict[str, str] = {}
    with tarfile.open(file, "r:*") as tar:
        for member in tar:
            folder, slash, name = member.name.removeprefix("./").rpartition("/")
            stem, _, suffix = name.partition(".")
            key, suffix = f"{folder}{slash}{stem}", f".{suffix.lower()}"
            if not member.isfile() or member.issparse() or is_hidden(name):
                found.others["hidden" if is_hidden(name) else "no files"] += not member.isdir()
            elif suffix == ".cls":
                content = tar.extractfile(member)
                text = b"" if content is None else content.read(1000)
                labels[key] = class_name(text.decode("utf-8", "replace"))
            elif suffix not in suffixes.IMAGES:
                found.others[suffix] += 1
            elif key in pictures:
                where = f"{shown(file, root)}: {member.name}"
                found.left_out.append((where, f"a second picture of {key}"))
            else:
                pictures[key] = _placed(tar, member, bytes_file)
    for key, place in pictures.items():
        if labels.get(key):
            yield place, labels[key]
        else:
            found.left_out.append((f"{shown(file, root)}: {place.name}", "no label"))
    found.others[".cls without a picture"] += len(labels.keys() - pictures.keys())
    found.others = +found.others


def _placed(tar: tarfile.TarFile, member: tarfile.TarInfo, bytes_file: IO[bytes] | None) -> _Place:
    name = member.name.removeprefix("./").lstrip("/")
    if bytes_file is None:
        return _Place(name, member.offset_data, member.size)
    content = tar.extractfile(member)
    offset = bytes_file.tell()
    bytes_file.write(b"" if content is None else content.read())
    return _Place(name, offset, member.size)


def _class_names(root: Path) -> tuple[str, ...] | None:
    for name in CLASS_FILES:
        try:
            lines = (root / name).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, ValueError):
            continue
        return tuple(class_name(line) for line in lines if line.strip()) or None
    return None


def _check_numbers(rows: list[Row], found: Found, root: Path) -> None:
    """Make whole numbers of labels that are all such; UserError for those without a name."""
    if not all(str(row[1]).isdecimal() for row in rows):
        if found.classes is not None and (
            unnamed := sorted({str(row[1]) for row in rows} - set(found.classes))
        ):
            raise UserError(
                f"webdataset: {shown(root)}: label {shown(unnamed[0])!r} is not in the file of "
                "class names"
            )
        return
    numbers = [int(row[1]) for row in rows]
    if found.classes is not None and rows and max(numbers) >= len(found.classes):
        raise UserError(
            f"webdataset: {shown(root)}: label {max(numbers)}, but {len(found.classes)} names of "
            "classes, for labels from 0 on"
        )
    rows[:] = [(row[0], n, *row[2:]) for row, n in zip(rows, numbers, strict=True)]
