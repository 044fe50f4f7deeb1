"""SVHN (Netzer et al. 2011): digits of house numbers, 32 x 32 pixels, without the extra images."""

from __future__ import annotations

from pathlib import Path

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.torchvision_sets import SplitSet

INFO = DatasetInfo(
    name="svhn",
    title="SVHN",
    channels=3,
    size=32,
    classes=10,
    train=73_257,
    test=26_032,
    flip=False,
    crop_padding=4,
    source="download",
)


class _SVHN(SplitSet):
    def checksums(self, root: Path) -> list[tuple[Path, str]]:
        files = self.torchvision_class().split_list
        return [(root / files[split][1], files[split][2]) for split in ("train", "test")]


DATASET = _SVHN(
    INFO.name, "SVHN", entries=("train_32x32.mat", "test_32x32.mat"), classes=tuple("0123456789")
)
