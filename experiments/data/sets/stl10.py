"""STL-10 (Coates et al. 2011): photographs of 96 x 96 pixels, without the unlabelled images."""

from __future__ import annotations

from typing import Any

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.torchvision_sets import SplitSet

INFO = DatasetInfo(
    name="stl10",
    title="STL-10",
    channels=3,
    size=96,
    classes=10,
    train=5_000,
    test=8_000,
    flip=True,
    crop_padding=12,
    source="download",
)


class _STL10(SplitSet):
    def torchvision_class(self) -> Any:
        # Without the 2.7 GB of unlabelled images, whose checksum would be taken at every start.
        labelled = super().torchvision_class()
        return type("STL10", (labelled,), {"train_list": labelled.train_list[:2]})


DATASET = _STL10(INFO.name, "STL10", entries=("stl10_binary",), archive="stl10_binary.tar.gz")
