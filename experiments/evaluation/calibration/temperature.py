"""Temperature scaling: the one number that logits are divided by, fitted on validation data.

Guo et al. 2017, section 4.2. It changes no prediction, only how sure of it the model is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

LOWEST, HIGHEST = 0.05, 20.0
PART = 2**16
"""Logits that are worked on at once."""


@dataclass(frozen=True)
class Temperature:
    """A fitted temperature; above 1 where the model was over-confident.

    end: None for an optimum; "lowest" or "highest" where the likelihood goes on rising there, so
    that the value is the bound (no error on the validation split: "lowest"); "any" where no
    temperature changes anything (all logits of each sample equal), and the value is 1.
    error: the standard error of log(value), from the spread of the samples' scores; None without an
    optimum.
    """

    value: float
    end: Literal["lowest", "highest", "any"] | None = None
    error: float | None = None


def fit(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    lowest: float = LOWEST,
    highest: float = HIGHEST,
) -> Temperature:
    """The temperature T with the least NLL of `labels` under logits / T.

    The NLL is convex in 1/T, so its derivative has one root, which is bracketed in log T (Brent),
    in float64. Guo's code takes 50 steps of LBFGS from T = 1.5, without bounds, which need not end
    at the optimum, nor above 0.

    Args:
        logits: (N,K), finite, of the validation split.
        labels: (N,), N at least 1.
        lowest: The smallest T.
        highest: The largest T.

    Examples:
        >>> logits = np.array([[2.0, 0.0], [2.0, 0.0], [2.0, 0.0], [2.0, 0.0]])
        >>> fitted = fit(logits, np.array([0, 0, 0, 1]))
        >>> round(fitted.value, 4), round(2 / np.log(3), 4)
        (1.8205, np.float64(1.8205))
    """
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    true_logit = wide[np.arange(len(labels)), labels]
    if not wide.any():
        return Temperature(1.0, "any")

    def slope(log_temperature: float) -> float:
        """Derivative of the NLL by 1/T: above 0 where the logits are too sharp."""
        parts = _weighted(wide, math.exp(-log_temperature))
        return float((np.concatenate([mean for _, _, mean in parts]) - true_logit).mean())

    ends = math.log(lowest), math.log(highest)
    # Without an error the slope is below 0 everywhere, and may underflow to 0.
    if slope(ends[0]) <= 0:
        return Temperature(lowest, "lowest")
    if slope(ends[1]) >= 0:
        return Temperature(highest, "highest")
    root = brentq(slope, *ends, xtol=1e-12, rtol=1e-14)
    return Temperature(math.exp(root), None, _error(wide, true_logit, math.exp(-root)))


def _weighted(
    wide: NDArray[np.float64], inverse: float
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]]:
    """Rows of logits (at most 0), their probabilities and the mean logit by these, in parts.

    In parts that a cache holds: with a thousand classes the whole is hundreds of megabytes.
    """
    rows = max(1, PART // wide.shape[1])
    for first in range(0, len(wide), rows):
        part = wide[first : first + rows]
        # Not scipy's softmax: the largest logit is 0 already.
        probability = np.exp(part * inverse)
        probability /= probability.sum(axis=1, keepdims=True)
        yield part, probability, np.einsum("nk,nk->n", probability, part)


def _error(
    wide: NDArray[np.float64], true_logit: NDArray[np.float64], inverse: float
) -> float | None:
    """Standard error of log T at the optimum (White 1982: right for a model that is not, too)."""
    information = squares = 0.0
    first = 0
    for part, probability, mean in _weighted(wide, inverse):
        information += float((probability * (part - mean[:, None]) ** 2).sum())
        squares += float(((mean - true_logit[first : first + len(part)]) ** 2).sum())
        first += len(part)
    return math.sqrt(squares) / information / inverse if information > 0 else None
