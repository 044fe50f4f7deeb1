"""CIFAR-100 (Krizhevsky 2009): photographs of 32 x 32 pixels in 100 classes (fine labels)."""

from __future__ import annotations

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.torchvision_sets import TorchvisionSet

INFO = DatasetInfo(
    name="cifar100",
    title="CIFAR-100",
    channels=3,
    size=32,
    classes=100,
    train=50_000,
    test=10_000,
    flip=True,
    crop_padding=4,
    source="download",
)

DATASET = TorchvisionSet(
    INFO.name, "CIFAR100", entries=("cifar-100-python",), archive="cifar-100-python.tar.gz"
)
