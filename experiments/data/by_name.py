"""Find the data set of a name: a file of `data/sets/`, or what the user has."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from mixbench.experiments.config import datasets
from mixbench.experiments.data.audio.folder import AudioFolderDataset
from mixbench.experiments.data.named import (
    BoxFolderDataset,
    MaskFolderDataset,
    NamedDataset,
    OwnDataset,
)
from mixbench.experiments.data.pairs.own import OwnPairs

OWN: tuple[tuple[Callable[[str], str | None], Callable[[str], NamedDataset]], ...] = (
    (datasets.masks_path, MaskFolderDataset),
    (datasets.boxes_path, BoxFolderDataset),
    (datasets.pairs_path, OwnPairs),
    (datasets.clips_path, AudioFolderDataset),
)
"""The path in a name of this kind, and the data set there."""


def named_dataset(name: str) -> NamedDataset:
    """The `DATASET` in the file of data set `name`, or that of the user's own files."""
    for path_in, own in OWN:
        path = path_in(name)
        if path is not None:
            return own(path)
    if datasets.is_own(name):
        return OwnDataset(name)
    dataset = importlib.import_module(f"{datasets.SETS}.{name}").DATASET
    if not isinstance(dataset, NamedDataset):
        raise TypeError(f"{datasets.SETS}.{name}: DATASET is no NamedDataset")
    return dataset
