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

from mixbench.experiments.data.crops import Scale, crop_of_picture
from mixbench.experiments.data.decode import Form, as_batch, decode, decode_whole, warn_once
from mixbench.experiments.data.open_image import why_unreadable
from mixbench.experiments.data.split import ONCE, WHOLE, Batch, Part, Sampling, order_of, steps
from mixbench.experiments.signals import SIGNALS

Draws = tuple[float, ...]
"""Four numbers from 0 to 1 for a crop; none for the image without one."""
_Key = tuple[int, Draws]
_Item = tuple[Tensor | None, int, str, str]  # image, label; or path and reason


def loader_workers() -> int:
    """One loader process per thread that torch may use here, at most 8; none for one thread."""
    threads = torch.get_num_threads()
    # A daemonic process may not have children.
    return 0 if threads == 1 or multiprocessing.current_process().daemon else min(8, threads)


class FileSplit:
    """Images that are decoded for each batch by loader processes and streamed to the device.

    Random crops are drawn per image and epoch from the generator, whatever the number of workers,
    and cut from the picture that a cache would hold: with and without it they are the same. A file
    that cannot be read is named in a warning, once, and left out of its batch: `len` counts it, and
    fewer images may come.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Tensor,
        form: Form,
        *,
        device: torch.device,
        workers: int,
        warned: dict[str, str],
    ) -> None:
        self.labels = labels
        self.paths = list(paths)
        self.form = form
        self.device = device
        self.workers = workers
        self.warned = warned

    @property
    def shape(self) -> tuple[int, int, int]:
        return 3, self.form.shape.height, self.form.shape.width

    def __len__(self) -> int:
        return len(self.paths)

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
        steps = len(range(start, self.steps(batch_size, part[1])))
        cpu = torch.device("cpu")
        order = order_of(self, batch_size, generator, start, part, crops, cpu, sampling)
        yield from self._stream(_Epoch(order, steps), crops)

    def cropped(self, indices: Tensor, draws: Tensor, scale: Scale) -> Batch:
        return next(self._stream(_Epoch(iter([(indices, draws)]), 1), scale))

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        number, parts = part
        firsts = range(0, len(self), batch_size)[number::parts]
        yield from self._stream(_InOrder(firsts, batch_size, len(self)), None)

    def subset(self, indices: Tensor) -> FileSplit:
        paths = [self.paths[index] for index in indices.tolist()]
        return FileSplit(
            paths,
            self.labels[indices.cpu()],
            self.form,
            device=self.device,
            workers=self.workers,
            warned=self.warned,
        )

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return steps(len(self), batch_size, parts)

    def _stream(self, batches: _Epoch | _InOrder, crops: Scale | None) -> Iterator[Batch]:
        if not len(batches):
            return
        cuda = self.device.type == "cuda"
        loader = DataLoader(
            _Decoder(self._packed_paths, self.labels, self.form, crops),
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
        return torch.empty((0, *self.shape), dtype=self.form.type_of_batches, device=self.device)


@dataclass(frozen=True)
class _Epoch:
    """A batch sampler: the keys of batches of images with their draws.

    Keys are made batch by batch. All at once they would take some hundred bytes an image, and a
    pause at the start of an epoch.
    """

    order: Iterator[tuple[Tensor, Tensor]]
    steps: int

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[_Key]]:
        for index, draws in self.order:
            yield list(zip(index.tolist(), map(tuple, draws.tolist()), strict=True))


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
            yield [(index, ()) for index in range(first, end)]


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
    def __init__(
        self, paths: _PackedPaths, labels: Tensor, form: Form, crops: Scale | None
    ) -> None:
        self.paths = paths
        self.labels = labels
        self.form = form
        self.crops = crops

    def __getitem__(self, key: _Key) -> _Item:
        index, draws = key
        path, label = self.paths[index], int(self.labels[index])
        try:
            return self._image(path, draws), label, "", ""
        except Exception as error:  # a broken file can raise anything
            return None, label, str(path), why_unreadable(path, error)

    def _image(self, path: Path, draws: Draws) -> Tensor:
        if self.crops is None:
            return as_batch([decode(path, self.form)])[0]
        picture = decode_whole(path, self.form, self.crops[0])
        return in_colour(crop_of_picture(picture, torch.tensor(draws), self.form.shape, self.crops))


def in_colour(image: Tensor) -> Tensor:
    """An image (1,H,W) or (3,H,W) as (3,H,W)."""
    return image.expand(3, -1, -1)


def _collate(items: list[_Item]) -> tuple[Tensor, Tensor, list[tuple[str, str]]]:
    images = [image for image, *_ in items if image is not None]
    labels = [label for image, label, *_ in items if image is not None]
    broken = [(path, reason) for image, _, path, reason in items if image is None]
    stacked = torch.stack(images) if images else torch.empty(0, dtype=torch.uint8)
    return stacked, torch.tensor(labels, dtype=torch.int64), broken
