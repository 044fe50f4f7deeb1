"""A data set, ready to train on: `load(config.dataset, device)`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.config.datasets import ensure, info
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import digits, fashion_mnist, image_folder, torchvision_sets
from mixbench.experiments.data.files import FileSplit
from mixbench.experiments.data.select import train_and_validation
from mixbench.experiments.data.split import ArraySplit, Split

STATISTICS_IMAGES = 2000
"""Images that the mean and deviation of a streamed data set are estimated on."""


@dataclass(frozen=True)
class Dataset:
    """Three splits and what is known of them.

    `mean` and `std` (C,) float32 on the device are those of the training split, per channel, of
    pixels in [0,1]. `digest` is 16 hexadecimal digits of a sha256 over the pixels and labels used,
    or over the list of files of an image folder. `source` says where the data was found,
    `skipped` which files could not be read so far.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor
    source: str
    digest: str
    skipped: set[str] = field(default_factory=set)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.train.shape


@dataclass(frozen=True)
class _Arrays:
    """A small data set as read: images uint8 (N,C,H,W), labels (N,)."""

    classes: tuple[str, ...]
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def load(
    config: DatasetConfig, device: str | torch.device = "cpu", *, workers: int | None = None
) -> Dataset:
    """Find or fetch the data set, take the configured images and split them.

    Which images train and which validate depends on the data set, the sizes and `split_seed`
    alone. `workers` are the loader processes of a set too large for memory (None: one per thread
    of this process, see `files.loader_workers`). Raises UserError for a data set that cannot be
    had, is corrupt, or has too few images.
    """
    device = torch.device(device)
    if config.name.startswith("imagefolder:"):
        return _load_folder(config, device, workers)
    source = ensure(config.name, check=False)  # reading checks
    arrays = _read(config.name, source)
    train, validation = _select(config, arrays.train_labels)
    size = config.image_size or info(config.name).size
    parts = {
        "train": (arrays.train_images[train], arrays.train_labels[train]),
        "validation": (arrays.train_images[validation], arrays.train_labels[validation]),
        "test": (arrays.test_images, arrays.test_labels),
    }
    total = hashlib.sha256()
    splits: dict[str, ArraySplit] = {}
    for name, (array, array_labels) in parts.items():
        images = _resize(torch.from_numpy(np.array(array)), size)
        labels = torch.from_numpy(array_labels.astype(np.int64))
        total.update(f"{name} {tuple(images.shape)}\n".encode())
        total.update(images.numpy().data)
        total.update(labels.numpy().data)
        splits[name] = ArraySplit(images.to(device), labels)
    mean, std = statistics(splits["train"].images)
    return Dataset(
        name=config.name,
        classes=arrays.classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=mean,
        std=std,
        source=source,
        digest=total.hexdigest()[:16],
    )


@lru_cache(maxsize=4)
def load_once(config: DatasetConfig, device: str) -> Dataset:
    """`load`, which keeps the last four: a process does many runs on the same images."""
    return load(config, device)


def check(config: DatasetConfig) -> None:
    """Raise what `load` would raise for too few images, without reading any pixels it needn't."""
    if config.name.startswith("imagefolder:"):
        _select(config, image_folder.scan(config.name.partition(":")[2]).train_labels)
    else:
        _select(config, _read(config.name, ensure(config.name, check=False)).train_labels)


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of uint8 images (N,C,H,W), in [0,1]: (C,) float32.

    Whole-number sums: the same to the last digit on every device. A channel without variation has
    deviation 1, so that it can be divided by.
    """
    total, squares = images.new_zeros((2, images.shape[1]), dtype=torch.int64)
    for chunk in images.split(4096):
        values = chunk.to(torch.int32)
        total += values.sum((0, 2, 3))
        squares += (values * values).sum((0, 2, 3))
    count = images.numel() // images.shape[1]
    mean = total.double() / count
    variance = (squares.double() / count - mean**2).clamp(min=0)
    std = torch.where(variance > 1e-6, variance.sqrt(), 255.0)
    return (mean / 255).float(), (std / 255).float()


def _load_folder(config: DatasetConfig, device: torch.device, workers: int | None) -> Dataset:
    listing = image_folder.scan(config.name.partition(":")[2])
    train, validation = _select(config, listing.train_labels)
    size = config.image_size or info(config.name).size
    skipped: set[str] = set()
    splits = image_folder.splits(
        listing, train, validation, size=size, device=device, skipped=skipped, workers=workers
    )
    split = splits["train"]
    if isinstance(split, ArraySplit):
        mean, std = statistics(split.images)
    elif isinstance(split, FileSplit):
        mean, std = statistics(image_folder.sample(split, STATISTICS_IMAGES))
    return Dataset(
        name=config.name,
        classes=listing.classes,
        **splits,
        mean=mean.to(device),
        std=std.to(device),
        source=str(listing.root),
        digest=image_folder.digest(listing, train, validation),
        skipped=skipped,
    )


def _read(name: str, source: str) -> _Arrays:
    if name == "fashion_mnist":
        return _Arrays(fashion_mnist.CLASSES, *fashion_mnist.read(Path(source)))
    if name == "digits":
        return _Arrays(digits.CLASSES, *digits.read())
    return _Arrays(*torchvision_sets.read(name, Path(source)))


def _select(config: DatasetConfig, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    size = len(labels)
    if config.train_fraction is not None:
        size = round(config.train_fraction * size)
    if config.train_size is not None:
        size = config.train_size
    return train_and_validation(
        labels,
        size=size,
        validation_fraction=config.validation_fraction,
        seed=config.split_seed,
        name=config.name,
    )


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[2:] == (size, size):
        return images
    # In parts, because resizing takes several times the memory.
    return torch.cat(
        [
            F.interpolate(part, (size, size), mode="bilinear", antialias=True)
            for part in images.split(4096)
        ]
    )
