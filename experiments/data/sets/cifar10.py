"""CIFAR-10 (Krizhevsky 2009): photographs of 32 x 32 pixels in 10 classes."""

from __future__ import annotations

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.torchvision_sets import TorchvisionSet

INFO = DatasetInfo(
    name="cifar10",
    title="CIFAR-10",
    channels=3,
    size=32,
    classes=10,
    train=50_000,
    test=10_000,
    flip=True,
    crop_padding=4,
    source="download",
)

DATASET = TorchvisionSet(
    INFO.name, "CIFAR10", entries=("cifar-10-batches-py",), archive="cifar-10-python.tar.gz"
)
