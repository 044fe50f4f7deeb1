"""Masks of objects go through the crops and flips of their images, and reach the method."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from mixbench import augmentations
from mixbench.augmentations.bank import Bank
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.dataset import Dataset, statistics
from mixbench.experiments.data.object_masks import object_masks
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.ranks import Ranks
from mixbench.experiments.training.inputs import Pixels
from mixbench.experiments.training.random_streams import RandomStreams


def rings(count: int) -> ArraySplit:
    """A dark hole in each object; no object of one is that of another."""
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    for index in range(count):
        images[index, 0, 3 : 9 + index, 4 + index : 14 + index] = 10 + index
        images[index, 0, 5:7, 6 + index : 9 + index] = 0
    return ArraySplit(images, torch.arange(count) % 10)


def pixels(augmentation: dict[str, Any]) -> tuple[Pixels, Dataset]:
    config = parse(
        {
            "dataset": {"name": "fashion_mnist", "train_size": 100},
            "augmentation": augmentation,
            "training": {"batch_size": 8, "crop_padding": 2, "flip": True},
        }
    )
    split = rings(8)
    classes = tuple("abcdefghij")
    known = (classes, split, split, split, *statistics(split.images), "here", "0" * 16)
    dataset = Dataset("fashion_mnist", *known)
    learner: Any = SimpleNamespace(network=nn.Flatten(), layers=None, device=torch.device("cpu"))
    streams = RandomStreams.seeded(3, torch.device("cpu"), Ranks())
    return Pixels(learner, dataset, config, streams), dataset


def test_masks_are_cropped_and_flipped_with_their_images() -> None:
    weighs, dataset = pixels({"name": "cutmix", "labels": "objects"})
    plain, _ = pixels({"name": "cutmix"})
    order = [torch.Generator().manual_seed(0) for _ in range(2)]
    (raw, labels), (as_before, same) = (
        next(iter(one.epoch(generator, start=0, part=(0, 1))))
        for one, generator in zip((weighs, plain), order, strict=True)
    )
    assert torch.equal(labels, same) and torch.equal(raw[:, :1], as_before)
    images, masks, _ = weighs._prepare(raw, None)
    without, nothing, _ = plain._prepare(as_before, None)
    assert torch.equal(images, without) and nothing is None and masks is not None
    shown = ((images * dataset.std.view(-1, 1, 1) + dataset.mean.view(-1, 1, 1)) * 255).round()
    assert torch.equal(masks[:, 0] > 0, object_masks(shown))
    assert ((masks[:, 0] > 0) & (shown[:, 0] == 0)).any()
    mix = augmentations.create("cutmix", labels="objects")
    _, batch = weighs.mix(mix, raw, labels, Bank())
    assert batch.images.shape == images.shape
    assert batch.targets.weights.sum(dim=1).allclose(torch.ones(8))
