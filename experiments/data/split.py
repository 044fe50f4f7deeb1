"""The two forms of a split, behind one interface: on the device, or streamed from files.

    for images, labels in dataset.train.epoch(batch_size, generator): ...
    for images, labels in dataset.test.batches(batch_size): ...

Images are uint8 (B,C,H,W), labels int64 (B,), both on the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from experiments.data.augment import random_resized_crop

Batch = tuple[Tensor, Tensor]


class Split(Protocol):
    """Images with labels. `labels` (N,) int64 is on the CPU, `shape` is (C, H, W)."""

    labels: Tensor

    @property
    def shape(self) -> tuple[int, int, int]: ...

    def __len__(self) -> int: ...

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Every image once, in an order drawn from the (CPU) generator: `steps` batches.

        A last batch of a single image is dropped, because batch normalisation cannot train on it.
        """

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """Every image once, in fixed order, without augmentation. Batches may be views."""

    def subset(self, indices: Tensor) -> Split:
        """The split with only these images, in this order."""

    def steps(self, batch_size: int) -> int:
        """The batches of one `epoch`."""


def steps(images: int, batch_size: int) -> int:
    """Batches of an epoch: a last batch of one image is dropped, unless all are of one."""
    full, rest = divmod(images, batch_size)
    return full + (rest > (1 if full and batch_size > 1 else 0))


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

    def epoch(self, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        device = self.images.device
        order = torch.randperm(len(self), generator=generator).to(device)
        draws = crop_draws(len(self), generator).to(device) if self.crops else None
        for step in range(self.steps(batch_size)):
            index = order[step * batch_size : (step + 1) * batch_size]
            images = self.images.index_select(0, index)
            if draws is not None:
                images = random_resized_crop(images, draws.index_select(0, index))
            yield images, self._targets.index_select(0, index)

    def batches(self, batch_size: int) -> Iterator[Batch]:
        yield from zip(self.images.split(batch_size), self._targets.split(batch_size), strict=True)

    def subset(self, indices: Tensor) -> ArraySplit:
        images = self.images.index_select(0, indices.to(self.images.device))
        return ArraySplit(images, self.labels[indices.cpu()], self.crops)

    def steps(self, batch_size: int) -> int:
        return steps(len(self), batch_size)


def crop_draws(images: int, generator: torch.Generator) -> Tensor:
    """Four uniform numbers an image (N,4), for `augment.crop_box`.

    Drawn for a whole epoch at once and on the CPU, so that neither the device nor the number of
    loader workers changes them.
    """
    return torch.rand(images, 4, generator=generator)
