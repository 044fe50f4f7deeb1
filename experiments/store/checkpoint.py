"""Read and write checkpoints, all that the rest of a training depends on, atomically.

The newest is `checkpoint.pt`, the one before it `checkpoint.previous.pt`, which is used when the
newest is damaged.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from mixbench.experiments.store.files import atomic_write

log = logging.getLogger(__name__)
VERSION = 2
NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text and containers of these) as the newest, atomically.

    At every moment there is a whole checkpoint under one of the two names.
    """
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    aside = folder / ".checkpoint.new"
    atomic_write(aside, buffer.getvalue())
    with contextlib.suppress(FileNotFoundError):
        os.replace(folder / NEWEST, folder / PREVIOUS)
    # A worker that was overtaken, and has not noticed yet, may have renamed our file already.
    with contextlib.suppress(FileNotFoundError):
        os.replace(aside, folder / NEWEST)


def load(folder: Path) -> Iterator[dict[str, Any]]:
    """The readable states, on the CPU, newest first; what can't be read is named in the log."""
    for name in (NEWEST, PREVIOUS):
        state = _read(folder / name)
        if state is not None:
            if name == PREVIOUS:
                log.warning("going back to the checkpoint before it, %s", name)
            yield state


def usable(folder: Path) -> bool:
    """Is there one of this version? Quick: its tensors are not read."""
    for name in (NEWEST, PREVIOUS):
        try:
            state = torch.load(folder / name, map_location="cpu", weights_only=True, mmap=True)
        except Exception:  # a damaged pickle raises anything
            continue
        if isinstance(state, dict) and state.get("version") == VERSION:
            return True
    return False


def exists(folder: Path) -> bool:
    """Is there one, readable or not?"""
    return (folder / NEWEST).exists() or (folder / PREVIOUS).exists()


def drop_previous(folder: Path) -> None:
    """Remove the older one: the training is over, and the newest holds the weights."""
    (folder / PREVIOUS).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        # torch does not look at the checksums that it writes.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises anything
        log.warning("checkpoint %s is not readable: %s", path, error)
        return None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        log.warning("checkpoint %s is of another version: not used", path)
        return None
    return state
