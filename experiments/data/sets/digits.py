"""scikit-learn's handwritten digits: 1797 real images of 8 x 8 (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import choose

INFO = DatasetInfo(
    name="digits",
    title="handwritten digits (scikit-learn)",
    channels=1,
    size=8,
    classes=10,
    train=1_438,
    test=359,
    flip=False,
    crop_padding=0,
    black_background=True,
    source="comes with scikit-learn",
)

TEST_FRACTION = 0.2


class _Digits(NamedDataset):
    def find(self) -> str:
        return INFO.source

    def fetch(self) -> str:
        return INFO.source

    def verify(self, source: str) -> None:
        pass

    def read(self, source: str) -> Arrays:  # noqa: ARG002, they come with scikit-learn
        """Read all images. A stratified fifth, always the same, is the test part."""
        rows = _rows()
        images = np.rint(rows[:, :-1] * (255 / 16)).astype(np.uint8)  # from 0..16
        images = images.reshape(-1, 1, *INFO.sides)
        labels = rows[:, -1].astype(np.int64)
        test = choose(labels, round(TEST_FRACTION * len(labels)), seed=0)
        train = np.setdiff1d(np.arange(len(labels)), test)
        classes = tuple("0123456789")
        return Arrays(classes, images[train], labels[train], images[test], labels[test])


def _rows() -> NDArray[np.float64]:
    """Read one image a row, its label last: (1797, 65)."""
    # From its file: the import of scikit-learn takes as long as that of torch.
    package = importlib.util.find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


DATASET = _Digits()
