"""Stream the images of a split from their files, decoded batch by batch in loader processes."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixbench.experiments.data.decode import Crop, decode, warn_once
from mixbench.experiments.data.open_image import why_unreadable
from mixbench.experiments.data.split import WHOLE, Batch, Part, crop_draws, steps
from mixbench.experiments.signals import SIGNALS

_Key = tuple[int, Crop | None]
_Item = tuple[Tensor | None, int, str, str]  # image, label; or path and reason


def loader_workers() -> int:
    """One loader process per thread that torch may use here, at most 8; none for one thread."""
    threads = torch.get_num_threads()
    # A daemonic process may not have children.
    return 0 if threads == 1 or multiprocessing.current_process().daemon else min(8, threads)


class FileSplit:
    """Images that are decoded for each batch by loader processes and streamed to the device.

    An epoch gives random resized crops, drawn per image and epoch from the generator, whatever
    the number of workers. A file that cannot be read is named in a warning, once, and left out of
    its batch: `len` counts it, and fewer images may come.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Tensor,
        size: int,
        *,
        device: torch.device,
        workers: int,
        warned: dict[str, str],
    ) -> None:
        self.labels = labels
        self.paths = list(paths)
        self.size = size
        self.device = device
        self.workers = workers
        self.warned = warned

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.size, self.size

    def __len__(self) -> int:
        return len(self.paths)

    def epoch(
        self, batch_size: int, generator: torch.Generator, *, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        order = torch.randperm(len(self), generator=generator)
        crops = crop_draws(len(self), generator)
        steps = range(start, self.steps(batch_size, part[1]))
        yield from self._stream(_Epoch(order, crops, batch_size, part, steps))

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        number, parts = part
        firsts = range(0, len(self), batch_size)[number::parts]
        yield from self._stream(_InOrder(firsts, batch_size, len(self)))

    def subset(self, indices: Tensor) -> FileSplit:
        paths = [self.paths[index] for index in indices.tolist()]
        return FileSplit(
            paths,
            self.labels[indices.cpu()],
            self.size,
            device=self.device,
            workers=self.workers,
            warned=self.warned,
        )

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return steps(len(self), batch_size, parts)

    def _stream(self, batches: _Epoch | _InOrder) -> Iterator[Batch]:
        if not len(batches):
            return
        cuda = self.device.type == "cuda"
        loader = DataLoader(
            _Decoder(self._packed_paths, self.labels, self.size),
            batch_sampler=batches,
            num_workers=min(self.workers, len(batches)),
            collate_fn=_collate,
            worker_init_fn=_start_loader,
            pin_memory=cuda,
            # Or the loader would draw from torch's global state.
            generator=torch.Generator(),
        )
        # Loader processes inherit what is blocked here, until they ignore these signals themselves.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            stream = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for images, labels, broken in stream:
            for path, reason in broken:
                warn_once(Path(path), reason, self.warned)
            yield (
                images.to(self.device, non_blocking=cuda) if len(labels) else self._no_images(),
                labels.to(self.device, non_blocking=cuda),
            )

    @cached_property
    def _packed_paths(self) -> _PackedPaths:
        return _PackedPaths(self.paths)

    def _no_images(self) -> Tensor:
        return torch.empty((0, *self.shape), dtype=torch.uint8, device=self.device)


@dataclass(frozen=True)
class _Epoch:
    """A batch sampler: the keys of a part of each batch of `steps`, in shuffled order with crops.

    Keys are made batch by batch. All at once they would take some hundred bytes an image, and a
    pause at the start of an epoch.
    """

    order: Tensor
    crops: Tensor
    batch_size: int
    part: Part
    steps: range

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[_Key]]:
        number, parts = self.part
        for step in self.steps:
            batch = self.order[step * self.batch_size : (step + 1) * self.batch_size]
            index = batch.tensor_split(parts)[number]
            draws = self.crops.index_select(0, index).tolist()
            yield list(zip(index.tolist(), map(tuple, draws), strict=True))


@dataclass(frozen=True)
class _InOrder:
    """A batch sampler: the keys of the batches that begin at `firsts`, in order, without crops."""

    firsts: range
    batch_size: int
    images: int

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[_Key]]:
        for first in self.firsts:
            end = min(first + self.batch_size, self.images)
            yield [(index, None) for index in range(first, end)]


class _PackedPaths:
    """Paths in one piece of memory, which loader processes share.

    Reading from a list of a million paths would copy it into each process, because every access
    changes a reference count.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._all = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])

    def __getitem__(self, index: int) -> Path:
        return Path(os.fsdecode(self._all[self._ends[index] : self._ends[index + 1]]))


def _start_loader(_worker: int) -> None:
    # Collecting garbage would copy the memory that is shared with the parent.
    gc.freeze()
    # SLURM signals all processes of a job at its end. The parent decides when to stop, and needs
    # images until then.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Decoder(Dataset[_Item]):
    def __init__(self, paths: _PackedPaths, labels: Tensor, size: int) -> None:
        self.paths = paths
        self.labels = labels
        self.size = size

    def __getitem__(self, key: _Key) -> _Item:
        index, crop = key
        path, label = self.paths[index], int(self.labels[index])
        try:
            return decode(path, self.size, crop), label, "", ""
        except Exception as error:  # a broken file can raise anything
            return None, label, str(path), why_unreadable(path, error)


def _collate(items: list[_Item]) -> tuple[Tensor, Tensor, list[tuple[str, str]]]:
    images = [image for image, *_ in items if image is not None]
    labels = [label for image, label, *_ in items if image is not None]
    broken = [(path, reason) for image, _, path, reason in items if image is None]
    stacked = torch.stack(images) if images else torch.empty(0, dtype=torch.uint8)
    return stacked, torch.tensor(labels, dtype=torch.int64), broken
