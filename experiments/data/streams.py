"""The images of a run's streams beside the labelled ones; their labels are never looked at.

dataset = with_streams(load_once(config.dataset, device), config, device)
dataset.streams["unlabelled"].split.epoch(...)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig, RunConfig
from mixbench.experiments.config.streams import REST, StreamConfig
from mixbench.experiments.data import image_folder
from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.dataset import Dataset, Stream
from mixbench.experiments.data.file_split import FileSplit
from mixbench.experiments.data.load import images_of, rest_images
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

NO_LABEL = -1
_SEED_OFFSET = 1 << 34
_CHUNK = 500


@dataclass(frozen=True)
class _Wanted:
    """What identifies the images of a stream: its section and the data set's, and crops."""

    stream: tuple[str, int | None]
    dataset: DatasetConfig
    crops: Scale | None


def with_streams(dataset: Dataset, config: RunConfig, device: torch.device) -> Dataset:
    """Return the data set with the streams that a run has beside it.

    Raises UserError for images that can't be had, are too few, of another kind than those of the
    data set, or among its test images.
    """
    if config.streams is None:
        return dataset
    streams = {}
    for name, stream in config.streams.named().items():
        where = f"streams.{name}"
        crops = config.training.random_crops
        wanted = _Wanted((stream.dataset, stream.size), config.dataset, crops)
        split, source = _load(wanted, str(device))
        if split.shape[0] != dataset.shape[0]:
            split = with_channels(split, dataset.shape[0], where)
        if stream.dataset != REST:
            check_test_images(split, dataset, f"{where}.dataset: {stream.dataset}")
        _check_size(len(split), stream, config, where)
        streams[name] = Stream(stream.dataset, split, source)
    return replace(dataset, streams=streams)


@lru_cache(maxsize=4)
def _load(wanted: _Wanted, device: str) -> tuple[Split, str]:
    """Load the images of a stream, or reuse those of one of the last four."""
    name, size = wanted.stream
    at = torch.device(device)
    own = wanted.dataset
    if name == REST:
        of_folder = datasets.has_files(own.name)
        load = image_folder.rest_images if of_folder else rest_images
        split, source = load(own, at, wanted.crops)
    else:
        other = DatasetConfig(name=name, image_size=own.image_size, fit=own.fit)
        of_folder = datasets.has_files(name)
        load = image_folder.images_of if of_folder else images_of
        split, source = load(other, at, wanted.crops)
    order = np.random.default_rng(_SEED_OFFSET + own.split_seed).permutation(len(split))
    chosen = np.sort(order[: size or len(order)])
    return without_labels(split.subset(torch.from_numpy(chosen))), source


def without_labels(split: Split) -> Split:
    """Return the images of a split, which is this call's own, with -1 for each label."""
    if isinstance(split, ArraySplit):
        none = torch.full((len(split),), NO_LABEL, dtype=torch.int64)
        return ArraySplit(split.images, none, split.whole)
    split.labels.fill_(NO_LABEL)
    return split


def with_channels(split: Split, channels: int, where: str) -> Split:
    """Return a split in grey (1 channel) or in colour (3), as the labelled images are."""
    if not isinstance(split, ArraySplit):
        raise UserError(
            f"{where}.dataset: its images have {split.shape[0]} channels, those with labels "
            f"{channels}, and they are too many to keep in memory"
        )

    def converted(images: Tensor) -> Tensor:
        if channels == 3:
            return images.expand(-1, 3, -1, -1)
        # The luma of Pillow's L.
        weights = torch.tensor([299.0, 587.0, 114.0], device=images.device) / 1000
        return (
            torch.einsum("bchw,c->bhw", images.float(), weights)[:, None].round().to(images.dtype)
        )

    whole = None if split.whole is None else converted(split.whole)
    return ArraySplit(converted(split.images), split.labels, whole)


def check_test_images(split: Split, dataset: Dataset, where: str) -> None:
    """Raise UserError where images are among the test images of the labelled data set.

    Both have the same number of channels.
    """
    if split.shape[1:] != dataset.shape[1:]:
        raise UserError(
            f"{where}: images of {split.shape[1:]} pixels beside labelled ones of "
            f"{dataset.shape[1:]}"
        )
    # Files that are read again for each epoch are compared as they are, without decoding them.
    by_file = isinstance(split, FileSplit) and isinstance(dataset.test, FileSplit)
    test = set(_identities(dataset.test, by_file))
    shared = sum(one in test for one in _identities(split, by_file))
    if shared:
        raise UserError(
            f"{where}: holds {shared} of the {plural(len(dataset.test), 'test image')} of "
            f"{dataset.name}, expected none; take them out"
        )


def _identities(split: Split, by_file: bool) -> Iterator[bytes]:
    """Yield what tells images apart: their files' contents, or their pixels."""
    if by_file and isinstance(split, FileSplit):
        for path in split.paths:
            yield hashlib.sha256(path.read_bytes()).digest()
        return
    for images, _ in split.batches(_CHUNK):
        for image in images.cpu().numpy():
            yield hashlib.sha256(np.ascontiguousarray(image).data).digest()


def _check_size(found: int, stream: StreamConfig, config: RunConfig, where: str) -> None:
    least = max(round(stream.ratio * config.training.batch_size), stream.size or 0)
    if found < least:
        raise UserError(
            f"{where}: expected at least {least} images, for one step (ratio {stream.ratio:g} of "
            f"batch_size {config.training.batch_size}) or as size says, got the {found} of "
            f"{stream.dataset}"
        )
