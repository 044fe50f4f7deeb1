"""The user's own images: a folder for each class, with or without `train` and `test` above them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.decode import decode_all
from mixbench.experiments.data.file_split import FileSplit, loader_workers
from mixbench.experiments.data.folder_listing import check_readable, scan, used_files
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.errors import UserError

IN_MEMORY_BYTES = 2**30
"""Folders whose used images, decoded, take no more are decoded once and kept on the device."""

STATISTICS_IMAGES = 2000
"""Images that the mean and deviation of a streamed folder are estimated on."""


def load_folder(config: DatasetConfig, device: torch.device, workers: int | None) -> Dataset:
    """Load the image folder of a configuration; see `load.load`."""
    listing = scan(datasets.folder_path(config.name) or "")
    used = used_files(config, listing)
    check_readable(used, listing)
    files = {split: (paths, torch.from_numpy(labels)) for split, (paths, labels) in used.items()}
    size = config.image_size or datasets.info(config.name).size
    skipped = dict(listing.left_out)
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
        digest=_digest(listing.base, files),
        skipped=skipped,
    )


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
            name = os.fsencode(path.relative_to(root))
            total.update(b"%s\0%s\0%d\n" % (split.encode(), name, path.stat().st_size))
    return total.hexdigest()[:16]
