"""The user's own images: a folder for each class, with or without `train` and `test` above them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.config.datasets import class_folders, image_files, image_splits
from mixbench.experiments.data.files import FileSplit, decode_all, loader_workers
from mixbench.experiments.data.select import Indices, choose
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.errors import UserError

IN_MEMORY_BYTES = 2**30
"""Folders whose used images, decoded, take no more are decoded once and kept on the device."""

TEST_FRACTION = 0.2


@dataclass(frozen=True)
class Listing:
    """The image files of a folder: paths and labels of the training part and of the test part."""

    root: Path
    classes: tuple[str, ...]
    train: list[Path]
    train_labels: np.ndarray
    test: list[Path]
    test_labels: np.ndarray


def scan(path: str) -> Listing:
    """What is in the folder. Without a test folder, a stratified fifth, always the same, is it.

    Raises UserError for a class without enough images, or other classes in test than in train.
    """
    root = Path(path).expanduser().resolve()
    parts = image_splits(root)
    first = next(iter(parts.values()))
    classes = tuple(folder.name for folder in class_folders(first))
    found = {part: _files(folder, classes) for part, folder in parts.items()}
    if "all" in found:
        files, labels = found["all"]
        _enough(labels, classes, first, least=2)
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
    (train_files, train_labels), (test_files, test_labels) = found["train"], found["test"]
    _enough(train_labels, classes, first, least=1)
    return Listing(root, classes, train_files, train_labels, test_files, test_labels)


def splits(
    listing: Listing,
    train: Indices,
    validation: Indices,
    *,
    size: int,
    device: torch.device,
    skipped: set[str],
    workers: int | None = None,
) -> dict[str, Split]:
    """The three splits, in memory when they fit into IN_MEMORY_BYTES.

    The paths of images that can't be read are added to `skipped`, also later, while streaming.
    """
    files = {
        "train": ([listing.train[index] for index in train], listing.train_labels[train]),
        "validation": (
            [listing.train[index] for index in validation],
            listing.train_labels[validation],
        ),
        "test": (listing.test, listing.test_labels),
    }
    count = sum(len(paths) for paths, _ in files.values())
    in_memory = count * 3 * size**2 <= IN_MEMORY_BYTES
    made: dict[str, Split] = {}
    for part, (paths, array) in files.items():
        labels = torch.from_numpy(array)
        if in_memory:
            images, labels = decode_all(paths, labels, size, skipped)
            if not len(labels):
                raise UserError(f"imagefolder: no image of the {part} split can be read")
            made[part] = ArraySplit(images.to(device), labels, crops=part == "train")
        else:
            count = loader_workers() if workers is None else workers
            made[part] = FileSplit(
                paths, labels, size, device=device, workers=count, warned=skipped
            )
    return made


def sample(split: FileSplit, images: int) -> Tensor:
    """Evenly spaced images of a split, uint8 (n,3,H,W) on the CPU, to take statistics of."""
    index = np.linspace(0, len(split) - 1, min(images, len(split))).round().astype(int)
    found, _ = decode_all(
        [split.paths[at] for at in index], split.labels[index], split.size, split.warned
    )
    if not len(found):
        raise UserError("imagefolder: no image of the train split can be read")
    return found


def digest(listing: Listing, train: Indices, validation: Indices) -> str:
    """Identifies the files used, by name and size, wherever the folder is."""
    total = hashlib.sha256()
    parts = {
        "train": [listing.train[index] for index in train],
        "validation": [listing.train[index] for index in validation],
        "test": listing.test,
    }
    for part, paths in parts.items():
        for path in paths:
            name = path.relative_to(listing.root)
            total.update(f"{part}\0{name}\0{path.stat().st_size}\n".encode())
    return total.hexdigest()[:16]


def _files(folder: Path, classes: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
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
        found = list(image_files(folder / name))
        files += found
        labels += [label] * len(found)
    return files, np.array(labels, dtype=np.int64)


def _enough(labels: np.ndarray, classes: tuple[str, ...], folder: Path, least: int) -> None:
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if count < least:
            raise UserError(
                f"imagefolder: class folder {folder / name} has {count} images, expected at "
                f"least {least}"
            )
