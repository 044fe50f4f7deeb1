"""Domains of the same classes, named in the configuration: leave one out, test on it."""

from __future__ import annotations

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.domains.join import DOMAINS

INFO = DatasetInfo(
    name="domains",
    title="several of digits, mnist_5k, fonts and fashion_mnist, turned or not, and a target",
    channels=1,
    size=16,
    classes=10,
    train=15_000,
    test=5_000,
    flip=False,
    crop_padding=0,
    targets=("domains",),
    source="those of its domains",
)

DATASET = DOMAINS
