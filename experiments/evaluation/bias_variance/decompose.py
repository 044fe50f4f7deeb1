"""Split the error of several networks into bias and variance, for three losses.

The main prediction is what the networks say together: for the 0/1 loss the class that most of them
predict (Domingos 2000), for the NLL the normalised geometric mean of their probabilities (Heskes
1998), for the Brier score the mean. Bias is the loss of the main prediction, and has the noise of
the labels in it; variance is how far the networks are from the main prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

PARTS = (
    "zero_one/bias",
    "zero_one/variance",
    "zero_one/net_variance",
    "log/bias",
    "log/variance",
    "brier/bias",
    "brier/variance",
)
CHUNK = 4096
"""Images at a time: all at once would need much memory where there are many classes."""


def decompose(
    logits: Sequence[NDArray[np.floating]], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Bias and variance of all networks, and without each of them.

    For each image `log/bias` + `log/variance` is the mean NLL of the networks, `brier/bias` +
    `brier/variance` their mean Brier score, and `zero_one/bias` + `zero_one/net_variance` their
    error: variance is not only harmful for the 0/1 loss, because where the main prediction is wrong
    it makes some of the networks right.

    Args:
        logits: Of each network, (N,K) finite.
        labels: (N,).

    Returns:
        The means over images of PARTS, of all networks (P,) and without each of them (R,P); and the
        standard errors of the former over images (P,).
    """
    runs, images = len(logits), len(labels)
    sums, squares = np.zeros((runs + 1, len(PARTS))), np.zeros(len(PARTS))
    for start in range(0, images, CHUNK):
        part = slice(start, start + CHUNK)
        log_p = log_softmax(np.stack([one[part] for one in logits]).astype(np.float64), axis=2)
        of_all, without = _parts(log_p, labels[part])
        sums[0] += of_all.sum(axis=1)
        sums[1:] += without
        squares += np.square(of_all).sum(axis=1)
    means = sums / images
    spread = np.maximum(squares / images - means[0] ** 2, 0)
    return means[0], means[1:], np.sqrt(spread / max(1, images - 1))


def pseudo_values(of_all: NDArray[np.float64], without: NDArray[np.float64]) -> NDArray[np.float64]:
    """The jackknife's pseudo-values (Tukey 1958): R · all - (R - 1) · without one.

    Their mean is the estimate without the bias of few runs, as far as it falls with 1/R: the
    main prediction of few networks varies itself. Their spread gives its interval.

    Args:
        of_all: (P,).
        without: (R,P), R at least 2.

    Returns:
        (R,P).
    """
    runs = len(without)
    return runs * of_all - (runs - 1) * without


def _parts(
    log_p: NDArray[np.float64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """PARTS by image of all networks (P,n), and their sums without each of them (R,P)."""
    runs, _, classes = log_p.shape
    p = np.exp(log_p)
    votes = np.eye(classes)[log_p.argmax(axis=2)]
    total = log_p.sum(axis=0), p.sum(axis=0), np.square(p).sum(axis=0), votes.sum(axis=0)
    of_all = _of([one / runs for one in total], labels)
    without = np.zeros((runs, len(PARTS)))
    if runs > 1:
        for run in range(runs):
            own = log_p[run], p[run], np.square(p[run]), votes[run]
            rest = [(of - one) / (runs - 1) for of, one in zip(total, own, strict=True)]
            without[run] = _of(rest, labels).sum(axis=1)
    return of_all, without


def _of(means: Sequence[NDArray[np.float64]], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    """PARTS by image (P,n).

    means: over networks, (n,K) each, of log p, p, p² and votes.
    """
    log_p, p, squared, votes = means
    rows = np.arange(len(labels))
    # Less than a vote, so that it decides between classes with as many votes alone.
    main = (votes + 1e-6 * p).argmax(axis=1)
    is_wrong = (main != labels).astype(np.float64)
    log_normaliser = logsumexp(log_p, axis=1)
    return np.stack(
        [
            is_wrong,
            1 - votes[rows, main],
            1 - votes[rows, labels] - is_wrong,
            log_normaliser - log_p[rows, labels],
            # Σ q (log q - log p) with log q = log p - log_normaliser, log p the mean over networks.
            -log_normaliser,
            np.square(p).sum(axis=1) - 2 * p[rows, labels] + 1,
            (squared - np.square(p)).sum(axis=1),
        ]
    )
