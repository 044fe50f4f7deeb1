"""The two forms of a split, behind one interface: on the device, or streamed from files.

    for images, labels in dataset.train.epoch(batch_size, generator): ...
    for images, labels in dataset.test.batches(batch_size): ...

Images are uint8 (B,C,H,W), labels int64 (B,), both on the device.

A `part` (number, of) is what one of several processes takes that train together: of an epoch, its
share of every batch; in fixed order, every `of`-th batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mixbench.experiments.data.crops import random_resized_crop

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
        self, batch_size: int, generator: torch.Generator, *, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        """Every image once, in an order drawn from the (CPU) generator: `steps` batches.

        From batch `start` on; what is drawn does not depend on it. A batch has fewer images, or
        none, where files can't be read. A last batch that leaves a part with one image is dropped,
        because batch normalisation cannot train on it.
        """

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        """Every image once, in fixed order, without augmentation. Batches may be views."""

    def subset(self, indices: Tensor) -> Split:
        """The split with only these images, in this order."""

    def steps(self, batch_size: int, parts: int = 1) -> int:
        """The batches of one `epoch`."""


def steps(images: int, batch_size: int, parts: int = 1) -> int:
    """Batches of an epoch: a last one with a single image for a part is dropped, unless all are."""
    full, rest = divmod(images, batch_size)
    return full + (rest >= (2 * parts if full and batch_size > 1 else 1))


class ArraySplit:
    """All images in memory: uint8 (N,C,H,W) on the device.

    With `crops`, an epoch gives random resized crops: for photographs, where a padded crop would
    change little. images uint8 (N,C,H,W); labels int64 (N,).
    """

    def __init__(self, images: Tensor, labels: Tensor, crops: bool = False) -> None:
        self.images = images.contiguous()
        self._targets = labels.to(images.device)
        self.labels = labels.cpu()
        self.crops = crops

    @property
    def shape(self) -> tuple[int, int, int]:
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def __len__(self) -> int:
        return len(self.labels)

    def epoch(
        self, batch_size: int, generator: torch.Generator, *, start: int = 0, part: Part = WHOLE
    ) -> Iterator[Batch]:
        device = self.images.device
        order = torch.randperm(len(self), generator=generator).to(device)
        draws = crop_draws(len(self), generator).to(device) if self.crops else None
        number, parts = part
        for step in range(start, self.steps(batch_size, parts)):
            batch = order[step * batch_size : (step + 1) * batch_size]
            index = batch.tensor_split(parts)[number]
            images = self.images.index_select(0, index)
            if draws is not None:
                images = random_resized_crop(images, draws.index_select(0, index))
            yield images, self._targets.index_select(0, index)

    def batches(self, batch_size: int, *, part: Part = WHOLE) -> Iterator[Batch]:
        number, parts = part
        yield from zip(
            torch.split(self.images, batch_size)[number::parts],
            torch.split(self._targets, batch_size)[number::parts],
            strict=True,
        )

    def subset(self, indices: Tensor) -> ArraySplit:
        images = self.images.index_select(0, indices.to(self.images.device))
        return ArraySplit(images, self.labels[indices.cpu()], self.crops)

    def steps(self, batch_size: int, parts: int = 1) -> int:
        return steps(len(self), batch_size, parts)


def crop_draws(images: int, generator: torch.Generator) -> Tensor:
    """Four uniform numbers an image (N,4), for `augment.crop_box`.

    Drawn for a whole epoch at once and on the CPU, so that neither the device nor the number of
    loader workers changes them.
    """
    return torch.rand(images, 4, generator=generator)
