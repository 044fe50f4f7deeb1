"""Accuracy and calibration from logits: accuracy, NLL, Brier, ECE with its signed gap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.evaluation.calibration.binning import equal_width


def probabilities(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Softmax in double precision: (N, K)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return exponential / exponential.sum(axis=1, keepdims=True)


def accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Fraction of samples whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())


def nll(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Mean negative log-likelihood of the labels, in nats, finite for any finite logits."""
    return float(losses(logits, labels).mean())


def losses(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """The negative log-likelihood of each label, in nats: (N,)."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    normaliser = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return normaliser - wide[np.arange(len(labels)), labels]


def brier(probability: NDArray[np.float64], labels: NDArray[np.integer]) -> float:
    """Mean over samples of the squared error summed over classes: 0 is best, 2 worst."""
    error = probability.copy()
    error[np.arange(len(labels)), labels] -= 1.0
    return float((error**2).sum(axis=1).mean())


def reliability(
    probability: NDArray[np.float64], labels: NDArray[np.integer], bins: int
) -> dict[str, list[Any]]:
    """Confidence and accuracy in equal-width bins of confidence, ((m-1)/M, m/M].

    The first bin also takes confidence 0, and confidence 1 belongs to the last. Returns `edges`
    (M+1), `count`, `confidence` and `accuracy` (M each, None in empty bins).
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

    Top-label, equal width (Guo et al. 2017, equation 3). A perfectly calibrated model does not
    score 0 but about 0.005 on 10,000 samples.
    """
    total = sum(diagram["count"])
    return sum(
        count / total * abs(hit - sure)
        for count, hit, sure in zip(
            diagram["count"], diagram["accuracy"], diagram["confidence"], strict=True
        )
        if count
    )


def measure(
    logits: NDArray[np.floating], labels: NDArray[np.integer], bins: int
) -> tuple[dict[str, float], dict[str, list[Any]]]:
    """accuracy, nll, brier, ece and gap (mean confidence - accuracy), and the reliability data.

    A positive gap is over-confidence. logits: (N, K), labels: (N,), N at least 1.
    """
    probability = probabilities(logits)
    diagram = reliability(probability, labels, bins)
    hit = accuracy(logits, labels)
    metrics = {
        "accuracy": hit,
        "nll": nll(logits, labels),
        "brier": brier(probability, labels),
        "ece": ece(diagram),
        "gap": float(probability.max(axis=1).mean()) - hit,
    }
    return metrics, diagram
