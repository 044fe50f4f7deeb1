"""A data set that is ready to train on: three splits and their normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mixbench.experiments.data.pixel_range import BYTES
from mixbench.experiments.data.pixel_range import Scale as PixelScale
from mixbench.experiments.data.split import Split
from mixbench.experiments.design.tasks import LABELS


@dataclass(frozen=True)
class Stream:
    """Images beside the labelled ones: what `streams.NAME.dataset` names, and where it is."""

    name: str
    split: Split
    source: str


@dataclass(frozen=True)
class Dataset:
    """Three splits and what is known of them.

    `mean` and `std` (C,) float32 on the device are those of the training split, per channel, of
    pixels in [0,1]. `digest` is 16 hexadecimal digits of a sha256 over the pixels and labels used,
    or over the list of files of an image folder. `source` says where the data is,
    `skipped` which files could not be read so far, and why. `scale` has the values of black and
    white of pixels with more than 8 bits, `notes` what is to be said of them.
    `targets` is the resolved `dataset.targets`; of numbers to predict, `classes` has the names.
    `streams` are the images beside these, by their names in `streams:`; their labels are -1.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    mean: Tensor
    std: Tensor
    source: str
    digest: str
    skipped: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    scale: PixelScale = BYTES
    targets: str = LABELS
    streams: Mapping[str, Stream] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.train.shape


def statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of images (N,C,H,W) of 0 to 255, in [0,1]: (C,).

    Whole-number sums of uint8 images: the same to the last digit on every device. A channel without
    variation has deviation 1, so that it can be divided by.
    """
    exact = not images.is_floating_point()
    total, squares = images.new_zeros(
        (2, images.shape[1]), dtype=torch.int64 if exact else torch.float64
    )
    for chunk in torch.split(images, 4096 if exact else 64):
        values = chunk.to(torch.int32 if exact else torch.float64)
        total += values.sum((0, 2, 3))
        squares += (values * values).sum((0, 2, 3))
    count = images.numel() // images.shape[1]
    mean = total.double() / count
    variance = (squares.double() / count - mean**2).clamp(min=0)
    std = torch.where(variance > 1e-6, variance.sqrt(), 255.0)
    return (mean / 255).float(), (std / 255).float()


def value_range(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Lowest and highest of each of K numbers to predict (N,K): (K,) float32, never the same."""
    low, high = numbers.float().amin(dim=0), numbers.float().amax(dim=0)
    return low, torch.where(high > low, high, low + 1)
