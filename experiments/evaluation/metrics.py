"""Accuracy and calibration from logits: accuracy, NLL, Brier score, ECE and its signed gap.

Shapes: logits (N,K) float, probabilities (N,K) float64, labels (N,) int, N at least 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.evaluation.calibration.binning import equal_width


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax in double precision.

    Args:
        logits: (N,K), finite.

    Returns:
        (N,K) float64; rows sum to 1.

    Examples:
        >>> probabilities(np.array([[0.0, 0.0], [1000.0, 0.0]]))
        array([[0.5, 0.5],
               [1. , 0. ]])
    """
    from scipy.special import softmax

    probability: NDArray[np.float64] = softmax(logits.astype(np.float64), axis=1)
    return probability


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Share of samples whose largest logit is the label's, from 0 to 1.

    Args:
        logits: (N,K).
        labels: (N,).

    Examples:
        >>> accuracy(np.array([[2.0, 1.0], [0.0, 3.0]]), np.array([0, 0]))
        0.5
    """
    return float((logits.argmax(axis=1) == labels).mean())


def balanced_accuracy(predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> float:
    """Mean over the classes of the labels of the share that is recognised, from 0 to 1.

    Args:
        predicted: (N,), classes.
        labels: (N,).

    Examples:
        >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 2]))
        0.5
    """
    hits, _, wanted = _counts(predicted, labels)
    there = wanted > 0
    return float((hits[there] / wanted[there]).mean())


def macro_f1(predicted: NDArray[np.integer], labels: NDArray[np.integer]) -> float:
    """Mean of the F1 score over the classes that are among the labels or predicted, from 0 to 1.

    Args:
        predicted: (N,), classes.
        labels: (N,).

    Examples:
        >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])) == (1 + 2 / 3 + 0) / 3
        True
    """
    hits, given, wanted = _counts(predicted, labels)
    there = given + wanted > 0
    return float((2 * hits[there] / (given + wanted)[there]).mean())


def _counts(
    predicted: NDArray[np.integer], labels: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return how often each class is recognised, predicted, and among the labels."""
    classes = int(max(predicted.max(), labels.max())) + 1
    hits = labels[predicted == labels]
    right, given, wanted = (np.bincount(x, minlength=classes) for x in (hits, predicted, labels))
    return right, given, wanted


def nll(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean negative log-likelihood of the labels, in nats; finite for any finite logits.

    Args:
        logits: (N,K).
        labels: (N,).

    Examples:
        >>> round(nll(np.array([[0.0, 0.0]]), np.array([1])), 4)
        0.6931
    """
    return float(losses(logits, labels).mean())


def losses(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The negative log-likelihood of each label, in nats.

    Not by scipy's logsumexp: it differs in the last digit from what older runs have stored.

    Args:
        logits: (N,K).
        labels: (N,).

    Returns:
        (N,) float64, at least 0.
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    normaliser: NDArray[np.float64] = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    losses: NDArray[np.float64] = normaliser - wide[np.arange(len(labels)), labels]
    return losses


def brier(probability: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Brier score: the mean over samples of the squared error summed over classes.

    Brier 1950, "Verification of forecasts expressed in terms of probability", equation 2.

    Args:
        probability: (N,K).
        labels: (N,).

    Returns:
        From 0, the best, to 2.

    Examples:
        >>> brier(np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
        1.0
    """
    error = probability.copy()
    error[np.arange(len(labels)), labels] -= 1.0
    return float((error**2).sum(axis=1).mean())


def reliability(
    probability: NDArray[np.float64], labels: NDArray[np.integer], bins: int
) -> dict[str, list[Any]]:
    """Confidence and accuracy in equal-width bins of confidence, as in `binning.equal_width`.

    Args:
        probability: (N,K).
        labels: (N,).
        bins: Their number M.

    Returns:
        `edges` (M+1), `count`, mean `confidence` and `accuracy` (M each; None in empty bins).
    """
    confidence = probability.max(axis=1)
    correct = probability.argmax(axis=1) == labels
    edges = np.linspace(0.0, 1.0, bins + 1)
    index = equal_width(confidence, bins)
    count = np.bincount(index, minlength=bins)
    sums = (
        np.bincount(index, weights=confidence, minlength=bins),
        np.bincount(index, weights=correct, minlength=bins),
    )
    means = [[float(s / n) if n else None for s, n in zip(t, count, strict=True)] for t in sums]
    return {
        "edges": edges.tolist(),
        "count": count.tolist(),
        "confidence": means[0],
        "accuracy": means[1],
    }


def ece(diagram: dict[str, list[Any]]) -> float:
    """Expected calibration error: the mean of |accuracy - confidence| over bins, by count.

    Top label, equal width (Guo et al. 2017, equation 3). A perfectly calibrated model does not
    score 0 but about 0.005 on 10,000 samples.

    Args:
        diagram: As of `reliability`.

    Returns:
        From 0 to 1.

    Examples:
        >>> ece({"count": [1, 3], "accuracy": [0.0, 1.0], "confidence": [0.25, 0.75]})
        0.25
    """
    total: int = sum(diagram["count"])
    error = 0.0
    rows = zip(diagram["count"], diagram["accuracy"], diagram["confidence"], strict=True)
    for count, hit, sure in rows:
        if count:
            error += count / total * abs(hit - sure)
    return error


def measure(
    logits: NDArray[np.floating], labels: NDArray[np.integer], bins: int
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """The metrics of a split: accuracy, nll, brier, ece, gap, balanced_accuracy and macro_f1.

    Args:
        logits: (N,K).
        labels: (N,).
        bins: For `ece`.

    Returns:
        The metrics by name, and the data of `reliability`. `gap` is the mean confidence minus the
        accuracy: above 0 is over-confident.
    """
    probability = probabilities(logits)
    diagram = reliability(probability, labels, bins)
    hit = accuracy(logits, labels)
    predicted = logits.argmax(axis=1)
    metrics = {
        "accuracy": hit,
        "nll": nll(logits, labels),
        "brier": brier(probability, labels),
        "ece": ece(diagram),
        "gap": float(probability.max(axis=1).mean()) - hit,
        "balanced_accuracy": balanced_accuracy(predicted, labels),
        "macro_f1": macro_f1(predicted, labels),
    }
    return metrics, diagram
