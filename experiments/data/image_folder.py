"""The user's own images: a folder for each class, with or without `train` and `test` above them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.image_folder import class_folders, image_files, image_splits
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.decode import decode_all
from mixbench.experiments.data.file_split import FileSplit, loader_workers
from mixbench.experiments.data.select import Indices, choose, configured_indices
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.errors import UserError

IN_MEMORY_BYTES = 2**30
"""Folders whose used images, decoded, take no more are decoded once and kept on the device."""

STATISTICS_IMAGES = 2000
"""Images that the mean and deviation of a streamed folder are estimated on."""

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Listing:
    """The image files of a folder: paths and labels of the training part and of the test part."""

    root: Path
    classes: tuple[str, ...]
    train: list[Path]
    train_labels: NDArray[np.int64]
    test: list[Path]
    test_labels: NDArray[np.int64]


def scan(path: str) -> Listing:
    """List the images of a folder.

    Without a test folder, a stratified fifth is the test part, always the same.

    Raises UserError for a class without enough images, or other classes in test than in train.
    """
    root = Path(path).expanduser().resolve()
    parts = image_splits(root)
    first = next(iter(parts.values()))
    classes = tuple(folder.name for folder in class_folders(first))
    files_of = {part: _files(folder, classes) for part, folder in parts.items()}
    if "all" in files_of:
        files, labels = files_of["all"]
        _check_counts(labels, classes, first, least=2)
        test = choose(labels, max(round(TEST_FRACTION * len(labels)), len(classes)), seed=0)
        train = np.setdiff1d(np.arange(len(labels)), test)
        return Listing(
            root,
            classes,
            [files[index] for index in train],
            labels[train],
            [files[index] for index in test],
            labels[test],
        )
    (train_files, train_labels), (test_files, test_labels) = files_of["train"], files_of["test"]
    _check_counts(train_labels, classes, first, least=1)
    return Listing(root, classes, train_files, train_labels, test_files, test_labels)


def load_folder(config: DatasetConfig, device: torch.device, workers: int | None) -> Dataset:
    """Load the image folder of a configuration; see `load.load`."""
    listing = scan(datasets.folder_path(config.name) or "")
    train, validation = configured_indices(config, listing.train_labels)
    files = _files_of_splits(listing, train, validation)
    size = config.image_size or datasets.info(config.name).size
    skipped: dict[str, str] = {}
    splits: dict[str, Split]
    if sum(len(paths) for paths, _ in files.values()) * 3 * size**2 <= IN_MEMORY_BYTES:
        arrays = {
            split: _decode_split(split, paths, labels, size, device, skipped)
            for split, (paths, labels) in files.items()
        }
        mean, std = statistics(arrays["train"].images)
        splits = {**arrays}
    else:
        processes = loader_workers() if workers is None else workers
        streams = {
            split: FileSplit(paths, labels, size, device=device, workers=processes, warned=skipped)
            for split, (paths, labels) in files.items()
        }
        mean, std = statistics(_sample(streams["train"], STATISTICS_IMAGES))
        splits = {**streams}
    return Dataset(
        name=config.name,
        classes=listing.classes,
        **splits,
        mean=mean.to(device),
        std=std.to(device),
        source=str(listing.root),
        digest=_digest(listing.root, files),
        skipped=skipped,
    )


def _files_of_splits(
    listing: Listing, train: Indices, validation: Indices
) -> dict[str, tuple[list[Path], Tensor]]:
    """Paths and labels of the training, validation and test split."""
    labels = torch.from_numpy(listing.train_labels)
    return {
        "train": ([listing.train[index] for index in train], labels[train]),
        "validation": ([listing.train[index] for index in validation], labels[validation]),
        "test": (listing.test, torch.from_numpy(listing.test_labels)),
    }


def _decode_split(
    split: str,
    paths: list[Path],
    labels: Tensor,
    size: int,
    device: torch.device,
    skipped: dict[str, str],
) -> ArraySplit:
    """Decode the images of a split into memory; paths that can't be read are added to `skipped`."""
    images, labels = decode_all(paths, labels, size, skipped)
    if not len(labels):
        raise UserError(f"imagefolder: no image of the {split} split can be read")
    return ArraySplit(images.to(device), labels, crops=split == "train")


def _sample(split: FileSplit, count: int) -> Tensor:
    """Evenly spaced images of a split, uint8 (n,3,H,W) on the CPU, to take statistics of."""
    indices = np.linspace(0, len(split) - 1, min(count, len(split))).round().astype(int)
    images, _ = decode_all(
        [split.paths[index] for index in indices], split.labels[indices], split.size, split.warned
    )
    if not len(images):
        raise UserError("imagefolder: no image of the train split can be read")
    return images


def _digest(root: Path, files: dict[str, tuple[list[Path], Tensor]]) -> str:
    """Identifies the files used, by name and size, wherever the folder is."""
    total = hashlib.sha256()
    for split, (paths, _) in files.items():
        for path in paths:
            name = path.relative_to(root)
            total.update(f"{split}\0{name}\0{path.stat().st_size}\n".encode())
    return total.hexdigest()[:16]


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], NDArray[np.int64]]:
    names = {entry.name for entry in class_folders(folder)}
    if names != set(classes):
        missing, extra = sorted(set(classes) - names), sorted(names - set(classes))
        problems = [f"no {', '.join(missing)}"] * bool(missing)
        problems += [f"{', '.join(extra)} too many"] * bool(extra)
        raise UserError(
            f"imagefolder: {folder} has other class folders than {folder.parent / 'train'}: "
            f"{'; '.join(problems)}"
        )
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        images = list(image_files(folder / name))
        files += images
        labels += [label] * len(images)
    return files, np.array(labels, dtype=np.int64)


def _check_counts(
    labels: NDArray[np.int64], classes: tuple[str, ...], folder: Path, least: int
) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < least:
            raise UserError(
                f"imagefolder: class folder {folder / name} has {count} images, expected at "
                f"least {least}"
            )
