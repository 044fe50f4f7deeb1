"""scikit-learn's handwritten digits: 1797 real images of 8 x 8 (Alpaydin & Kaynak 1998)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.select import choose

CLASSES = tuple("0123456789")
TEST_FRACTION = 0.2


def read() -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Training images (1438,1,8,8) uint8, labels, test images (359,1,8,8) and labels.

    The set has no test part of its own: a fifth, stratified, the same for everybody.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]  # from 0..16
    labels = bunch.target.astype(np.int64)
    test = choose(labels, round(TEST_FRACTION * len(labels)), seed=0)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return images[train], labels[train], images[test], labels[test]
