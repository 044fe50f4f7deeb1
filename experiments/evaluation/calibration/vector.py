"""Vector scaling: a factor and an offset for the logit of each class, fitted on validation data.

Guo et al. 2017, section 4.2. With few images it overfits, so the fit is drawn towards temperature
scaling, as strongly as cross-validation within the validation split says. Unlike a temperature it
may change predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
FOLDS = 5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VectorScaling:
    """Logits z become factor · z + offset.

    Attributes:
        factor: (K,).
        offset: (K,).
        strength: Of the penalty that was chosen.
    """

    factor: Floats
    offset: Floats
    strength: float

    def apply(self, logits: NDArray[np.floating]) -> Floats:
        """Scale logits (N,K)."""
        scaled: Floats = logits.astype(np.float64) * self.factor + self.offset
        return scaled


def fit(
    logits: NDArray[np.floating], labels: NDArray[np.integer], temperature: float
) -> VectorScaling:
    """The factors and offsets with the least NLL and penalty.

    The penalty is strength · (the sum of squares of factor · temperature - 1 and of offset), so
    that its limit is temperature scaling. The strength with the least NLL of images left out, of
    five parts in turn, is taken; which part an image is in depends on its index alone.

    Args:
        logits: (N,K), finite, of the validation split.
        labels: (N,), N at least 1.
        temperature: As of `temperature.fit` on the same images.

    Examples:
        >>> draw = np.random.default_rng(0)
        >>> labels = draw.integers(2, size=2000)
        >>> logits = np.eye(2)[labels] + draw.normal(size=(2000, 2)) + np.array([0.0, 3.0])
        >>> found = fit(logits, labels, 1.0)
        >>> bool(np.diff(found.offset)[0] < -2)
        True
    """
    wide = logits.astype(np.float64) / temperature
    folds = min(FOLDS, len(labels))
    part = np.random.default_rng(0).permutation(len(labels)) % folds
    losses = np.zeros(len(STRENGTHS))
    for left_out in range(folds if folds > 1 else 0):
        trained, tested = part != left_out, part == left_out
        start = np.zeros(2 * wide.shape[1])
        for number, strength in enumerate(STRENGTHS):
            start = _minimum(wide[trained], labels[trained], strength, start)
            losses[number] += _loss(wide[tested], labels[tested], start) * tested.sum()
    strength = STRENGTHS[int(losses.argmin())]
    change, offset = np.split(_minimum(wide, labels, strength, np.zeros(2 * wide.shape[1])), 2)
    return VectorScaling((1 + change) / temperature, offset, strength)


def _minimum(wide: Floats, labels: NDArray[np.integer], strength: float, start: Floats) -> Floats:
    """Changes of the factors and offsets, in one row."""
    one_hot = np.eye(wide.shape[1])[labels]

    def objective(values: Floats) -> tuple[float, Floats]:
        change, offset = np.split(values, 2)
        logs = log_softmax(wide * (1 + change) + offset, axis=1)
        error = (np.exp(logs) - one_hot) / len(labels)
        slope = np.concatenate([(error * wide).sum(axis=0), error.sum(axis=0)])
        loss = -logs[one_hot.astype(bool)].mean() + strength * (values @ values)
        return float(loss), slope + 2 * strength * values

    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    values: Floats = found.x
    return values


def _loss(wide: Floats, labels: NDArray[np.integer], values: Floats) -> float:
    change, offset = np.split(values, 2)
    logs = log_softmax(wide * (1 + change) + offset, axis=1)
    return float(-logs[np.arange(len(labels)), labels].mean())
