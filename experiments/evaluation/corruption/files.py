"""Read the published corrupted images, from a folder in one of two layouts.

    CIFAR-10-C/labels.npy, CIFAR-10-C/fog.npy        the test set five times, by rising severity:
                                                     labels (5N,), images (5N,H,W,C) uint8
    ImageNet-C/fog/3/n01440764/name.JPEG             a folder each for corruption, severity, class

Families may be folders around the corruptions, as in the archives of ImageNet-C. Arrays are for
runs on a data set with a name, whose test images they are, in the same order; folders are for runs
on image folders whose classes have the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.decode import Form, as_batch, decode
from mixbench.experiments.data.folder_listing import listing_of
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.load import load_once
from mixbench.experiments.data.open_image import open_image, why_unreadable
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.base import subset_indices
from mixbench.experiments.evaluation.corruption.levels import (
    BENCHMARK,
    CORRUPTIONS,
    EXTRA,
    FAMILIES,
    SEVERITIES,
    USUAL,
)
from mixbench.experiments.evaluation.corruption.reference import Reference, errors_of

LABELS = "labels.npy"
IMAGENET = 1000


class CorruptedFiles(Protocol):
    """Corrupted images."""

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions that are measured."""

    def choose(self, count: int | None, seed: int) -> Tensor:
        """The indices of the images that are measured, the same for all corruptions."""

    def batches(
        self, name: str, severity: int, chosen: Tensor, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images (B,C,H,W) from 0 to 255 and labels (B,), on the CPU."""

    def reference(self, given: str | None) -> Reference | None:
        """What errors are divided by; UserError where that does not fit."""

    def described(self) -> dict[str, Any]:
        """What they are, for curves."""


def open_files(
    folder: str, config: DatasetConfig, wanted: Sequence[str], dataset: Dataset | None = None
) -> CorruptedFiles:
    """Open a folder of corrupted images for runs on a data set.

    Args:
        folder: In one of the two layouts.
        config: The data set of the runs.
        wanted: The corruptions of the settings; where they are the usual ones, all that the folder
            has are measured, and the fifteen of the publications must be there.
        dataset: The loaded one, where there is one.

    Raises:
        UserError: It has not what it should, or is another set.
    """
    path = Path(folder)
    has_arrays = (path / LABELS).is_file()
    present = _arrays(path) if has_arrays else _folders(path)
    if not present:
        raise UserError(
            f"{_where(path)} holds no corruption, expected {LABELS} with files such as fog.npy, or "
            f"folders such as fog/1/CLASS"
        )
    names = _names(path, present, wanted)
    if has_arrays:
        return ArrayFiles(path, config, dataset, {name: present[name] for name in names})
    return FolderFiles(path, config, {name: present[name] for name in names})


@dataclass(frozen=True)
class ArrayFiles:
    """The layout of CIFAR-10-C. Checks all files when it is made."""

    path: Path
    config: DatasetConfig
    dataset: Dataset | None
    present: dict[str, Path]

    def __post_init__(self) -> None:
        if datasets.has_files(self.config.name):
            raise UserError(
                f"{_where(self.path)} has arrays, for runs on a data set with a name; "
                f"{self.config.name} needs folders such as fog/1/CLASS"
            )
        test = (self.dataset or load_once(self.config, "cpu")).test
        channels, height, width = test.shape
        shape = (height, width, channels)
        labels, count = self._labels, len(test)
        kinds = len(np.unique(labels))
        classes = datasets.info(self.config.name).classes
        if kinds != classes:
            raise UserError(
                f"{_where(self.path / LABELS)} has {kinds} classes, expected the {classes} of "
                f"{self.config.name}: is it of another set?"
            )
        if len(labels) != len(SEVERITIES) * count:
            raise UserError(
                f"{_where(self.path / LABELS)} has {len(labels)} labels, expected "
                f"{len(SEVERITIES) * count}: {len(SEVERITIES)} severities of {count} test images"
            )
        blocks = labels.reshape(len(SEVERITIES), count)
        if not (blocks == test.labels.numpy()).all():
            raise UserError(
                f"{_where(self.path / LABELS)} are not the labels of the {count} test images of "
                f"{self.config.name}, in their order, once for each severity"
            )
        for file in self.present.values():
            array = _array(file)
            found = array.shape if array.ndim == 4 else (*array.shape, 1)
            if array.dtype != np.uint8 or found != (len(labels), *shape):
                raise UserError(
                    f"{_where(file)} has {_size(array.shape)} values of type {array.dtype}, "
                    f"expected {_size((len(labels), *shape))} of type uint8"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions that are measured."""
        return tuple(self.present)

    @cached_property
    def _labels(self) -> NDArray[np.int64]:
        labels = _array(self.path / LABELS)
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
            raise UserError(
                f"{_where(self.path / LABELS)} has {_size(labels.shape)} values of type "
                f"{labels.dtype}, expected one row of whole numbers"
            )
        return labels.astype(np.int64)

    def choose(self, count: int | None, seed: int) -> Tensor:
        """Those of the clean images."""
        return subset_indices(len(self._labels) // len(SEVERITIES), count, seed)

    def batches(
        self, name: str, severity: int, chosen: Tensor, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Read some images of a severity."""
        array = _array(self.present[name])
        first = (severity - 1) * (len(array) // len(SEVERITIES))
        for indices in torch.split(chosen, batch_size):
            rows = (indices + first).numpy()
            images = torch.from_numpy(np.array(array[rows]))
            images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
            yield images, torch.from_numpy(self._labels[rows])

    def reference(self, given: str | None) -> Reference | None:
        """None unless a file is named: there is no usual one."""
        if given == "alexnet":
            raise _no_alexnet(self.path)
        return errors_of(given, str(self.path), self.names)

    def described(self) -> dict[str, Any]:
        """The folder's name."""
        return {"set": self.path.name, "layout": "arrays"}


@dataclass(frozen=True)
class FolderFiles:
    """The layout of ImageNet-C. `present`: corruption -> its folder."""

    path: Path
    config: DatasetConfig
    present: dict[str, Path]

    def __post_init__(self) -> None:
        if not datasets.has_files(self.config.name):
            raise UserError(
                f"{_where(self.path)} has folders, for runs on an image folder; "
                f"{self.config.name} needs {LABELS} and files such as fog.npy"
            )
        for name, folder in self.present.items():
            for severity in SEVERITIES:
                inside = folder / str(severity)
                missing = [one for one in self.classes if not (inside / one).is_dir()]
                if missing:
                    raise UserError(
                        f"{_where(self.path)}: {name} at severity {severity} has no folder for "
                        f"{len(missing)} of the {len(self.classes)} classes, such as {missing[0]}"
                    )
        if not self._files:
            raise UserError(f"{_where(self.path)} has no image in {self._first}")

    @property
    def names(self) -> tuple[str, ...]:
        """The corruptions that are measured."""
        return tuple(self.present)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Those of the runs."""
        return listing_of(self.config.name).classes

    @property
    def _first(self) -> Path:
        return next(iter(self.present.values())) / str(SEVERITIES[0])

    @cached_property
    def _files(self) -> list[tuple[Path, int]]:
        """The files below the first corruption and severity, which are those below all."""
        return [
            (Path(name, file.name), label)
            for label, name in enumerate(self.classes)
            for file in sorted((self._first / name).iterdir())
            if file.is_file() and not file.name.startswith(".")
        ]

    @cached_property
    def _form(self) -> Form:
        return Form(Shape(*self.config.sides, self.config.fit or "crop"))

    def choose(self, count: int | None, seed: int) -> Tensor:
        """Some of the files."""
        return subset_indices(len(self._files), count, seed)

    def batches(
        self, name: str, severity: int, chosen: Tensor, batch_size: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Decode some images, resized and cut as the test images of the run."""
        folder = self.present[name] / str(severity)
        for indices in torch.split(chosen, batch_size):
            rows = [self._files[index] for index in indices.tolist()]
            images = [self._decoded(folder / file) for file, _ in rows]
            yield as_batch(images), torch.tensor([label for _, label in rows])

    def _decoded(self, file: Path) -> NDArray[Any]:
        try:
            return decode(file, self._form)
        except Exception as error:  # a broken file can raise anything
            raise UserError(
                f"{_where(file)} is not readable ({why_unreadable(file, error)})"
            ) from None

    def reference(self, given: str | None) -> Reference | None:
        """AlexNet's errors where all classes of ImageNet are there; else a file that is named."""
        if len(self.classes) != IMAGENET:
            if given == "alexnet":
                raise _no_alexnet(self.path)
            return errors_of(given, str(self.path), self.names)
        return errors_of(given or "alexnet", str(self.path), self.names)

    def described(self) -> dict[str, Any]:
        """The folder's name, classes that are left out, and whether images are resized."""
        others = {one.name for one in self._first.iterdir() if one.is_dir()} - set(self.classes)
        with open_image(self._first / self._files[0][0]) as image:
            is_resized = (image.height, image.width) != self.config.sides
        return {
            "set": self.path.name,
            "layout": "folders",
            "classes_left_out": len(others),
            "resized": is_resized,
        }


def _names(path: Path, present: dict[str, Path], wanted: Sequence[str]) -> list[str]:
    """Return the corruptions to measure, in the order of `levels`."""
    is_usual = set(wanted) in (set(USUAL), set(CORRUPTIONS))
    needed = BENCHMARK if is_usual else tuple(wanted)
    if missing := [name for name in needed if name not in present]:
        raise UserError(
            f"{_where(path)} has no {', '.join(missing)}, expected "
            f"{'the fifteen corruptions of the publications' if is_usual else 'those measured'}"
        )
    asked = {*needed, *(EXTRA if is_usual else ())}
    return [name for name in CORRUPTIONS if name in asked and name in present]


def _arrays(path: Path) -> dict[str, Path]:
    return {name: path / f"{name}.npy" for name in CORRUPTIONS if (path / f"{name}.npy").is_file()}


def _folders(path: Path) -> dict[str, Path]:
    """Corruptions that are folders, or folders below those of families; with all severities."""
    found = {}
    for around in (path, *(path / family for family in (*FAMILIES, "extra"))):
        for name in CORRUPTIONS:
            folder = around / name
            if name in found or not folder.is_dir():
                continue
            missing = [str(one) for one in SEVERITIES if not (folder / str(one)).is_dir()]
            if missing:
                raise UserError(
                    f"{_where(folder)} has no severity {', '.join(missing)}, expected the folders "
                    "1 to 5"
                )
            found[name] = folder
    return found


def _array(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{_where(path)} is not readable as an array ({error})") from None
    return array


def _where(path: Path) -> str:
    return f"corruption.files: {path}"


def _size(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _no_alexnet(path: Path) -> UserError:
    return UserError(
        f"corruption.reference: got 'alexnet', whose errors are those on the {IMAGENET} classes of "
        f"ImageNet-C, and {path.name} is another set; name a CSV file"
    )
