"""Scenes of two to four items of Fashion-MNIST (Xiao et al. 2017) on a smooth background."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.object_rows import object_rows
from mixbench.experiments.data.scenes import fashion
from mixbench.experiments.data.scenes.compose import Scenes
from mixbench.experiments.data.sets import fashion_mnist
from mixbench.experiments.errors import UserError

INFO = DatasetInfo(
    name="fashion_scenes",
    title="scenes of Fashion-MNIST",
    channels=1,
    size=48,
    classes=5,
    train=2_000,
    test=400,
    flip=True,
    crop_padding=4,
    targets=("masks", "multi_label", "boxes"),
    source="generated from Fashion-MNIST, and kept in $MIXBENCH_DATA",
)

SIDES = (32, 512)
TEST_SEED = 0


class _FashionScenes(NamedDataset):
    """`split_seed` says which scenes train; those of the test are always the same."""

    def find(self) -> str | None:
        """Where Fashion-MNIST is."""
        return fashion_mnist.DATASET.find()

    def fetch(self) -> str:
        """Fetch Fashion-MNIST."""
        return fashion_mnist.DATASET.fetch()

    def verify(self, source: str) -> None:
        fashion_mnist.DATASET.verify(source)

    def read(self, source: str) -> Arrays:
        """Read all scenes of the first seed, at the usual size."""
        return self.read_configured(source, DatasetConfig(name=INFO.name))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Generate the scenes that train and validate, and those of the test."""
        height, width = config.sides
        if height != width or not SIDES[0] <= height <= SIDES[1]:
            raise UserError(
                f"dataset.image_size: got {[height, width] if height != width else height}, "
                f"expected the side of squares from {SIDES[0]} to {SIDES[1]} for {INFO.name}"
            )
        count = _size(config) + (config.validation_size or 0)
        train = fashion.scenes(
            "train", count=count, size=height, seed=config.split_seed, source=source
        )
        test = fashion.scenes("test", count=INFO.test, size=height, seed=TEST_SEED, source=source)
        if config.targets == "multi_label":
            return Arrays(
                fashion.GROUPS, train.images, shown_groups(train), test.images, shown_groups(test)
            )
        if config.targets == "boxes":
            rows = (_objects(train), _objects(test))
            return Arrays(fashion.GROUPS, train.images, rows[0], test.images, rows[1])
        classes = ("background", *fashion.GROUPS)
        return Arrays(classes, train.images, _masks(train), test.images, _masks(test))

    def choose(
        self, config: DatasetConfig, strata: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Take scenes in their order, which is random: smaller sizes are parts of larger ones."""
        number = np.arange(len(strata))
        if config.validation_size is not None:
            return number[config.validation_size :], number[: config.validation_size]
        fraction = config.validation_fraction
        # Of the first m scenes floor(m * fraction + 1/2) validate.
        validates = np.diff(np.floor(np.arange(len(strata) + 1) * fraction + 0.5)) > 0
        if not validates.any() or validates.all():
            raise UserError(
                f"dataset.validation_fraction: {fraction:g} of {len(strata)} scenes leaves none to "
                "validate or to train on; expected more scenes or another fraction"
            )
        return number[~validates], number[validates]

    def rest(self, config: DatasetConfig, strata: NDArray[np.int64]) -> NDArray[np.int64]:
        """The scenes after those that train and validate."""
        return np.arange(_size(config) + (config.validation_size or 0), len(strata))


DATASET = _FashionScenes()


def _size(config: DatasetConfig) -> int:
    if config.train_size is not None:
        return config.train_size
    return max(1, round((config.train_fraction or 1.0) * INFO.train))


def _masks(scenes: Scenes) -> NDArray[np.uint8]:
    return np.stack([scenes.classes, scenes.instances], axis=1)


def _objects(scenes: Scenes) -> NDArray[np.float32]:
    return object_rows(scenes.boxes, scenes.labels, scenes.visible, scenes.instances)


def shown_groups(scenes: Scenes) -> NDArray[np.float32]:
    """Return which groups of items are seen in each scene: (N,K) of 0 and 1."""
    groups = range(1, len(fashion.GROUPS) + 1)
    there = [(scenes.classes == group).any(axis=(1, 2)) for group in groups]
    return np.stack(there, axis=1).astype(np.float32)
