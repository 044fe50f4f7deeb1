"""Confidences put into bins, of equal width or of equal mass, and what each bin holds.

index = equal_mass(confidence, 15)
binned(confidence, correct, index, 15)     sums, which `errors` takes
diagram(confidence, correct, index, 15)    what a figure shows
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Z = 1.959963984540054
"""The 97.5% point of the normal distribution: intervals of 95%."""


@dataclass(frozen=True)
class Binned:
    """Sums over the samples of each bin, (M,) float64 each, 0 in empty bins.

    count, and the sums of confidence, of hits (0 or 1) and of confidence · (1 - confidence).
    """

    count: NDArray[np.float64]
    confidence: NDArray[np.float64]
    hits: NDArray[np.float64]
    variance: NDArray[np.float64]

    def filled(self) -> Binned:
        """Only the bins that have samples; at least one has."""
        has = self.count > 0
        return Binned(self.count[has], self.confidence[has], self.hits[has], self.variance[has])


def equal_width(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin of each value among bins of equal width, ((m-1)/M, m/M].

    The first bin also takes 0.

    Args:
        confidence: (N,) in [0,1].
        bins: Their number M.

    Returns:
        (N,) int64, from 0 to M-1.

    Examples:
        >>> equal_width(np.array([0.0, 0.25, 0.3, 1.0]), 4)
        array([0, 0, 1, 3])
    """
    edges = np.linspace(0.0, 1.0, bins + 1)
    # side="left": a confidence that lies on an edge belongs to the bin below it.
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def equal_mass(confidence: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """The bin of each value among bins of about N/M samples each, in rising order.

    Equal values share the bin in which the middle of their ranks lies: so the order of the samples
    doesn't matter, but with ties bins differ in size and may be empty. Without ties, sizes differ
    by one at most.

    Args:
        confidence: (N,) in [0,1].
        bins: Their number M.

    Returns:
        (N,) int64, from 0 to M-1.

    Examples:
        >>> equal_mass(np.array([0.9, 0.1, 0.8, 0.2]), 2)
        array([1, 0, 1, 0])
    """
    _, group, size = np.unique(confidence, return_inverse=True, return_counts=True)
    below = size.cumsum() - size
    # The middle rank of a group is below + size / 2; integers, so that no rounding decides.
    bin_of_group = (2 * below + size) * bins // (2 * len(confidence))
    return bin_of_group[group]


def binned(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], index: NDArray[np.int64], bins: int
) -> Binned:
    """What each bin holds.

    Args:
        confidence: (N,) in [0,1].
        correct: (N,) bool.
        index: (N,), as of `equal_width` or `equal_mass`.
        bins: Their number M.

    Examples:
        >>> confidence, correct = np.array([0.25, 0.75]), np.array([False, True])
        >>> binned(confidence, correct, np.array([0, 1]), bins=2).hits
        array([0., 1.])
    """
    uncertain = confidence * (1 - confidence)
    weights = (np.ones_like(confidence), confidence, correct, uncertain)
    sums = (np.bincount(index, weights=each, minlength=bins) for each in weights)
    return Binned(*(each.astype(np.float64, copy=False) for each in sums))


def wilson(
    hits: NDArray[np.float64], count: NDArray[np.float64], z: float = Z
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper end of Wilson's score interval of a fraction, within [0,1].

    Wilson 1927; without continuity correction. It has a width for 0 of n and n of n, which the
    normal interval has not, and trained networks fill such bins.

    Args:
        hits: (M,), at most `count`.
        count: (M,), at least 1.
        z: Of the normal distribution; 1.96 for 95 %.

    Returns:
        Both ends, (M,) each.

    Examples:
        >>> low, high = wilson(np.array([0.0]), np.array([10.0]))
        >>> float(low[0]), round(float(high[0]), 3)
        (0.0, 0.278)
    """
    fraction = hits / count
    shrink = 1 + z**2 / count
    centre = (fraction + z**2 / (2 * count)) / shrink
    half = z / shrink * np.sqrt(fraction * (1 - fraction) / count + z**2 / (4 * count**2))
    return np.clip(centre - half, 0.0, fraction), np.clip(centre + half, fraction, 1.0)


def diagram(
    confidence: NDArray[np.float64],
    correct: NDArray[np.bool_],
    index: NDArray[np.int64],
    bins: int,
) -> dict[str, list[Any]]:
    """What a reliability diagram shows.

    Args:
        confidence: (N,) in [0,1].
        correct: (N,) bool.
        index: (N,), as of `equal_width` or `equal_mass`.
        bins: Their number M.

    Returns:
        Lists of M by name, with None in empty bins: `count`; the mean `confidence` and the
        `accuracy`, with its 95 % interval by Wilson (`accuracy_low`, `accuracy_high`); the smallest
        and largest confidence (`lowest`, `highest`).
    """
    of = binned(confidence, correct, index, bins)
    has = of.count > 0
    full = of.filled()
    low, high = wilson(full.hits, full.count)
    lowest, highest = np.full(bins, np.inf), np.full(bins, -np.inf)
    np.minimum.at(lowest, index, confidence)
    np.maximum.at(highest, index, confidence)
    columns = {
        "confidence": full.confidence / full.count,
        "accuracy": full.hits / full.count,
        "accuracy_low": low,
        "accuracy_high": high,
        "lowest": lowest[has],
        "highest": highest[has],
    }
    lists: dict[str, list[Any]] = {"count": [int(n) for n in of.count]}
    for name, values in columns.items():
        column = np.full(bins, None, dtype=object)
        column[has] = values
        lists[name] = column.tolist()
    return lists
