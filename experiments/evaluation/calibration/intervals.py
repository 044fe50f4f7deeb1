"""Intervals over test images for calibration errors, which know that these are biased.

An ECE is above 0 for perfect confidences, so that its bootstrap interval lies too high. Here the
interval of the debiased error is that of an unbiased square, and that of the ECE holds the errors
under which the observed one is no surprise (a test, inverted).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from mixbench.experiments.evaluation.calibration.binning import Binned, Z

DRAWS = 1000
Floats = NDArray[np.float64]


def debiased(
    confidence: Floats, correct: NDArray[np.bool_], index: NDArray[np.int64], bins: int
) -> tuple[float, float]:
    """The 95 % interval of the debiased error (`errors.debiased_square` and its root).

    A normal interval of the square, whose variance is that of a U-statistic of second order (Sun et
    al. 2024, arXiv:2408.08998): its second part is what is left of it where confidences are right.

    Args:
        confidence: (N,) in [0,1].
        correct: (N,) bool.
        index: (N,), the bins, as of `binning.equal_mass`.
        bins: Their number M.

    Returns:
        Both ends of the root; 0 for squares below 0.
    """
    off = correct - confidence
    count, total, squares, hits = (
        np.bincount(index, weights=each, minlength=bins)
        for each in (np.ones_like(off), off, off**2, correct)
    )
    several = count > 1
    n, total, squares, hit = (
        count[several],
        total[several],
        squares[several],
        (hits[several] / count[several]),
    )
    mean = total / n
    square = mean**2 - hit * (1 - hit) / (n - 1)
    spread = np.maximum(squares / n - mean**2, 0) * n / (n - 1)
    weight = n / len(off)
    variance = 4 * np.maximum(square, 0) * spread / n + 2 * spread**2 / (n * (n - 1))
    centre, half = float(weight @ square), Z * math.sqrt(float(weight**2 @ variance))
    low, high = (math.sqrt(min(max(end, 0.0), 1.0)) for end in (centre - half, centre + half))
    return low, high


def expected(bins: Binned) -> tuple[float, float, float]:
    """The ECE without its bias, and its 95 % interval.

    Errors in proportion to those observed are tried: t times the difference of accuracy and
    confidence in each bin. The value is that t whose ECE would be above the observed one as often
    as below; the ends are those with 2.5 % on either side. At t = 0 confidences are right: where
    the observed ECE is no surprise then, the lower end is 0.

    Args:
        bins: Sums by bin of equal width, as of `binning.binned`.

    Returns:
        Value, lower and upper end.
    """
    of = bins.filled()
    weight, sure = of.count / of.count.sum(), of.confidence / of.count
    gap = of.hits / of.count - sure
    observed = float(weight @ np.abs(gap))
    if not observed:
        return 0.0, 0.0, 0.0
    # Confidences differ within a bin: less varies than of one binomial.
    binomial = of.count * sure * (1 - sure)
    ratio = of.variance / np.where(binomial > 0, binomial, 1.0)
    noise = np.random.default_rng(0).standard_normal((DRAWS, len(sure)))

    def excess(times: float, share: float) -> float:
        accuracy = np.clip(sure + times * gap, 0.0, 1.0)
        spread = np.sqrt(ratio * accuracy * (1 - accuracy) / of.count)
        drawn = np.abs(times * gap + spread * noise) @ weight
        return float(np.quantile(drawn, share)) - observed

    most = 1 / observed
    values = []
    for share in (0.5, 0.975, 0.025):
        if excess(0.0, share) >= 0:
            values.append(0.0)
        elif excess(most, share) <= 0:
            values.append(1.0)
        else:
            root = brentq(excess, 0.0, most, args=(share,), xtol=1e-6)
            values.append(min(root * observed, 1.0))
    value, low, high = values
    return value, low, high
