"""Leave classes out of a data set: a network that never saw them is asked about them later."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.named import Arrays
from mixbench.experiments.errors import unknown


def without_classes(arrays: Arrays, config: DatasetConfig) -> Arrays:
    """The data set without `config.left_out_classes`; the others are numbered anew, in order.

    Raises UserError for a class that the data set does not have.
    """
    names = config.left_out_classes
    if not names:
        return arrays
    for name in names:
        if name not in arrays.classes:
            raise unknown(
                f"class of {config.name} in dataset.left_out_classes:", name, arrays.classes
            )
    kept = [number for number, name in enumerate(arrays.classes) if name not in names]
    new_numbers = np.full(len(arrays.classes), -1, dtype=np.int64)
    new_numbers[kept] = np.arange(len(kept))

    def part(
        images: NDArray[np.uint8], labels: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        numbers = new_numbers[labels]
        return images[numbers >= 0], numbers[numbers >= 0]

    return Arrays(
        tuple(arrays.classes[number] for number in kept),
        *part(arrays.train_images, arrays.train_labels),
        *part(arrays.test_images, arrays.test_labels),
        arrays.skipped,
    )
