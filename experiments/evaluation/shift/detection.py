"""Detection: scores that should be higher on a network's own images, and how well they tell.

Own images are the positives of ROC curves. Scores are (N,) float64.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Scores = NDArray[np.float64]


def certainty(logits: NDArray[np.floating]) -> Scores:
    """The log odds of the most probable class.

    log(p / (1 - p)) of the largest probability p, from logits z: z₁ - logsumexp(z₂, ..., z_K), in
    descending order. It rises with p and stays finite where p rounds to 1.

    Args:
        logits: (N,K).

    Returns:
        (N,) float64; NaN where logits are not finite.

    Examples:
        >>> certainty(np.array([[0.0, 2.0], [1000.0, 0.0]]))
        array([   2., 1000.])
    """
    ordered = np.sort(logits.astype(np.float64), axis=1)
    rest = ordered[:, :-1] - ordered[:, -2:-1]
    with np.errstate(invalid="ignore"):
        certainties: Scores = ordered[:, -1] - ordered[:, -2] - logsumexp(rest, axis=1)
    return certainties


def confidence(certainties: Scores) -> Scores:
    """The largest probability, 1 / (1 + exp(-c)), from its log odds c.

    Args:
        certainties: (N,) float64, as of `certainty`.

    Returns:
        (N,) float64 in [0,1].
    """
    return 1 / (1 + np.exp(-certainties))


def auroc(familiar: Scores, foreign: Scores) -> float:
    """Chance that one of `familiar` is above one of `foreign`, ties counting a half.

    The Mann-Whitney statistic over the number of pairs, which is the area under the ROC curve.

    Args:
        familiar: (N,) scores of the network's own images.
        foreign: (M,) scores of the other images.

    Returns:
        From 0 to 1; 0.5 is no better than guessing.

    Examples:
        >>> auroc(np.array([0.9, 0.5]), np.array([0.5, 0.1]))
        0.875
    """
    ordered = np.sort(foreign)
    below = np.searchsorted(ordered, familiar, side="left")
    up_to = np.searchsorted(ordered, familiar, side="right")
    return float((below + up_to).mean() / 2 / len(foreign))


def false_positives(familiar: Scores, foreign: Scores, share: float) -> float:
    """The share of `foreign` above the highest threshold that `share` of `familiar` reach.

    A score equal to the threshold passes.

    Args:
        familiar: (N,) scores of the network's own images.
        foreign: (M,) scores of the other images.
        share: The true positive rate, from 0 to 1; at 0 nothing passes.

    Returns:
        The false positive rate, from 0 to 1.

    Examples:
        >>> false_positives(np.array([0.9, 0.5]), np.array([0.7, 0.1]), 1.0)
        0.5
    """
    passing = int(np.ceil(share * len(familiar) - 1e-9))
    if not passing:
        return 0.0
    threshold = np.sort(familiar)[len(familiar) - passing]
    return float((foreign >= threshold).mean())


def max_logit(logits: NDArray[np.floating]) -> Scores:
    """The largest logit (Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection").

    Args:
        logits: (N,K).

    Returns:
        (N,) float64.
    """
    largest: Scores = logits.astype(np.float64).max(axis=1)
    return largest


def energy(logits: NDArray[np.floating]) -> Scores:
    """The negative free energy, log sum exp of the logits, at temperature 1 (Liu et al. 2020).

    Args:
        logits: (N,K).

    Returns:
        (N,) float64.

    Examples:
        >>> energy(np.array([[0.0, 0.0], [1000.0, 0.0]])).round(3)
        array([6.93e-01, 1.00e+03])
    """
    total: Scores = logsumexp(logits.astype(np.float64), axis=1)
    return total


def average_precision(positive: Scores, negative: Scores) -> float:
    """The area under the precision-recall curve: mean precision, weighted by the gain in recall.

    Scores that are equal pass together. It depends on how many positives there are for each
    negative: guessing gives the share of positives.

    Args:
        positive: (N,) scores that should be high.
        negative: (M,) scores that should be low.

    Returns:
        From 0 to 1.

    Examples:
        >>> average_precision(np.array([0.9, 0.5]), np.array([0.7]))
        0.8333333333333333
    """
    ordered, negatives = np.sort(positive), np.sort(negative)
    thresholds, passing_equal = np.unique(ordered, return_counts=True)
    found = len(ordered) - np.searchsorted(ordered, thresholds, side="left")
    wrong = len(negatives) - np.searchsorted(negatives, thresholds, side="left")
    return float((found / (found + wrong) * passing_equal).sum() / len(ordered))


SCORES: Mapping[str, Callable[[NDArray[np.floating]], Scores]] = {
    "confidence": certainty,
    "max_logit": max_logit,
    "energy": energy,
}
"""Score by name; `confidence` ranks by its log odds, which is the same order."""


def detection(own: NDArray[np.floating], foreign: NDArray[np.floating]) -> dict[str, float]:
    """How well each score of `SCORES` tells own from foreign images.

    Args:
        own: (N,K) logits of the network's own images.
        foreign: (M,K) logits of other images.

    Returns:
        "SCORE/auroc", "SCORE/fpr95", "SCORE/aupr_in" (own images are the positives) and
        "SCORE/aupr_out" (the foreign images are, by the negative score), from 0 to 1.
    """
    measured: dict[str, float] = {}
    for name, score in SCORES.items():
        familiar, others = score(own), score(foreign)
        measured |= {
            f"{name}/auroc": auroc(familiar, others),
            f"{name}/fpr95": false_positives(familiar, others, 0.95),
            f"{name}/aupr_in": average_precision(familiar, others),
            f"{name}/aupr_out": average_precision(-others, -familiar),
        }
    return measured
