"""The cache of decoded pictures: made once, read by every process and run of a host.

It is in `pictures/` below $MIXBENCH_CACHE, else below `.cache/` beside the sweeps, a folder for
each set of files, their sizes, times of change and settings. An entry is made under another name
and renamed when it is whole, by one process while others wait. Where it can't be made, pictures are
decoded as they are needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL

from mixbench.experiments.config.member_file import size_and_time
from mixbench.experiments.data import picture_store
from mixbench.experiments.data.picture_store import Damaged, PictureStore
from mixbench.experiments.store.cache import LEFT_FREE, alone, folder
from mixbench.experiments.store.files import folder_aside
from mixbench.experiments.text import first_line

log = logging.getLogger(__name__)

_KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Entry:
    """One set of decoded pictures: where it is, of which folder of images, and its bytes."""

    path: Path
    source: str
    pictures: int
    size: int


@dataclass(frozen=True)
class Wanted:
    """Pictures to be decoded once: the files, what they become, and about how many bytes that is.

    settings: what decides the pixels, beside the files and Pillow.
    """

    root: Path
    paths: Sequence[Path]
    decode: Callable[[Path], np.ndarray[Any, Any]]
    dtype: np.dtype[Any]
    settings: str
    size: int

    def key(self) -> str:
        """32 hexadecimal digits of the files' names, sizes and times of change and the settings."""
        return digest(self.root, self.paths, f"{self.settings}\0{PIL.__version__}")


def digest(root: Path, paths: Sequence[Path], settings: str) -> str:
    """32 hexadecimal digits of files' names, sizes and times of change, and of settings."""
    total = hashlib.sha256(f"{picture_store.SCHEMA}\0{settings}\n".encode())
    for path in paths:
        name = os.path.relpath(path, root)
        try:
            size, time_of_change = size_and_time(path)
            about = f"{size}\0{time_of_change}"
        except OSError:
            about = "gone"
        total.update(f"{name}\0{about}\n".encode(errors="surrogateescape"))
    return total.hexdigest()[:32]


def open_or_make(wanted: Wanted, threads: int) -> PictureStore | None:
    """The store of these pictures, made if need be; None, said in the log, where it can't be."""
    try:
        key = wanted.key()
        path = folder() / key
        store = _open(path)
        if store is not None:
            return store
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path.parent / f".{key}.lock"):
            store = _open(path)  # another process may just have made it
            if store is None:
                _make(path, wanted, threads)
                store = _open(path)
            return store
    except OSError as error:
        log.warning(
            "no cache of decoded pictures in %s (%s): they are decoded again in every epoch",
            folder(),
            error.strerror or first_line(error),
        )
        return None


def entries(source: Path | None = None) -> list[Entry]:
    """What is in the cache, of one folder of images or of all."""
    found = []
    for path in sorted(folder().glob("*/entry.json")):
        if not _KEY.fullmatch(path.parent.name):
            continue
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            size = sum(file.stat().st_size for file in path.parent.iterdir())
            entry = Entry(path.parent, str(about["source"]), int(about["pictures"]), size)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if source is None or entry.source == str(source):
            found.append(entry)
    return found


def left_by_the_killed() -> list[Path]:
    """Folders of entries that were not finished, or are still being made."""
    return [path for path in folder().glob(".*") if path.is_dir() and not path.is_symlink()]


def discard(path: Path) -> None:
    """Remove an entry; processes that read it go on doing so."""
    with contextlib.suppress(OSError):
        # First out of the way, so that nobody opens half of it.
        aside = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
        os.rename(path, Path(aside) / path.name)
        shutil.rmtree(aside)


def _open(path: Path) -> PictureStore | None:
    try:
        return PictureStore(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Damaged as error:
        log.warning("the cache of decoded pictures is damaged and made anew: %s", error)
        discard(path)
        return None


def _make(path: Path, wanted: Wanted, threads: int) -> None:
    """Decode into a new folder and rename it; the caller is alone. Raises OSError."""
    for left in path.parent.glob(f".{path.name}.*"):
        # By a process that was killed: a living one would hold the lock.
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
    free = shutil.disk_usage(path.parent).free
    if wanted.size + LEFT_FREE > free:
        raise OSError(
            0, f"it would take {wanted.size / 1e9:.1f} GB, of {free / 1e9:.1f} GB that are free"
        )
    started = time.monotonic()
    log.info("decoding %d pictures once, into %s", len(wanted.paths), path)
    work = folder_aside(path)
    try:
        about = {"source": str(wanted.root), "settings": wanted.settings}
        picture_store.write(work, wanted.paths, wanted.decode, wanted.dtype, about, threads)
        if path.exists():  # half of an entry that somebody is deleting
            discard(path)
        os.rename(work, path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    log.info("decoded %d pictures in %.1f s", len(wanted.paths), time.monotonic() - started)
