"""Accuracy by class, and what classes are mistaken for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mixbench.analysis.statistics.estimates import CONFIDENCE, Estimate, estimate

Counts = NDArray[np.int64]
Shares = NDArray[np.float64]


def confusion(labels: NDArray[np.int32], named: NDArray[np.int32], classes: int) -> Counts:
    """Return how often each class was named what.

    Args:
        labels: True classes (N,).
        named: Named classes (N,).
        classes: How many there are, K.

    Returns:
        (K, K): the true class by row, the named one by column.

    Examples:
        >>> confusion(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    places = labels.astype(np.int64) * classes + named
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def shares(counts: Counts) -> Shares:
    """Return the rows as shares of their class, NaN for a class without images.

    Args:
        counts: As `confusion` returns them; the diagonal of the shares is the accuracy by class.
    """
    total = counts.sum(axis=1, keepdims=True)
    found = np.full(counts.shape, np.nan)
    np.divide(counts, total, out=found, where=total > 0)
    return found


def most_confused(of_class: Shares, label: int) -> tuple[int, float] | None:
    """Return the class that one is most often mistaken for, and how often; None where it never is.

    Args:
        of_class: The row of `shares` of the class (K,).
        label: The class itself.

    Examples:
        >>> most_confused(np.array([0.5, 0.2, 0.3]), 0)
        (2, 0.3)
    """
    others = np.nan_to_num(of_class)
    others[label] = 0.0
    which = int(others.argmax())
    return (which, float(others[which])) if others[which] > 0 else None


def hardest_pairs(mean: Shares, count: int) -> list[int]:
    """Return `count` classes, those that are mistaken for each other most, in their order.

    Args:
        mean: As of `shares` (K, K).
        count: How many are wanted.

    Examples:
        >>> hardest_pairs(np.array([[0.9, 0.1, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.7]]), 2)
        [0, 2]
    """
    wrong = np.nan_to_num(mean)
    np.fill_diagonal(wrong, 0.0)
    chosen: dict[int, None] = {}
    for place in np.argsort(-wrong, axis=None, kind="stable")[: count * count]:
        for label in divmod(int(place), len(mean)):
            if len(chosen) < count:
                chosen[label] = None
    return sorted(chosen)


def differences(
    here: Mapping[int, Shares],
    there: Mapping[int, Shares],
    *,
    overlap: float = 0.0,
    comparisons: int = 1,
) -> list[Estimate]:
    """Return the paired difference of each class's accuracy.

    Args:
        here: Replicate -> accuracy by class (K,), NaN for a class without test images.
        there: The same of the baseline.
        overlap: Of replicates that are folds, see `units.variance_of_mean`.
        comparisons: How many intervals are to hold together (Bonferroni).

    Examples:
        >>> one, two = ({0: np.array([0.5])}, {0: np.array([0.25])})
        >>> differences(one, two)
        [Estimate(n=1, mean=0.25, half_width=None)]
    """
    rows = [here[draw] - there[draw] for draw in here if draw in there]
    confidence = 1 - (1 - CONFIDENCE) / max(1, comparisons)
    columns = np.array(rows).T.tolist() if rows else []
    return [estimate(column, confidence, overlap=overlap) for column in columns]
