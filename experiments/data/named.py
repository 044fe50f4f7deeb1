"""What each file in `data/sets/` offers: a data set that can be found, fetched, verified and read.

A file has `INFO`, a `DatasetInfo` of literals that is read without importing the file, and
`DATASET`, an object of this kind. What takes long to import (torchvision, scikit-learn) is imported
inside functions: whether a data set is here is asked before anything is trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config import box_folder, mask_folder, own_data
from mixbench.experiments.config.box_folder import open_box_folder
from mixbench.experiments.config.mask_folder import open_mask_folder
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.mask_files import decode_pairs
from mixbench.experiments.data.select import configured_indices, configured_training_indices
from mixbench.experiments.design.tasks import LABELS
from mixbench.experiments.errors import UserError


@dataclass(frozen=True)
class Arrays:
    """A small data set as read: images uint8 (N,C,H,W), and labels, or other targets, of each.

    Labels are whole numbers (N,), several labels for an image (N,K) float32 of 0 and 1, numbers to
    predict (N,K) float32, masks (N,2,H,W) uint8: classes, with 255 for pixels that don't count, and
    the number of the object. `classes` are the names of the classes, or of the numbers. `skipped`
    says which files could not be read, and why.
    """

    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[Any]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[Any]
    skipped: dict[str, str] = field(default_factory=dict)


def everything(config: DatasetConfig) -> DatasetConfig:
    """Return the configuration with all training images."""
    return config.model_copy(update={"train_size": None, "train_fraction": None})


class NamedDataset(ABC):
    """A data set with a name and a published content."""

    @abstractmethod
    def find(self) -> str | None:
        """Where it is on this machine; None where it is not."""

    @abstractmethod
    def fetch(self) -> str:
        """Fetch it; returns where it is then. Raises UserError that says what to do."""

    @abstractmethod
    def verify(self, source: str) -> None:
        """Raise UserError, with the file's name, unless all files are what was published."""

    @abstractmethod
    def read(self, source: str) -> Arrays:
        """Read the images and labels. Raises UserError as `verify`."""

    def read_targets(self, source: str, targets: str) -> Arrays:  # noqa: ARG002
        """Read the images with other targets; sets that have several override it.

        targets: one of `DatasetInfo.targets`.
        """
        return self.read(source)

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Read what a configuration needs; sets that are generated override it."""
        if config.targets in (None, LABELS):
            return self.read(source)
        return self.read_targets(source, str(config.targets))

    def choose(
        self, config: DatasetConfig, strata: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of the images to train and to validate on, as `configured_indices`."""
        return configured_indices(config, strata)

    def rest(self, config: DatasetConfig, strata: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of the training images that neither train nor validate, ascending.

        strata: of all that `read_configured` reads with `everything(config)`.
        """
        whole, _ = self.choose(everything(config), strata)
        train, validation = self.choose(config, strata)
        return np.setdiff1d(whole, np.concatenate([train, validation]))


class MaskFolderDataset(NamedDataset):
    """The user's own images with masks, in `path`."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self) -> str:
        """The folder; UserError where it is not what `mask_folder` expects."""
        return str(open_mask_folder(self._path).root)

    def fetch(self) -> str:
        return self.find()

    def verify(self, source: str) -> None:
        open_mask_folder(source)

    def read(self, source: str) -> Arrays:
        """Read all images, at the usual size."""
        return self.read_configured(source, DatasetConfig(name=f"{mask_folder.KIND}:{source}"))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Decode all images; the folder's own validation images come after those that train."""
        folder = open_mask_folder(source)
        shape = Shape(*config.sides, config.fit or "crop")
        train = decode_pairs((*folder.train, *(folder.validation or ())), shape)
        return Arrays(folder.classes, *train, *decode_pairs(folder.test, shape))

    def choose(
        self, config: DatasetConfig, strata: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        folder = open_mask_folder(self._path)
        return _chosen(config, strata, None if folder.validation is None else len(folder.train))


class BoxFolderDataset(NamedDataset):
    """The user's own images with boxes, which `path` names."""

    def __init__(self, path: str) -> None:
        self._path = path

    def find(self) -> str:
        """The path; UserError where it is not what `box_folder` expects."""
        open_box_folder(self._path)
        return self._path

    def fetch(self) -> str:
        return self.find()

    def verify(self, source: str) -> None:
        open_box_folder(source)

    def read(self, source: str) -> Arrays:
        """Read all images, at the usual size."""
        return self.read_configured(source, DatasetConfig(name=f"{box_folder.KIND}:{source}"))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Decode all images; the validation images that are listed come after those that train."""
        # It imports torch, without which `mixbench list` does.
        from mixbench.experiments.data.box_files import decode_boxed

        folder = open_box_folder(source)
        shape = Shape(*config.sides, config.fit or "crop")
        train = {**folder.train, **(folder.validation or {})}
        room = max(1, *map(len, train.values()), *map(len, folder.test.values()))
        parts = [decode_boxed(one, folder.classes, shape, room) for one in (train, folder.test)]
        return Arrays(folder.classes, *parts[0], *parts[1])

    def choose(
        self, config: DatasetConfig, strata: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        folder = open_box_folder(self._path)
        return _chosen(config, strata, None if folder.validation is None else len(folder.train))


def _chosen(
    config: DatasetConfig, strata: NDArray[np.int64], train: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose images to train and to validate on; of the first `train` where the rest validates."""
    if train is None:
        return configured_indices(config, strata)
    validation = np.arange(train, len(strata))
    return configured_training_indices(config, strata[:train]), validation


class OwnDataset(NamedDataset):
    """What a function of the user's own returns."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find(self) -> str:
        """The function's place."""
        return own_data.own_place(self._name) or self._name

    def fetch(self) -> str:
        return self.find()

    def verify(self, source: str) -> None:  # noqa: ARG002
        own_data.facts(self._name)

    def read(self, source: str) -> Arrays:
        """Call the function; images to validate on come after those that train.

        UserError where it returns other data than the run is for.
        """
        data = own_data.read(self._name)
        if data.digest != own_data.facts(self._name).digest:
            raise UserError(
                f"dataset.name: {source} returned other data than when it was called before; draw "
                "nothing at random in it, or with a seed of its own"
            )
        used = [data.parts[part] for part in ("train", "validation") if part in data.parts]
        images, labels = (np.concatenate(arrays) for arrays in zip(*used, strict=True))
        return Arrays(data.classes, images, labels, *data.parts["test"])

    def choose(
        self, config: DatasetConfig, strata: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        counts = own_data.facts(self._name).counts
        return _chosen(config, strata, counts["train"] if "validation" in counts else None)
