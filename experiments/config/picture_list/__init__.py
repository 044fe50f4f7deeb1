"""The user's own pictures that are no folder of classes: a table, parquet files, shards of tar."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from mixbench.experiments.config.picture_list import csv_file, parquet, shards
from mixbench.experiments.config.picture_list.base import Picture, PictureList
from mixbench.experiments.errors import UserError

KINDS = {
    csv_file.KIND: csv_file.read,
    parquet.KIND: parquet.read_parquet,
    shards.KIND: shards.read_shards,
}
"""What reads each kind of list, by the word before the colon of its name."""

__all__ = ["KINDS", "Picture", "PictureList", "list_path", "open_list", "root_of"]


def list_path(name: str) -> tuple[str, str] | None:
    """Return the kind and the path in a name such as `csv:/data/leaves.csv`; None for others."""
    kind, colon, path = name.partition(":")
    return (kind, path) if colon and kind in KINDS else None


def root_of(path: str) -> Path:
    """Return the folder that the names of a list's pictures count from, without reading it."""
    place = Path(path).expanduser().absolute()
    return place if place.is_dir() else place.parent


@lru_cache(maxsize=4)
def open_list(name: str) -> PictureList:
    """Read a list; UserError where it can't be read, or nothing can be learned from it."""
    kind, _, path = name.partition(":")
    if not path.strip():
        raise UserError(f"{kind}: names nothing; expected a path, such as {kind}:/data/leaves")
    return KINDS[kind](path)
