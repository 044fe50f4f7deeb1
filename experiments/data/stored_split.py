"""Splits of decoded pictures: fitted images from a cache, crops from whole pictures."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.data import picture_cache
from mixbench.experiments.data.crops import Scale, crop_of_picture
from mixbench.experiments.data.decode import Form, Pixels, as_batch
from mixbench.experiments.data.file_split import in_colour
from mixbench.experiments.data.picture_store import Damaged, PictureStore
from mixbench.experiments.data.split import (
    ONCE,
    WHOLE,
    Batch,
    Part,
    Sampling,
    Split,
    order_of,
    steps,
)

log = logging.getLogger(__name__)
Made = TypeVar("Made")


class Pictures(Protocol):
    """Decoded pictures, by their numbers. Threads may read at once."""

    def read(self, number: int) -> Pixels: ...

    def subset(self, numbers: NDArray[np.int64]) -> Pictures: ...


class PicturesInMemory:
    """Pictures of any sizes in memory."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        self._pictures = pictures

    def read(self, number: int) -> Pixels:
        return self._pictures[number]

    def subset(self, numbers: NDArray[np.int64]) -> PicturesInMemory:
        return PicturesInMemory([self._pictures[number] for number in numbers.tolist()])


class PicturesInCache:
    """Some pictures of a store; one that is damaged is decoded from its file."""

    def __init__(
        self,
        store: PictureStore,
        rows: NDArray[np.int64],
        paths: Sequence[Path],
        decode: Callable[[Path], Pixels],
    ) -> None:
        self._store = store
        self._rows = rows
        self._paths = paths
        self._decode = decode

    def read(self, number: int) -> Pixels:
        row = int(self._rows[number])
        try:
            return self._store.read(row)
        except Damaged as error:
            if self._store.folder.exists():
                log.warning("%s: decoded from the files; the cache is made anew", error)
                picture_cache.discard(self._store.folder)
            return self._decode(self._paths[row])

    def subset(self, numbers: NDArray[np.int64]) -> PicturesInCache:
        return PicturesInCache(self._store, self._rows[numbers], self._paths, self._decode)


class StoredSplit:
    """Images of one shape that are read from a cache for each batch."""

    def __init__(
        self, pictures: Pictures, labels: Tensor, form: Form, device: torch.device, threads: int
    ) -> None:
        self.pictures = pictures
        self.labels = labels
        self.form = form
        self.device = device
        self.threads = threads

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.form.shape.height, self.form.shape.width

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self,
        batch_size: int,
        generator: torch.Generator,
        *,
        start: int = 0,
        part: Part = WHOLE,
        crops: Scale | None = None,
        sampling: Sampling = ONCE,
    ) -> Iterator[Batch]:
        if crops is not None:
            raise ValueError("images of one shape have no parts to cut crops from")
        cpu = torch.device("cpu")
        order = order_of(self, batch_size, generator, start, part, None, cpu, sampling)
        yield from self._ahead(lambda item: self._read(item[0]), order)

    def cropped(self, _indices: Tensor, _draws: Tensor, _scale: Scale, /) -> Batch:
        raise ValueError("images of one shape have no parts to cut crops from")

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        number, parts = part
        firsts = range(0, len(self), batch_size)[number::parts]
        numbers = (torch.arange(i, min(i + batch_size, len(self))) for i in firsts)
        yield from self._ahead(self._read, numbers)

    def subset(self, indices: Tensor) -> StoredSplit:
        chosen = indices.cpu()
        return StoredSplit(
            self.pictures.subset(chosen.numpy()),
            self.labels[chosen],
            self.form,
            self.device,
            self.threads,
        )

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return steps(len(self), batch_size, parts)

    def _ahead(self, make: Callable[[Any], Batch], items: Iterator[Any]) -> Iterator[Batch]:
        for images, labels in made_ahead(make, items, self.threads):
            yield images.to(self.device), labels.to(self.device)

    def _read(self, index: Tensor) -> Batch:
        images = [self.pictures.read(number) for number in index.tolist()]
        return as_batch(images), self.labels[index]


class CroppedSplit:
    """A split whose random crops are cut from whole pictures, all else as in `fitted`."""

    def __init__(
        self, fitted: Split, pictures: Pictures, form: Form, device: torch.device, threads: int
    ) -> None:
        self.fitted = fitted
        self.labels = fitted.labels
        self.pictures = pictures
        self.form = form
        self.device = device
        self.threads = threads

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.fitted.shape

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self,
        batch_size: int,
        generator: torch.Generator,
        *,
        start: int = 0,
        part: Part = WHOLE,
        crops: Scale | None = None,
        sampling: Sampling = ONCE,
    ) -> Iterator[Batch]:
        if crops is None:
            yield from self.fitted.epoch(
                batch_size, generator, start=start, part=part, sampling=sampling
            )
            return
        cpu = torch.device("cpu")
        order = order_of(self, batch_size, generator, start, part, crops, cpu, sampling)
        for images, labels in made_ahead(
            lambda item: self._cut(item[0], item[1], crops), order, self.threads
        ):
            yield images.to(self.device), labels.to(self.device)

    def cropped(self, indices: Tensor, draws: Tensor, scale: Scale) -> Batch:
        images, labels = self._cut(indices.cpu(), draws.cpu(), scale)
        return images.to(self.device), labels.to(self.device)

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        return self.fitted.batches(batch_size, part=part)

    def subset(self, indices: Tensor) -> CroppedSplit:
        return CroppedSplit(
            self.fitted.subset(indices),
            self.pictures.subset(indices.cpu().numpy()),
            self.form,
            self.device,
            self.threads,
        )

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return self.fitted.steps(batch_size, parts)

    def _cut(self, index: Tensor, draws: Tensor, scale: Scale) -> Batch:
        shape = (len(index), *self.shape)
        images = torch.empty(shape, dtype=self.form.type_of_batches)
        for place, number in enumerate(index.tolist()):
            picture = self.pictures.read(number)
            images[place] = in_colour(
                crop_of_picture(picture, draws[place], self.form.shape, scale)
            )
        return images, self.labels[index]


def made_ahead(make: Callable[[Any], Made], items: Iterator[Any], threads: int) -> Iterator[Made]:
    """`make` of each item, in order; with several threads, of the next ones ahead."""
    if threads < 2:
        yield from map(make, items)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting = [pool.submit(make, item) for _, item in zip(range(threads), items, strict=False)]
        try:
            while waiting:
                made = waiting.pop(0).result()
                for item in items:
                    waiting.append(pool.submit(make, item))
                    break
                yield made
        finally:
            for future in waiting:
                future.cancel()
