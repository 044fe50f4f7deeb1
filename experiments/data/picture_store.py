"""Decoded pictures in a folder of three files, read through a memory map.

pixels.bin   the pixels of all pictures, one after the other
index.npy    for each picture: where it begins, its sides, channels and CRC-32
entry.json   whose pictures they are, which can't be read and why, and the SHA-256 of the index

A picture is checked against its checksum when a process first reads it.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.open_image import why_unreadable
from mixbench.experiments.text import first_line

SCHEMA = 1
PIXELS, INDEX, ENTRY = "pixels.bin", "index.npy", "entry.json"
_ROW = np.dtype(
    [("offset", "<i8"), ("height", "<i4"), ("width", "<i4"), ("channels", "u1"), ("crc", "<u4")]
)
_AT_ONCE = 64
"""Pictures that are decoded before they are written: what a process needs in memory."""
_MAPPED_BYTES = 2**26
"""After so many bytes read, the pages are given back: the system keeps them as long as it likes."""

Pixels = NDArray[Any]


class Damaged(Exception):
    """The files of a store are not what was written."""


class Unreadable(Exception):
    """The picture could not be decoded when the store was made; the text says why."""


class PictureStore:
    """The pictures in a folder, by their numbers. Threads may read at once."""

    def __init__(self, folder: Path) -> None:
        """Open a store; raises Damaged, or OSError where there is none."""
        self.folder = folder
        try:
            entry = json.loads((folder / ENTRY).read_text(encoding="utf-8"))
            index = (folder / INDEX).read_bytes()
            if entry["schema"] != SCHEMA or hashlib.sha256(index).hexdigest() != entry["index"]:
                raise Damaged(f"{folder}: the index is not what was written")
            self._rows = np.load(folder / INDEX, allow_pickle=False)
            self._dtype = np.dtype(entry["dtype"])
            self._reasons = {int(row): str(why) for row, why in entry["unreadable"].items()}
            size = int(entry["bytes"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{folder}: {first_line(error)}") from None
        with (folder / PIXELS).open("rb") as file:
            if os.fstat(file.fileno()).st_size != size:
                raise Damaged(f"{folder}: {PIXELS} has not the {size} bytes that were written")
            self._map = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        self._checked = np.zeros(len(self._rows), dtype=bool)
        self._read_bytes = 0

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def unreadable(self) -> dict[int, str]:
        """Why pictures can't be read, by their numbers."""
        return self._reasons

    def read(self, number: int) -> Pixels:
        """The picture (h,w,C), read-only; raises Unreadable or Damaged."""
        row = self._rows[number]
        height, width, channels = int(row["height"]), int(row["width"]), int(row["channels"])
        size = height * width * channels
        if not size or self._map is None:
            raise Unreadable(self._reasons.get(number, "unreadable"))
        flat = np.frombuffer(self._map, self._dtype, size, int(row["offset"]))
        if not self._checked[number]:
            if zlib.crc32(flat.data) != int(row["crc"]):
                raise Damaged(f"{self.folder}: picture {number} is not what was written")
            self._checked[number] = True
        self._read_bytes += flat.nbytes
        if self._read_bytes > _MAPPED_BYTES:
            self._read_bytes = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return flat.reshape(height, width, channels)


def write(
    folder: Path,
    paths: Sequence[Path],
    decode: Callable[[Path], Pixels],
    dtype: np.dtype[Any],
    about: dict[str, Any],
    threads: int,
) -> None:
    """Decode the pictures of files into a new folder. Raises OSError, of a full disk above all.

    about: what else entry.json says. The files are on the disk when it returns.
    """
    rows = np.zeros(len(paths), _ROW)
    unreadable: dict[int, str] = {}
    offset = 0
    with (folder / PIXELS).open("wb") as file:
        for number, found in enumerate(_decoded(paths, decode, threads)):
            if isinstance(found, str):
                unreadable[number] = found
                continue
            pixels = np.ascontiguousarray(found, dtype)
            file.write(pixels.data)
            rows[number] = (offset, *pixels.shape, zlib.crc32(pixels.data))
            offset += pixels.nbytes
        _sync(file)
    with (folder / INDEX).open("wb") as file:
        np.save(file, rows, allow_pickle=False)
        _sync(file)
    entry = {
        **about,
        "schema": SCHEMA,
        "pictures": len(paths),
        "bytes": offset,
        "dtype": np.dtype(dtype).name,
        "index": hashlib.sha256((folder / INDEX).read_bytes()).hexdigest(),
        "unreadable": unreadable,
    }
    with (folder / ENTRY).open("w", encoding="utf-8") as text:
        json.dump(entry, text)
        _sync(text)


def _decoded(
    paths: Sequence[Path], decode: Callable[[Path], Pixels], threads: int
) -> Iterator[Pixels | str]:
    """The pictures in their order, few at a time; the reason for one that can't be read."""

    def read(path: Path) -> Pixels | str:
        try:
            return decode(path)
        except Exception as error:  # a broken file can raise anything
            return why_unreadable(path, error)

    # Pillow decodes outside Python's lock.
    with ThreadPoolExecutor(max(1, threads)) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            yield from pool.map(read, paths[start : start + _AT_ONCE])


def _sync(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())
