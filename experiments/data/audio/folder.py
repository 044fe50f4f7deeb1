"""The user's own clips of sound, decoded into memory as log-mel spectrograms."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.audio_folder import KIND, AudioFolder, open_audio_folder
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.audio.clips import (
    Clips,
    Sound,
    as_images,
    need_decoder,
    pictures,
)
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import configured_indices, configured_training_indices
from mixbench.experiments.errors import UserError


class AudioFolderDataset(NamedDataset):
    """The clips in `path`; those that can't be decoded are left out, and counted."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self) -> str:
        """The folder; UserError where it is not what `audio_folder` expects."""
        return str(open_audio_folder(self._path).root)

    def fetch(self) -> str:
        return self.find()

    def verify(self, source: str) -> None:
        open_audio_folder(source)

    def read(self, source: str) -> Arrays:
        """Read all clips, at the usual size."""
        size = open_audio_folder(source).size
        return self.read_configured(source, DatasetConfig(name=f"{KIND}:{source}", image_size=size))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Decode all clips; the folder's own validation clips come after those that train."""
        folder = open_audio_folder(source)
        clips = _decoded(source, config)
        labels = np.array(folder.labels, dtype=np.int64)
        parts = {split: _usable(folder, clips, config, split) for split in ("train", "val", "test")}
        _check(folder, labels, parts)
        train = np.concatenate([parts["train"], parts["val"]])
        images = as_images(clips)
        skipped = {
            f"{source}/{name}": why
            for name, why in zip(folder.files, clips.why_not.tolist(), strict=True)
            if why
        }
        test = parts["test"]
        return Arrays(
            folder.classes, images[train], labels[train], images[test], labels[test], skipped
        )

    def choose(
        self, config: DatasetConfig, strata: NDArray[Any]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        folder = open_audio_folder(self._path)
        if not folder.has_validation:
            return configured_indices(config, strata)
        own = len(_usable(folder, _decoded(self.find(), config), config, "val"))
        count = len(strata) - own
        return configured_training_indices(config, strata[:count]), np.arange(count, len(strata))


@lru_cache(maxsize=2)
def _decode(source: str, size: tuple[int, int], sound: Sound) -> Clips:
    folder = open_audio_folder(source)
    need_decoder(KIND)
    return pictures(folder.root, folder.files, size, sound)


def _decoded(source: str, config: DatasetConfig) -> Clips:
    return _decode(source, config.sides, config.sound)


def _usable(
    folder: AudioFolder, clips: Clips, config: DatasetConfig, split: str
) -> NDArray[np.int64]:
    """Return which clips a split has, without those that could not be decoded."""
    numbers = folder.numbers(split, config.fold if config.folds else None)
    listed = np.array(numbers, dtype=np.int64)
    return listed[clips.usable[listed]]


def _check(
    folder: AudioFolder, labels: NDArray[np.int64], parts: dict[str, NDArray[np.int64]]
) -> None:
    """Raise UserError for a class, or a split, of which no clip can be decoded."""
    for number, name in enumerate(folder.classes):
        if not (labels[parts["train"]] == number).any():
            raise UserError(
                f"{KIND}: {folder.root}: no clip of class {name!r} to train on can be decoded"
            )
    for split in ("test", *(["val"] if folder.has_validation else [])):
        if not len(parts[split]):
            raise UserError(f"{KIND}: {folder.root}: no clip of the {split} split can be decoded")
