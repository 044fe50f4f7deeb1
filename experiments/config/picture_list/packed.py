"""What files of many pictures hold, looked through once: kept beside the decoded pictures.

An entry of the cache has `pictures.json` (where each picture lies), `entry.json` (whose they are)
and, of files that can't be read at any place, `bytes.bin` with the pictures themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from mixbench.experiments.config.image_folder.files import is_hidden, shown
from mixbench.experiments.config.image_folder.layout import UNDIVIDED
from mixbench.experiments.config.image_folder.names import listed, split_kind
from mixbench.experiments.config.member_file import Member, member_path
from mixbench.experiments.config.picture_list.base import SPLITS, Found, Picture
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.cache import LEFT_FREE, alone, folder
from mixbench.experiments.store.files import folder_aside
from mixbench.experiments.text import first_line

SCHEMA = 1
BYTES, PICTURES, ENTRY = "bytes.bin", "pictures.json", "entry.json"

Row = tuple[str, int | str, str, int, int, int]
"""A picture: split, class, name, number of its file (-1: `bytes.bin`), first byte, bytes."""


class Reader(ABC):
    """Looks through files of many pictures."""

    kind: str
    suffixes: tuple[str, ...]

    @abstractmethod
    def copies(self, files: Sequence[Path]) -> bool:
        """Whether pictures must be copied to be found again."""

    @abstractmethod
    def look(
        self, files: Sequence[tuple[str, Path]], root: Path, bytes_file: IO[bytes] | None
    ) -> tuple[list[Row], Found]:
        """List the pictures of files, each with its split; write them out where that is asked for.

        The pictures are in the rows, all else in what was found. UserError for a damaged file.
        """


def read(reader: Reader, path: str) -> tuple[Path, Path, Found]:
    """Return what was named, its folder and what the files hold, from the cache where it is."""
    source = Path(path).expanduser().absolute()
    files = _files(reader, source)
    root = source if source.is_dir() else source.parent
    try:
        rows, found, place = _opened(reader, source, root, files)
    except OSError as error:
        raise UserError(
            f"{reader.kind}: {shown(source)}: its pictures can't be kept in {folder()} "
            f"({error.strerror or first_line(error)}); name another place in MIXBENCH_CACHE"
        ) from None
    names = [file for _, file in files]
    for split, label, name, number, offset, size in rows:
        file = place / BYTES if number < 0 else names[number]
        text = label if isinstance(label, str) else _name_of(label, found)
        picture = Picture(member_path(Member(file, offset, size, name)), name, text, split)
        found.pictures.append(picture)
    if found.classes is None and rows and all(isinstance(row[1], int) for row in rows):
        found.classes = tuple(str(n) for n in sorted({int(row[1]) for row in rows}))
    return source, root, found


def _name_of(label: int, found: Found) -> str:
    return str(label) if found.classes is None else found.classes[label]


def _files(reader: Reader, source: Path) -> list[tuple[str, Path]]:
    """Return the files of a folder, or the one that was named, each with its split."""
    expected = f"a folder of {' or '.join(reader.suffixes)} files, or one such file"
    if source.is_file():
        if not source.name.lower().endswith(reader.suffixes):
            raise UserError(f"{reader.kind}: {shown(source)}: expected {expected}")
        return [(UNDIVIDED, source)]
    if not source.is_dir():
        raise UserError(f"{reader.kind}: {shown(source)} is not there; expected {expected}")
    found, others = [], Counter[str]()
    for place, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(names):
            if name.lower().endswith(reader.suffixes) and not is_hidden(name):
                found.append(Path(place, name))
            else:
                others[Path(name).suffix] += 1
    if not found:
        kinds = listed(suffix or "no suffix" for suffix, _ in others.most_common())
        saw = f"it has files of {kinds}" if others else "it is empty"
        hint = "; save_to_disk makes .arrow files, to_parquet what is read" * (".arrow" in others)
        raise UserError(f"{reader.kind}: {shown(source)}: {saw}; expected {expected}{hint}")
    files = [(_split_of(file.relative_to(source)), file) for file in found]
    named = [split for split in SPLITS if any(one == split for one, _ in files)]
    without = [file for split, file in files if split == UNDIVIDED]
    if named and without:
        raise UserError(
            f"{reader.kind}: {shown(without[0], source)} names no split, but others do "
            f"({listed(named)}); expected names such as train-00000{reader.suffixes[0]} for all, "
            "or for none"
        )
    return files


def _split_of(file: Path) -> str:
    """Return the split that a name says, as in train-00000-of-00002.parquet or val/7.tar."""
    words = "".join(char if char.isalpha() else " " for char in str(file.with_suffix(""))).split()
    kinds = {kind for word in words if (kind := split_kind(word)) in SPLITS}
    return str(kinds.pop()) if len(kinds) == 1 else UNDIVIDED


def _opened(
    reader: Reader, source: Path, root: Path, files: Sequence[tuple[str, Path]]
) -> tuple[list[Row], Found, Path]:
    place = folder() / _key(reader, root, [file for _, file in files])
    try:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return (*_kept(place), place)
        place.parent.mkdir(parents=True, exist_ok=True)
        with alone(place.parent / f".{place.name}.lock"):
            # Another process may just have made it.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                return (*_kept(place), place)
            _make(reader, source, root, files, place)
            return (*_kept(place), place)
    except OSError:
        if reader.copies([file for _, file in files]):
            raise
    # Only the list would have been kept: it takes longer each time.
    return (*reader.look(files, root, None), place)


def _key(reader: Reader, root: Path, files: Sequence[Path]) -> str:
    total = hashlib.sha256(f"{reader.kind} {SCHEMA}\n".encode())
    beside = [file for name in CLASS_FILES if (file := root / name).is_file()]
    for file in (*files, *beside):
        info = file.stat()
        about = f"\0{info.st_size}\0{info.st_mtime_ns}\n".encode()
        total.update(os.fsencode(file) + about)
    return total.hexdigest()[:32]


CLASS_FILES = ("classnames.txt", "classes.txt")
"""Names of the classes of whole numbers, a line each, beside shards."""


def _kept(place: Path) -> tuple[list[Row], Found]:
    """Return what an entry of the cache holds; FileNotFoundError where there is no whole one."""
    try:
        kept: dict[str, Any] = json.loads((place / PICTURES).read_text(encoding="utf-8"))
        bytes_file = place / BYTES
        if (bytes_file.stat().st_size if bytes_file.exists() else 0) != kept["bytes"]:
            raise ValueError(BYTES)
        found = Found(
            classes=None if kept["classes"] is None else tuple(kept["classes"]),
            left_out=[(name, why) for name, why in kept["left_out"]],
            notes=list(kept["notes"]),
            others=Counter(kept["others"]),
        )
        return [(*row,) for row in kept["pictures"]], found
    except (ValueError, KeyError, TypeError):
        shutil.rmtree(place, ignore_errors=True)  # damaged
        raise FileNotFoundError(place) from None


def _make(
    reader: Reader, source: Path, root: Path, files: Sequence[tuple[str, Path]], place: Path
) -> None:
    """Look through the files into a new folder and rename it; the caller is alone."""
    for left in place.parent.glob(f".{place.name}.*"):
        # By a process that was killed: a living one would hold the lock.
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    copies = reader.copies([file for _, file in files])
    size = sum(file.stat().st_size for _, file in files) if copies else 0
    free = shutil.disk_usage(place.parent).free
    if size + LEFT_FREE > free:
        raise OSError(0, f"they take {size / 1e9:.1f} GB, of {free / 1e9:.1f} GB that are free")
    work = folder_aside(place)
    try:
        if copies:
            with (work / BYTES).open("wb") as file:
                rows, found = reader.look(files, root, file)
                written = file.tell()
                file.flush()
                os.fsync(file.fileno())
        else:
            (rows, found), written = reader.look(files, root, None), 0
        kept = {
            "pictures": rows,
            "bytes": written,
            "classes": found.classes,
            "left_out": found.left_out,
            "notes": found.notes,
            "others": found.others,
        }
        (work / PICTURES).write_text(json.dumps(kept), encoding="utf-8")
        entry = {"source": str(root), "pictures": len(rows), "settings": f"{reader.kind}:{source}"}
        (work / ENTRY).write_text(json.dumps(entry), encoding="utf-8")
        shutil.rmtree(place, ignore_errors=True)  # half of an entry that somebody is deleting
        os.rename(work, place)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
