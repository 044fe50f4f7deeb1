"""Which folders of images test in folds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mixbench.experiments.advise.folder import FOLDS, MOST_IN_FOLDS, folds_of


@pytest.mark.parametrize(
    ("counts", "folds"),
    [
        ([FOLDS, 200], FOLDS),
        ([FOLDS - 1, 200], None),
        ([MOST_IN_FOLDS // 2] * 2, FOLDS),
        ([MOST_IN_FOLDS // 2 + 1] * 2, None),
        (None, None),
    ],
    ids=["just enough", "a class with too few", "the largest", "larger", "its own test images"],
)
def test_small_folders_without_test_images_test_in_folds(
    counts: list[int] | None, folds: int | None
) -> None:
    undivided = None if counts is None else ([], np.repeat(np.arange(len(counts)), counts))
    listing = SimpleNamespace(undivided=undivided, classes=("a", "b"))
    seen: Any = SimpleNamespace(listing=listing)
    assert folds_of(seen) == folds
