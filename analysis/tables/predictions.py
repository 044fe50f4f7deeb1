"""What the runs of a classification named their test images, from the saved predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PREDICTIONS = "predictions.npz"
MOST_RUNS = 1200
"""With more runs the predictions are not read: that takes milliseconds each."""


@dataclass(frozen=True)
class Predicted:
    """The test images of a run, in their order.

    Attributes:
        named: The class that the network named, (N,) int32.
        labels: The true class, (N,) int32.
        classes: How many there are.
    """

    named: NDArray[np.int32]
    labels: NDArray[np.int32]
    classes: int


def read(run: Path) -> Predicted | None:
    """Return what a run folder has; None without predictions of classes, or with damaged ones."""
    try:
        with np.load(run / PREDICTIONS, allow_pickle=False) as saved:
            logits, labels = saved["logits"], saved["labels"]
    except (OSError, ValueError, KeyError, EOFError):
        return None
    except Exception as error:  # A torn archive: zipfile.BadZipFile, zlib.error.
        if type(error).__module__ in ("zipfile", "zlib"):
            return None
        raise
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        return None
    classes = logits.shape[1]
    if not len(labels) or labels.min() < 0 or labels.max() >= classes:
        return None
    named = logits.argmax(axis=1).astype(np.int32)
    return Predicted(named, labels.astype(np.int32), classes)
