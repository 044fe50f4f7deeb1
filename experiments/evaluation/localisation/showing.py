"""Show a network images larger than its own, and get its maps of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.experiments.data.split import Split
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.localisation import class_maps
from mixbench.experiments.models.resizing import Resizing, resized

Predict = Callable[[Tensor], Tensor]
Sides = tuple[int, int]
Batches = Iterator[tuple[Tensor, slice]]
"""uint8 images (B,C,H,W), and which of all they are."""


@dataclass(frozen=True)
class ShownMaps:
    """The maps of a batch of images.

    Attributes:
        maps: (B,H,W), at least 0, as large as the images; 0 where one is not finite.
        finite: (B,) bool.
        part: Which images.
    """

    maps: Tensor
    finite: Tensor
    part: slice


def shown_maps(
    subject: Subject, predict: Predict, where: class_maps.MapLayer, labels: Tensor, batches: Batches
) -> Iterator[ShownMaps]:
    """Make the map of each image's class, enlarged to the image.

    Args:
        subject: The network and its data.
        predict: As of `showing`.
        where: Which maps.
        labels: (N,) int64, the classes of all images.
        batches: Their pixels.
    """
    for raw, part in batches:
        wanted = labels[part].to(raw.device)
        small = class_maps.maps(subject.network, predict, raw.float() / 255, wanted, where)
        shown = F.interpolate(small.unsqueeze(1), raw.shape[2:], mode="bilinear").squeeze(1)
        finite = torch.isfinite(small).flatten(1).all(dim=1)
        yield ShownMaps(torch.where(finite.view(-1, 1, 1), shown, 0), finite, part)


def pool(subject: Subject, split: Split) -> tuple[Tensor, Tensor]:
    """All images of a split that scenes are made of, uint8 (N,C,H,W), and their labels (N,)."""
    images, labels = [], []
    for raw, targets in split.batches(subject.config.evaluation.batch_size):
        subject.beat()
        images.append(raw)
        labels.append(targets)
    return torch.cat(images), torch.cat(labels)


@contextlib.contextmanager
def showing(subject: Subject, grid: int) -> Iterator[tuple[Predict, Sides, bool]]:
    """Show the network images that are `grid` times as large as its own.

    Args:
        subject: The network and its data.
        grid: Factor along each side.

    Yields:
        A function from such images (B,C,H,W) in [0,1] to logits, the height and width in pixels at
        which the network works on them, and whether that is `grid` times its own: a network that
        can't work at that size gets its own.
    """
    # A network with an `input_size` resizes what it gets.
    hooks = [
        hook for hook in subject.network._forward_pre_hooks.values() if isinstance(hook, Resizing)
    ]
    usual = [hook.size for hook in hooks]
    native = _sides(usual[-1]) if usual else subject.dataset.shape[1:]
    larger = (grid * native[0], grid * native[1])

    def sized(size: Sides) -> Predict:
        for hook in hooks:
            hook.size = size

        def predict(pixels: Tensor) -> Tensor:
            subject.beat()
            logits: Tensor = subject.network(resized(subject.normalised(pixels), size))
            return logits

        return predict

    try:
        whole = grid > 1 and _works(sized(larger), subject, larger)
        size = larger if whole else native
        yield sized(size), size, whole
    finally:
        for hook, before in zip(hooks, usual, strict=True):
            hook.size = before


def _sides(size: int | Sides) -> Sides:
    return (size, size) if isinstance(size, int) else size


def _works(predict: Predict, subject: Subject, size: Sides) -> bool:
    """Whether a network takes images of that size; only trying it can tell."""
    try:
        with torch.no_grad():
            predict(_noise(subject, size)[:1])
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, IndexError, RuntimeError, ValueError):
        return False
    return True


def map_layer(subject: Subject, predict: Predict, size: Sides) -> class_maps.MapLayer:
    """The module whose output is the map, at that size."""
    return class_maps.find_map_layer(subject.network, predict, _noise(subject, size))


def _noise(subject: Subject, size: Sides) -> Tensor:
    """Two images of that size, always the same."""
    shape = (2, subject.dataset.shape[0], *size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(subject.device)
