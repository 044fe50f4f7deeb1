"""Subjects of measurements whose network and images are made by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mixbench.experiments.config import resolve
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.evaluation.base import Subject


def subject(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    name: str = "fashion_mnist",
    mean: float = 0.0,
    std: float = 1.0,
    batch_size: int = 64,
) -> Subject:
    """All splits are the images, uint8 (N,C,H,W); normalised by one mean and deviation."""
    split = ArraySplit(images, labels)
    channels = images.shape[1]
    dataset = Dataset(
        name=name,
        classes=tuple("abcdefghij"),
        train=split,
        validation=split,
        test=split,
        mean=torch.full((channels,), mean),
        std=torch.full((channels,), std),
        source="",
        digest="",
    )
    run = resolve.parse({"dataset": {"name": name}, "evaluation": {"batch_size": batch_size}})
    return Subject(network, dataset, run, torch.device("cpu"))


class Linear(nn.Module):
    """Logits weight (K, C*H*W) @ values + bias, in the values that the network gets."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(len(weight)) if bias is None else bias)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias


class Constant(nn.Module):
    """The same logits for every image: it does not look."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), -1)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[None]:
    """Fails where parameters, gradients, flags or modes are not as they were."""
    before = {key: value.clone() for key, value in network.state_dict().items()}
    flags = [parameter.requires_grad for parameter in network.parameters()]
    network.eval()
    modes = [module.training for module in network.modules()]
    yield
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert [module.training for module in network.modules()] == modes
