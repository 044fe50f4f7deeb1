"""Networks to measure: scikit-learn's digits, and networks whose answers are known."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.experiments.config.resolve import parse
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.evaluation.base import Subject


def config(**evaluation: Any) -> RunConfig:
    return parse(
        {
            "dataset": {"name": "digits", "train_size": 600},
            "evaluation": {"occlusion": {"shapes": []}, **evaluation},
        }
    )


@cache
def digits() -> Dataset:
    return load(config().dataset)


def subject(network: nn.Module, dataset: Dataset | None = None, **evaluation: Any) -> Subject:
    return Subject(network, dataset or digits(), config(**evaluation), torch.device("cpu"))


def with_labels(dataset: Dataset, split: str, labels: Tensor) -> Dataset:
    """The data set with other labels in one split."""
    images = getattr(dataset, split).images
    return dataclasses.replace(dataset, **{split: ArraySplit(images, labels)})


class Nearest(nn.Module):
    """-scale times the squared distance to the mean training image of each class."""

    def __init__(self, scale: float = 0.3) -> None:
        super().__init__()
        plain = subject(nn.Identity())
        images, labels = next(plain.pixels(plain.split("train"), 10_000))
        images = plain.normalised(images)
        self.means = torch.stack([images[labels == number].mean(0) for number in range(10)])
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        return -self.scale * ((images.unsqueeze(1) - self.means) ** 2).sum(dim=(2, 3, 4))


class Memory(nn.Module):
    """Certain of the class of the nearest training image."""

    def __init__(self) -> None:
        super().__init__()
        plain = subject(nn.Identity())
        images, self.labels = next(plain.pixels(plain.split("train"), 10_000))
        self.images = plain.normalised(images).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.flatten(1), self.images).argmin(dim=1)
        return 10.0 * torch.nn.functional.one_hot(self.labels[nearest], 10)


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.repeat(len(images), 1)
