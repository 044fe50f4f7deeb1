"""Load a data set, ready to train on: `load(config.dataset, device)`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import folder_listing, image_folder
from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.fetch import ensure
from mixbench.experiments.data.geometry import Shape, window
from mixbench.experiments.data.left_out import without_classes
from mixbench.experiments.data.named import Arrays, everything
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.design.tasks import LABELS, PAIRS
from mixbench.experiments.errors import UserError


def load(
    config: DatasetConfig,
    device: str | torch.device = "cpu",
    *,
    workers: int | None = None,
    crops: Scale | None = None,
) -> Dataset:
    """Find or fetch the data set, take the configured images and split them.

    Which images train and which validate depends on the data set, the sizes and `split_seed`
    alone. `crops` are the shares of a picture's area that random crops of the training images will
    have, so that these are kept at the size that crops need. `workers` are the loader processes of
    a set too large for memory and cache (None: one per thread of this process, see
    `file_split.loader_workers`). Raises UserError for a data set that cannot be had, is corrupt, or
    has too few images.
    """
    dataset = _load(config, torch.device(device), workers, crops)
    if config.mean is None or config.std is None:
        return dataset
    mean, std = (torch.tensor(one, dtype=torch.float32) for one in (config.mean, config.std))
    return replace(dataset, mean=mean.to(device), std=std.to(device))


def _load(
    config: DatasetConfig, device: torch.device, workers: int | None, crops: Scale | None
) -> Dataset:
    if datasets.has_files(config.name):
        return image_folder.load_folder(config, device, workers, crops)
    source = ensure(config.name, verify=False)  # reading verifies
    arrays = _read(config, source)
    splits, digest = _splits(config, arrays, device, crops)
    mean, std = statistics(splits["train"].images)
    if config.sound is not None:
        # Silence is 0 to the network, which makes spectrograms.
        mean, std = torch.full_like(mean, 0.5), torch.full_like(std, 0.5)
    return Dataset(
        name=config.name,
        classes=arrays.classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        mean=mean,
        std=std,
        source=source,
        digest=digest,
        skipped=arrays.skipped,
        targets=config.targets or LABELS,
    )


@lru_cache(maxsize=4)
def load_once(config: DatasetConfig, device: str, crops: Scale | None = None) -> Dataset:
    """Load a data set, or reuse one of the last four: a process does many runs on the same."""
    return load(config, device, crops=crops)


def rest_images(
    config: DatasetConfig, device: torch.device, crops: Scale | None
) -> tuple[Split, str]:
    """Return the training images that neither train nor validate, and where they are."""
    dataset, source = named_dataset(config.name), ensure(config.name, verify=False)
    arrays = _read(everything(config), source)
    rest = dataset.rest(config, _strata(arrays.train_labels))
    if not len(rest):
        raise UserError(f"{config.name}: no training images are left that have no labels")
    return _images(config, arrays.train_images[rest], device, crops), source


def images_of(
    config: DatasetConfig, device: torch.device, crops: Scale | None
) -> tuple[Split, str]:
    """Return all training images of a data set, in the size of a configuration, and its source."""
    source = ensure(config.name, verify=False)
    arrays = _read(config, source)
    return _images(config, arrays.train_images, device, crops), source


def _images(
    config: DatasetConfig, pixels: NDArray[np.uint8], device: torch.device, crops: Scale | None
) -> ArraySplit:
    whole = torch.from_numpy(np.array(pixels))
    images = fitted(whole, Shape(*config.sides, config.fit or "crop"))
    is_cut = crops is not None and whole.numel() > images.numel()
    none = torch.full((len(images),), -1, dtype=torch.int64)
    return ArraySplit(images.to(device), none, whole.to(device) if is_cut else None)


def check_sizes(config: DatasetConfig) -> None:
    """Raise what `load` would raise for too few images; of image files only a few are decoded."""
    if datasets.has_files(config.name):
        folder_listing.check(config)
        return
    dataset = named_dataset(config.name)
    arrays = _read(config, ensure(config.name, verify=False))
    dataset.choose(config, _strata(arrays.train_labels))


def _read(config: DatasetConfig, source: str) -> Arrays:
    arrays = named_dataset(config.name).read_configured(source, config)
    return without_classes(arrays, config) if config.targets in (None, LABELS) else arrays


def _strata(labels: NDArray[Any]) -> NDArray[np.int64]:
    """The class of each image that splits are balanced by; all one where targets are no classes."""
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        return labels
    if labels.ndim == 2 and labels.dtype.kind in "iu":  # classes of domains
        _, strata = np.unique(labels, axis=0, return_inverse=True)
        return strata.reshape(-1).astype(np.int64)
    return np.zeros(len(labels), dtype=np.int64)


def _splits(
    config: DatasetConfig, arrays: Arrays, device: torch.device, crops: Scale | None
) -> tuple[dict[str, ArraySplit], str]:
    """The three splits on the device, and a digest of their pixels and labels."""
    dataset = named_dataset(config.name)
    train, validation = dataset.choose(config, _strata(arrays.train_labels))
    shape = Shape(*config.sides, config.fit or "crop")
    parts = {
        "train": (arrays.train_images[train], arrays.train_labels[train]),
        "validation": (arrays.train_images[validation], arrays.train_labels[validation]),
        "test": (arrays.test_images, arrays.test_labels),
    }
    total = hashlib.sha256()
    splits: dict[str, ArraySplit] = {}
    for name, (pixels, numbers) in parts.items():
        whole = torch.from_numpy(np.array(pixels))
        images = whole if config.sound is not None else fitted(whole, shape)
        labels = torch.from_numpy(numbers)
        if config.targets == PAIRS and labels.dim() == 4:
            labels = fitted(labels, shape)
        total.update(f"{name} {tuple(images.shape)}\n".encode())
        total.update(images.numpy().data)
        total.update(labels.numpy().data)
        # Crops are cut from what has more pixels.
        is_cut = name == "train" and crops is not None and whole.numel() > images.numel()
        splits[name] = ArraySplit(images.to(device), labels, whole.to(device) if is_cut else None)
    return splits, total.hexdigest()[:16]


def fitted(images: Tensor, shape: Shape) -> Tensor:
    """Images (N,C,h,w) as (N,C,H,W) of `shape`."""
    rows, columns = images.shape[2:]
    if (rows, columns) == (shape.height, shape.width):
        return images
    x, y, width, height = (round(value) for value in window(columns, rows, shape))
    images = images[:, :, max(y, 0) : max(y, 0) + height, max(x, 0) : max(x, 0) + width]
    high, wide = shape.height, shape.width
    if shape.fit == "pad":
        factor = min(high / rows, wide / columns)
        high, wide = max(1, round(rows * factor)), max(1, round(columns * factor))
    # In parts, because resizing takes several times the memory.
    resized = torch.cat(
        [
            F.interpolate(part, (high, wide), mode="bilinear", antialias=True)
            for part in torch.split(images, 4096)
        ]
    )
    above, left = (shape.height - high) // 2, (shape.width - wide) // 2
    border = (left, shape.width - wide - left, above, shape.height - high - above)
    return F.pad(resized, border) if any(border) else resized
