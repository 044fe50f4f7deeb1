"""Checkpoints: everything that the rest of a training depends on, written whole or not at all."""

from __future__ import annotations

import io
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch

from experiments.store import atomic_write

log = logging.getLogger(__name__)
VERSION = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, text and containers of these) to `path` atomically."""
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    atomic_write(path, buffer.getvalue())


def load(path: Path) -> dict[str, Any] | None:
    """The state in `path`, on the CPU; None when there is none, or it can't be read (said so)."""
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
        log.warning("checkpoint %s is not readable (%s): starting over", path, error)
        return None
    if not isinstance(state, dict) or state.get("version") != VERSION:
        log.warning("checkpoint %s is of another version: starting over", path)
        return None
    return state
