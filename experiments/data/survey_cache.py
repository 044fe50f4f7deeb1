"""What was seen of the files of a large folder, kept beside its decoded pictures.

Looking at the heads of a million files takes minutes, and every worker would do it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mixbench.experiments.data import picture_cache
from mixbench.experiments.data.pixel_range import Range, Scale, Survey, survey
from mixbench.experiments.store import cache
from mixbench.experiments.store.files import folder_aside

MANY = 5000
"""Files that are looked at in about a second."""
_SCHEMA = 1
_SIZES, _ENTRY = "sizes.npy", "entry.json"


def surveyed(root: Path, paths: Sequence[Path], given: Range | None, threads: int) -> Survey:
    """As `survey`, but of many files only once, as long as they stay as they are."""
    if len(paths) < MANY:
        return survey(paths, given, threads)
    key = picture_cache.digest(root, paths, f"survey {_SCHEMA} {given}")
    path = cache.folder() / key
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _read(path, len(paths))
    found = survey(paths, given, threads)
    with contextlib.suppress(OSError):  # it only takes longer the next time
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, root, found)
    return found


def _read(path: Path, count: int) -> Survey:
    entry = json.loads((path / _ENTRY).read_text(encoding="utf-8"))
    sizes = np.load(path / _SIZES, allow_pickle=False)
    if sizes.shape != (count, 2):
        raise ValueError("sizes of other files")
    whole, real = (None if found is None else (found[0], found[1]) for found in entry["scale"])
    return Survey(Scale(whole, real), tuple(entry["notes"]), sizes.astype(np.int64))


def _write(path: Path, root: Path, found: Survey) -> None:
    work = folder_aside(path)
    try:
        np.save(work / _SIZES, found.sizes.astype(np.int32), allow_pickle=False)
        entry = {
            "source": str(root),
            "pictures": len(found.sizes),
            "scale": [found.scale.whole, found.scale.real],
            "notes": found.notes,
        }
        (work / _ENTRY).write_text(json.dumps(entry), encoding="utf-8")
        if path.exists():  # damaged
            picture_cache.discard(path)
        os.rename(work, path)
    finally:
        shutil.rmtree(work, ignore_errors=True)
