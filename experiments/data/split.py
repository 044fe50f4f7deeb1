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
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.data.crops import Scale, random_resized_crop

Batch = tuple[Tensor, Tensor]
Part = tuple[int, int]
WHOLE: Part = (0, 1)


@dataclass(frozen=True)
class Sampling:
    """Which images an epoch has.

    Attributes:
        balanced: Drawn with replacement, each class about as often, instead of each image once.
        repeats: How often an image comes in its batch; fewer images then make an epoch.
    """

    balanced: bool = False
    repeats: int = 1

    @classmethod
    def of(cls, training: TrainingConfig) -> Sampling:
        """Return that of a training."""
        return cls(training.sampler == "balanced", training.repeated_augmentation or 1)


ONCE = Sampling()


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
        sampling: Sampling = ONCE,
    ) -> Iterator[Batch]:
        """As many images as there are, in an order drawn from the (CPU) generator: `steps` batches.

        `sampling` says which: every image once, unless it says otherwise.
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
        sampling: Sampling = ONCE,
    ) -> Iterator[Batch]:
        device = self.images.device
        drawn = order_of(self, batch_size, generator, start, part, crops, device, sampling)
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
    sampling: Sampling = ONCE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images of each batch of an epoch from `start` on, and their draws (n,4) for crops."""
    if sampling.balanced:
        order = balanced_order(split.labels, generator)
    else:
        order = torch.randperm(len(split), generator=generator)
    order = repeated_order(order, batch_size, sampling.repeats)
    # Moved at once: copies batch by batch would each wait for the device.
    order = order.to(device)
    draws = torch.empty(len(split), 0) if crops is None else crop_draws(len(split), generator)
    draws = draws.to(device)
    number, parts = part
    for step in range(start, split.steps(batch_size, parts)):
        batch = order[step * batch_size : (step + 1) * batch_size]
        index = batch.tensor_split(parts)[number]
        if sampling == ONCE:
            yield index, draws.index_select(0, index)
            continue
        # An image that comes again is cropped in another way.
        of_batch = draws[step * batch_size : (step + 1) * batch_size]
        yield index, of_batch.tensor_split(parts)[number]


def repeated_order(order: Tensor, batch_size: int, repeats: int) -> Tensor:
    """Put each image `repeats` times into its batch, and keep the number of images.

    As Hoffer et al. 2020 (arXiv:1901.09335) and timm's RASampler: an epoch has the first of `order`
    alone. Within a batch all images come once, then again, so that ranks and partners get others.

    Examples:
        >>> repeated_order(torch.arange(10), batch_size=4, repeats=2).tolist()
        [0, 1, 0, 1, 2, 3, 2, 3, 4, 4]
    """
    if repeats == 1:
        return order
    batches, used = [], 0
    for first in range(0, len(order), batch_size):
        size = min(batch_size, len(order) - first)
        different = -(-size // repeats)
        batches.append(order[used : used + different].repeat(repeats)[:size])
        used += different
    return torch.cat(batches)


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
