"""What is paired between the cells of a sweep: seeds, replicates, and folds that overlap."""

from __future__ import annotations

import pandas as pd

REPLICATE = "replicate"
FOLDS = "dataset.folds"


class Unit(str):
    """What is paired between cells, "seed" or "replicate", as a word.

    Attributes:
        overlap: What the training images of two replicates share adds to the variance of a mean,
            in variances of a single value; 0 for independent replicates.
    """

    overlap: float

    def __new__(cls, word: str, overlap: float = 0.0) -> Unit:
        """Return the word with its overlap."""
        unit = super().__new__(cls, word)
        unit.overlap = overlap
        return unit


def unit_of(runs: pd.DataFrame) -> Unit:
    """Return what is paired between the cells of these runs: "seed" or "replicate".

    Replicates that are folds overlap by test images over training images, 1 / (folds - 1).

    Args:
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.

    Examples:
        >>> runs = pd.DataFrame({"replicate": [0, 1], "dataset.folds": [5, 5]})
        >>> unit_of(runs), unit_of(runs).overlap
        ('replicate', 0.25)
    """
    if REPLICATE not in runs:
        return Unit("seed")
    folds = pd.to_numeric(runs[FOLDS], errors="coerce").min() if FOLDS in runs else None
    return Unit(REPLICATE, 0.0 if folds is None or pd.isna(folds) else 1 / (float(folds) - 1))


def overlap_of(unit: str) -> float:
    """Return how far what is paired overlaps; 0 for a mere word."""
    return unit.overlap if isinstance(unit, Unit) else 0.0


def variance_of_mean(n: int, overlap: float = 0.0) -> float:
    """Return the variance of a mean over n replicates, in variances of a single value.

    1/n, and for folds 1/n + n_test/n_train: their training images overlap, so that the spread
    between them understates the luck that all share (Nadeau and Bengio, "Inference for the
    generalization error", Machine Learning 52, 2003, section 5).

    Args:
        n: Replicates, at least 1.
        overlap: n_test/n_train for folds, else 0.

    Examples:
        >>> variance_of_mean(10), variance_of_mean(10, 1 / 4)
        (0.1, 0.35)
    """
    return 1 / n + overlap
