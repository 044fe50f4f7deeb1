"""Images that are decoded from files: into memory at once, or batch by batch."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixbench.experiments.data.crops import crop_box
from mixbench.experiments.data.split import WHOLE, Batch, Part, crop_draws, steps
from mixbench.experiments.signals import SIGNALS

log = logging.getLogger(__name__)

Crop = tuple[float, float, float, float]
_Key = tuple[int, Crop | None]
_Item = tuple[Tensor | None, int, str, str]  # image, label; or path and reason


def decode(path: Path, size: int, crop: Crop | None = None) -> Tensor:
    """The image in a file as RGB, uint8 (3,size,size).

    Without `crop`, the central square, that is, the shorter side resized to `size` and a centre
    crop; with the four draws of `crop_box`, that crop. Turned as its EXIF says; transparency on
    white; 16 bits a channel scaled to 8; the first frame of several. Raises whatever Pillow does
    on a file that it cannot read.
    """
    with Image.open(path) as image:
        # Large JPEG files are decoded at a half, a quarter or an eighth where that loses nothing.
        keep = size * (2 if crop is None else 4) / min(image.size)
        if keep < 1:
            image.draft(None, (int(image.width * keep), int(image.height * keep)))
        upright = _rgb(ImageOps.exif_transpose(image))
    width, height = upright.size
    if crop is None:
        side = min(width, height)
        x, y, w, h = (width - side) / 2, (height - side) / 2, float(side), float(side)
    else:
        parts = crop_box(torch.tensor([crop], dtype=torch.float32), width / height)
        sides = (width, height, width, height)
        x, y, w, h = (float(part) * side for part, side in zip(parts, sides, strict=True))
    box = (x, y, min(x + w, width), min(y + h, height))
    pixels = np.array(upright.resize((size, size), Image.Resampling.BILINEAR, box=box))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        top = float(values.max(initial=0))
        # Pillow's own conversion would clip at 255: all white.
        full = 65535 if image.mode.startswith("I;16") or top > 255 else 255 if top > 1 else 1
        values = (values * (255 / full)).round().clip(0, 255)
        return Image.fromarray(values.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert("RGB")
    return image.convert("RGB")


def decode_all(
    paths: Sequence[Path], labels: Tensor, size: int, warned: set[str]
) -> tuple[Tensor, Tensor]:
    """The images of the files that can be read, uint8 (N,3,size,size), and their labels."""
    images = torch.empty((len(paths), 3, size, size), dtype=torch.uint8)

    def fill(index: int) -> bool:
        try:
            images[index] = decode(paths[index], size)
        except Exception as error:  # a broken file can raise anything
            _skip(paths[index], _reason(error), warned)
            return False
        return True

    # Pillow decodes outside Python's lock.
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        readable = torch.tensor(list(pool.map(fill, range(len(paths)))), dtype=torch.bool)
    return (images, labels) if bool(readable.all()) else (images[readable], labels[readable])


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
        warned: set[str],
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
            _Decoder(self._names, self.labels, self.size),
            batch_sampler=batches,
            num_workers=min(self.workers, len(batches)),
            collate_fn=_collate,
            worker_init_fn=_in_the_loader,
            pin_memory=cuda,
            # Or the loader would draw from torch's global state.
            generator=torch.Generator(),
        )
        # Until the loader processes ignore them: they are born with what is blocked here.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            stream = iter(loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for images, labels, broken in stream:
            for path, reason in broken:
                _skip(Path(path), reason, self.warned)
            yield (
                images.to(self.device, non_blocking=cuda) if len(labels) else self._none(),
                labels.to(self.device, non_blocking=cuda),
            )

    @cached_property
    def _names(self) -> _Names:
        return _Names(self.paths)

    def _none(self) -> Tensor:
        return torch.empty((0, *self.shape), dtype=torch.uint8, device=self.device)


@dataclass(frozen=True)
class _Epoch:
    """The keys of a part of each batch of `steps`; made when they are asked for.

    All at once they would be some hundred bytes an image, and a pause at the start of an epoch.
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
    """The keys of the batches that begin at `firsts`."""

    firsts: range
    batch_size: int
    images: int

    def __len__(self) -> int:
        return len(self.firsts)

    def __iter__(self) -> Iterator[list[_Key]]:
        for first in self.firsts:
            end = min(first + self.batch_size, self.images)
            yield [(index, None) for index in range(first, end)]


class _Names:
    """Paths in one piece of memory.

    A loader process that reads from a list of a million paths ends up with a copy of it: there is a
    count of references in each, which every look changes.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        names = [os.fsencode(path) for path in paths]
        self._all = b"".join(names)
        self._ends = np.cumsum([0, *map(len, names)])

    def __getitem__(self, index: int) -> Path:
        return Path(os.fsdecode(self._all[self._ends[index] : self._ends[index + 1]]))


def _in_the_loader(_worker: int) -> None:
    # What is there by now is the parent's: going through it for garbage would copy it.
    gc.freeze()
    # A job's end is told to all its processes. The parent decides what it means, and its images
    # must come until it has.
    for known in SIGNALS:
        signal.signal(known, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Decoder(Dataset[_Item]):
    def __init__(self, paths: _Names, labels: Tensor, size: int) -> None:
        self.paths = paths
        self.labels = labels
        self.size = size

    def __getitem__(self, key: _Key) -> _Item:
        index, crop = key
        path, label = self.paths[index], int(self.labels[index])
        try:
            return decode(path, self.size, crop), label, "", ""
        except Exception as error:  # a broken file can raise anything
            return None, label, str(path), _reason(error)


def _collate(items: list[_Item]) -> tuple[Tensor, Tensor, list[tuple[str, str]]]:
    images = [image for image, *_ in items if image is not None]
    labels = [label for image, label, *_ in items if image is not None]
    broken = [(path, reason) for image, _, path, reason in items if image is None]
    stacked = torch.stack(images) if images else torch.empty(0, dtype=torch.uint8)
    return stacked, torch.tensor(labels, dtype=torch.int64), broken


def _skip(path: Path, reason: str, warned: set[str]) -> None:
    if str(path) not in warned:
        warned.add(str(path))
        log.warning("skipped %s: not readable as an image (%s)", path, reason)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
