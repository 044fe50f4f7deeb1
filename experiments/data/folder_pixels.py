"""The pixels of an image folder: in memory where they fit, else from the cache, else from files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import picture_cache
from mixbench.experiments.data.crops import Scale
from mixbench.experiments.data.dataset import statistics
from mixbench.experiments.data.decode import (
    Form,
    Pixels,
    decode,
    decode_all,
    decode_whole,
    for_each,
    warn_once,
)
from mixbench.experiments.data.file_split import FileSplit, loader_workers
from mixbench.experiments.data.geometry import Shape, kept_size
from mixbench.experiments.data.picture_store import PictureStore
from mixbench.experiments.data.pixel_range import Survey
from mixbench.experiments.data.split import ArraySplit, Split
from mixbench.experiments.data.stored_split import (
    CroppedSplit,
    PicturesInCache,
    PicturesInMemory,
    StoredSplit,
)
from mixbench.experiments.data.survey_cache import surveyed
from mixbench.experiments.errors import UserError

log = logging.getLogger(__name__)

IN_MEMORY_BYTES = 2**30
"""Folders whose used images, decoded, take no more are decoded once and kept in memory."""

STATISTICS_IMAGES = 2000
"""Images that the mean and deviation of a folder too large for memory are estimated on."""

Files = tuple[list[Path], Tensor]
"""The image files of a split, and their labels."""


@dataclass(frozen=True)
class Decoded:
    """Splits, the mean and deviation of the training images, and what was seen of all files."""

    splits: dict[str, Split]
    mean: Tensor
    std: Tensor
    survey: Survey


@dataclass
class FolderPixels:
    """Decodes the images of a folder.

    files: all of the folder, whose pixels have one scale. crops: the shares of a picture's area
    that random crops of training images have; None: there are no such crops. skipped: files that
    can't be read are added, with the reason. workers: processes that decode what is streamed.
    """

    root: Path
    files: Sequence[Path]
    config: DatasetConfig
    device: torch.device
    crops: Scale | None
    workers: int | None
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._threads = max(1, torch.get_num_threads())
        self._survey = surveyed(self.root, self.files, self.config.pixel_range, self._threads)
        for note in self._survey.notes:
            log.info("%s", note)
        self._form = Form(Shape(*self.config.sides, self.config.fit or "crop"), self._survey.scale)

    @property
    def _kind(self) -> str:
        return self.config.name.partition(":")[0]

    def decode(self, parts: Mapping[str, Files]) -> Decoded:
        """Decode the images of the splits "train", "validation" and "test"."""
        fitted, whole = self._bytes(parts)
        splits: dict[str, Split] = {}
        if fitted + whole <= IN_MEMORY_BYTES:
            for name, (paths, labels) in parts.items():
                splits[name] = self._in_memory(paths, labels, name)
        else:
            splits.update(self._cached(parts, fitted) or self._streamed(parts))
        for name, split in splits.items():
            if not len(split):
                raise UserError(f"{self._kind}: no image of the {name} split can be read")
        mean, std = statistics(self._sample(splits["train"]))
        return Decoded(splits, mean, std, self._survey)

    def _bytes(self, parts: Mapping[str, Files]) -> tuple[int, int]:
        """What fitted images take in memory, and whole pictures for crops of training images."""
        height, width = self.config.sides
        count = sum(len(paths) for paths, _ in parts.values())
        pixel = self._form.type_of_batches.itemsize
        whole = self._whole_bytes(parts["train"][0])
        return count * 3 * height * width * pixel, whole

    def _whole_bytes(self, paths: Sequence[Path]) -> int:
        if self.crops is None:
            return 0
        sizes = dict(zip(self.files, self._survey.sizes.tolist(), strict=True))
        kept = (
            kept_size(w, h, self._form.shape, self.crops[0])
            for w, h in (sizes[path] for path in paths)
            if w
        )
        return sum(w * h for w, h in kept) * 3 * np.dtype(self._form.dtype).itemsize

    def _in_memory(self, paths: list[Path], labels: Tensor, name: str) -> Split:
        images, readable_labels = decode_all(paths, labels, self._form, self.skipped)
        split = ArraySplit(images.to(self.device), readable_labels)
        if name != "train" or self.crops is None:
            return split
        readable = [path for path in paths if str(path) not in self.skipped]
        pictures: list[Pixels] = [np.empty(0)] * len(readable)
        least = self.crops[0]

        def fill(index: int, path: Path) -> None:
            pictures[index] = decode_whole(path, self._form, least)

        for_each(readable, fill, self.skipped)
        return CroppedSplit(
            split, PicturesInMemory(pictures), self._form, self.device, self._threads
        )

    def _cached(self, parts: Mapping[str, Files], size: int) -> dict[str, Split] | None:
        """The splits from the cache; None where it can't be made."""
        everything = sorted({path for paths, _ in parts.values() for path in paths})
        pixel = np.dtype(self._form.dtype).itemsize
        shape = self._form.shape
        fitted = self._store(
            everything,
            partial(decode, form=self._form),
            f"{shape.height}x{shape.width} {shape.fit}",
            len(everything) * 3 * shape.height * shape.width * pixel,
        )
        if fitted is None:
            return None
        whole = None
        trained = sorted({path for name in ("train", "validation") for path in parts[name][0]})
        if self.crops is not None:
            # With the validation images, so that other splits of the same images use it too.
            whole = self._store(
                trained,
                partial(decode_whole, form=self._form, least=self.crops[0]),
                f"whole for {shape.height * shape.width / self.crops[0]:.0f} pixels",
                self._whole_bytes(trained),
            )
            if whole is None:
                return None
        splits: dict[str, Split] = {}
        for name, (paths, labels) in parts.items():
            rows, known = self._rows(fitted, everything, paths)
            pictures = PicturesInCache(fitted, rows, everything, partial(decode, form=self._form))
            split: Split = StoredSplit(
                pictures, labels[known], self._form, self.device, self._threads
            )
            if size <= IN_MEMORY_BYTES and len(split):
                images, own = zip(*split.batches(256), strict=True)
                split = ArraySplit(torch.cat(images), torch.cat(own))
            if name == "train" and whole is not None and self.crops is not None:
                readable = [paths[index] for index in known.tolist()]
                again = partial(decode_whole, form=self._form, least=self.crops[0])
                rows, _ = self._rows(whole, trained, readable)
                pictures = PicturesInCache(whole, rows, trained, again)
                split = CroppedSplit(split, pictures, self._form, self.device, self._threads)
            splits[name] = split
        return splits

    def _store(
        self, paths: list[Path], how: partial[Pixels], what: str, size: int
    ) -> PictureStore | None:
        wanted = picture_cache.Wanted(
            self.root,
            paths,
            how,
            np.dtype(self._form.dtype),
            f"{what}; {self._form.scale.text()}",
            size,
        )
        return picture_cache.open_or_make(wanted, self._threads)

    def _rows(
        self, store: PictureStore, stored: list[Path], paths: Sequence[Path]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The numbers in the store of the paths that can be read, and which of the paths."""
        row_of = {path: row for row, path in enumerate(stored)}
        rows = np.array([row_of[path] for path in paths], dtype=np.int64)
        for path, row in zip(paths, rows.tolist(), strict=True):
            if row in store.unreadable:
                warn_once(path, store.unreadable[row], self.skipped)
        known = np.array([row not in store.unreadable for row in rows.tolist()], dtype=bool)
        return rows[known], np.flatnonzero(known)

    def _streamed(self, parts: Mapping[str, Files]) -> dict[str, Split]:
        processes = loader_workers() if self.workers is None else self.workers
        return {
            name: FileSplit(
                paths,
                labels,
                self._form,
                device=self.device,
                workers=processes,
                warned=self.skipped,
            )
            for name, (paths, labels) in parts.items()
        }

    def _sample(self, train: Split) -> Tensor:
        """Training images to take statistics of: all in memory, else evenly spaced ones."""
        if isinstance(train, CroppedSplit):
            train = train.fitted
        if isinstance(train, ArraySplit):
            return train.images
        count = min(STATISTICS_IMAGES, len(train))
        indices = torch.from_numpy(np.linspace(0, len(train) - 1, count).round().astype(np.int64))
        images = [images for images, _ in train.subset(indices).batches(256)]
        sample = torch.cat(images)
        if not len(sample):
            raise UserError(f"{self._kind}: no image of the train split can be read")
        return sample
