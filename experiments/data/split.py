"""The forms of a split, behind one interface: on the device, in a cache, or streamed from files.

    for images, labels in dataset.train.epoch(batch_size, generator): ...
    for images, labels in dataset.test.batches(batch_size): ...

Images are (B,C,H,W) with pixels from 0 to 255, labels int64 (B,), both on the device: uint8, or
float32 where the files have more than 8 bits.

A `part` (number, of) is what one of several processes takes that train together: of an epoch, its
share of every batch; in fixed order, every `of`-th batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mixbench.experiments.data.crops import Scale, random_resized_crop

Batch = tuple[Tensor, Tensor]
Part = tuple[int, int]
WHOLE: Part = (0, 1)


class Split(Protocol):
    """Images with labels. `labels` (N,) int64 is on the CPU, `shape` is (C, H, W)."""

    labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def epoch(
        self,
        batch_size: int,
        generator: torch.Generator,
        *,
        start: int = 0,
        part: Part = WHOLE,
        crops: Scale | None = None,
        balanced: bool = False,
    ) -> Iterator[Batch]:
        """Every image once, in an order drawn from the (CPU) generator: `steps` batches.

        With `balanced`, as many images drawn with replacement, each class about as often.
        With `crops`, random resized crops with these shares of a picture's area. From batch `start`
        on; what is drawn does not depend on it. A batch has fewer images, or none, where files
        can't be read. A last batch that leaves a part with one image is dropped, because batch
        normalisation cannot train on it.
        """

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        """Every image once, in fixed order, without augmentation. Batches may be views."""

    def cropped(self, indices: Tensor, draws: Tensor, scale: Scale, /) -> Batch:
        """The crops that the rows of `draws` (n,4) make of these images."""

    def subset(self, indices: Tensor) -> Split:
        """The split with only these images, in this order."""

    def steps(self, batch_size: int, parts: int = 1) -> int:
        """The batches of one `epoch`."""


def steps(images: int, batch_size: int, parts: int = 1) -> int:
    """Batches of an epoch: a last one with a single image for a part is dropped, unless all are."""
    full, rest = divmod(images, batch_size)
    return full + (rest >= (2 * parts if full and batch_size > 1 else 1))


class ArraySplit:
    """All images in memory: (N,C,H,W) on the device.

    images (N,C,H,W), pixels from 0 to 255; labels int64 (N,). Crops are cut from `whole`, the
    same images with more pixels (None: from `images`).
    """

    def __init__(self, images: Tensor, labels: Tensor, whole: Tensor | None = None) -> None:
        self.images = images.contiguous()
        self.whole = whole
        self._targets = labels.to(images.device)
        self.labels = labels.cpu()

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

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
        balanced: bool = False,
    ) -> Iterator[Batch]:
        device = self.images.device
        drawn = order_of(self, batch_size, generator, start, part, crops, device, balanced)
        for index, draws in drawn:
            if crops is not None:
                yield self.cropped(index, draws, crops)
                continue
            yield self.images.index_select(0, index), self._targets.index_select(0, index)

    def cropped(self, indices: Tensor, draws: Tensor, scale: Scale) -> Batch:
        index = indices.to(self.images.device)
        pictures = self.images if self.whole is None else self.whole
        images = random_resized_crop(
            pictures.index_select(0, index), draws.to(index.device), scale, self.shape[1:]
        )
        return images, self._targets.index_select(0, index)

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        number, parts = part
        yield from zip(
            torch.split(self.images, batch_size)[number::parts],
            torch.split(self._targets, batch_size)[number::parts],
            strict=True,
        )

    def subset(self, indices: Tensor) -> ArraySplit:
        index = indices.to(self.images.device)
        whole = None if self.whole is None else self.whole.index_select(0, index)
        return ArraySplit(self.images.index_select(0, index), self.labels[indices.cpu()], whole)

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return steps(len(self), batch_size, parts)


def order_of(
    split: Split,
    batch_size: int,
    generator: torch.Generator,
    start: int,
    part: Part,
    crops: Scale | None,
    device: torch.device,
    balanced: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of each batch of an epoch from `start` on, and their draws (n,4) for crops."""
    if balanced:
        order = balanced_order(split.labels, generator)
    else:
        order = torch.randperm(len(split), generator=generator)
    # Moved at once: copies batch by batch would each wait for the device.
    order = order.to(device)
    draws = torch.empty(len(split), 0) if crops is None else crop_draws(len(split), generator)
    draws = draws.to(device)
    number, parts = part
    for step in range(start, split.steps(batch_size, parts)):
        batch = order[step * batch_size : (step + 1) * batch_size]
        index = batch.tensor_split(parts)[number]
        yield index, draws.index_select(0, index)


def balanced_order(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Draw as many images as there are labels, with replacement, every class with equal chances.

    As torch's `WeightedRandomSampler` with one over the size of an image's class as its weight.
    """
    weights = 1 / torch.bincount(labels).double()
    return torch.multinomial(weights[labels], len(labels), replacement=True, generator=generator)


def crop_draws(images: int, generator: torch.Generator) -> Tensor:
    """Four uniform numbers an image (N,4), for `crops.crop_box`.

    Drawn for a whole epoch at once and on the CPU, so that neither the device nor the number of
    loader workers changes them.
    """
    return torch.rand(images, 4, generator=generator)
