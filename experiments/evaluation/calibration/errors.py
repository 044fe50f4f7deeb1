"""How far confidence is from accuracy: the errors, from bins or from the samples themselves.

All are of the top label (the class of the largest logit and its probability) but `classwise`. All
are fractions: 0.02 is two percent. `Binned` comes from `binning.binned`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlog1py, xlogy

from mixbench.experiments.evaluation.calibration.binning import Binned, binned, equal_width


def gap(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Mean confidence - accuracy: above 0 is over-confident, below under-confident.

    Args:
        confidence: (N,) in [0,1].
        correct: (N,) bool.

    Returns:
        From -1 to 1.

    Examples:
        >>> gap(np.array([0.75, 0.75]), np.array([True, False]))
        0.25
    """
    return float(confidence.mean() - correct.mean())


def expected(bins: Binned) -> float:
    """Expected calibration error: the mean of |accuracy - confidence| over bins, by count.

    Guo et al. 2017, equation 3; with bins of equal mass, the adaptive ECE of Nixon et al. 2019 for
    the top label.

    Args:
        bins: Sums by bin, as of `binning.binned`.

    Examples:
        >>> confidence, correct = np.array([0.25, 0.75]), np.array([False, True])
        >>> expected(binned(confidence, correct, equal_width(confidence, 2), bins=2))
        0.25
    """
    of = bins.filled()
    return float(np.abs(of.hits - of.confidence).sum() / of.count.sum())


def expected_by_chance(bins: Binned) -> float:
    """The ECE to be expected of these confidences if every one were right: it is not 0.

    E|accuracy - confidence| of each bin when its hits are independent draws: the mean absolute
    deviation of a binomial (de Moivre's closed form) with the bin's mean confidence, times the
    ratio of the true to the binomial standard deviation. Exact where a bin has one confidence.

    Args:
        bins: Sums by bin, as of `binning.binned`.
    """
    of = bins.filled()
    mean = np.clip(of.confidence / of.count, 0.0, 1.0)
    some = np.minimum(np.floor(of.count * mean) + 1, of.count)
    ways = gammaln(of.count + 1) - gammaln(some + 1) - gammaln(of.count - some + 1)
    chance = np.exp(ways + xlogy(some, mean) + xlog1py(of.count - some, -mean))
    deviation = 2 * some * (1 - mean) * chance
    spread = of.count * mean * (1 - mean)
    ratio = np.sqrt(of.variance / np.where(spread > 0, spread, 1.0))
    return float((deviation * ratio).sum() / of.count.sum())


def greatest(bins: Binned) -> float:
    """Maximum calibration error: the largest |accuracy - confidence| of a bin that has samples.

    Guo et al. 2017, equation 5. A bin with a handful of samples decides it, so it is mostly noise.

    Args:
        bins: Sums by bin, as of `binning.binned`.
    """
    of = bins.filled()
    return float((np.abs(of.hits - of.confidence) / of.count).max())


def overconfidence(bins: Binned) -> float:
    """Over-confidence error: the mean over bins of confidence · max(confidence - accuracy, 0).

    Thulasidasan et al. 2019 ("On Mixup Training"); the weights are the bins' counts.

    Args:
        bins: Sums by bin, as of `binning.binned`.
    """
    of = bins.filled()
    excess = np.maximum(of.confidence - of.hits, 0.0)
    return float((of.confidence / of.count * excess).sum() / of.count.sum())


def debiased_square(bins: Binned) -> float:
    """Squared (L2) calibration error without the part that chance alone gives: may be below 0.

    The mean over bins of (accuracy - confidence)² - accuracy (1 - accuracy) / (count - 1): Kumar et
    al. 2019 ("Verified Uncertainty Calibration"). A bin with one sample tells nothing and counts
    as 0, as in their code. Differences within a bin go unnoticed.

    Args:
        bins: Sums by bin, as of `binning.binned`.
    """
    of = bins.filled()
    hit, sure = of.hits / of.count, of.confidence / of.count
    several = of.count > 1
    chance = hit * (1 - hit) / np.where(several, of.count - 1, 1.0)
    return float((of.count * ((hit - sure) ** 2 - chance))[several].sum() / of.count.sum())


def kolmogorov_smirnov(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Largest |sum of (confidence - hit) over the samples up to some confidence| / N, without bins.

    Gupta et al. 2021 ("Calibration of Neural Networks using Splines"). Taken after all samples of
    one confidence only, so that the order of ties doesn't matter. At least |gap|.

    Args:
        confidence: (N,) in [0,1].
        correct: (N,) bool.

    Returns:
        From 0 to 1.

    Examples:
        >>> kolmogorov_smirnov(np.array([0.5, 0.75]), np.array([False, True]))
        0.25
    """
    values, group = np.unique(confidence, return_inverse=True)
    sums = np.bincount(group, weights=confidence - correct, minlength=len(values))
    return float(np.abs(sums.cumsum()).max() / len(confidence))


def classwise(probability: NDArray[np.float64], labels: NDArray[np.integer], bins: int) -> float:
    """Class-wise ECE: the mean over classes of the ECE of each class's probability.

    Equal width, bins as in `binning.equal_width`: Kull et al. 2019 ("Beyond temperature scaling"),
    and the static calibration error of Nixon et al. 2019. Most of a class's probabilities are near
    0, so it shrinks with the number of classes: compare it within a data set only.

    Args:
        probability: (N,K).
        labels: (N,).
        bins: Of each class.

    Returns:
        From 0 to 1.
    """
    classes = probability.shape[1]
    of_class = (
        expected(binned(column, labels == number, equal_width(column, bins), bins))
        for number, column in enumerate(np.ascontiguousarray(probability.T))
    )
    return float(sum(of_class) / classes)
