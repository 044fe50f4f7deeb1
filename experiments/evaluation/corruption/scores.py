"""Accuracy and calibration by corruption and severity, without keeping all logits."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.evaluation import metrics
from mixbench.experiments.evaluation.calibration import errors
from mixbench.experiments.evaluation.calibration.binning import binned, equal_mass, equal_width

KINDS = ("", "scaled/")
"""As trained, and with logits divided by the temperature that was fitted on clean images."""
NAMES = ("debiased", "nll", "gap", "ece", "ece_by_chance")
Key = tuple[str, int]
"""A corruption and its severity; 0 is the clean images, under any name."""


class Scores:
    """What is kept of each image: whether it was right, its confidence and loss.

    Args:
        temperature: Of the network; None where there is none.
        bins: Of the calibration errors.
    """

    def __init__(self, temperature: float | None, bins: int) -> None:
        self._scales = {"": 1.0} | ({"scaled/": temperature} if temperature else {})
        self._bins = bins
        self._right: defaultdict[Key, list[NDArray[np.bool_]]] = defaultdict(list)
        self._sure: defaultdict[tuple[str, Key], list[NDArray[np.float64]]] = defaultdict(list)
        self._loss: defaultdict[tuple[str, Key], float] = defaultdict(float)

    def add(self, key: Key, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
        """Add images: logits (B,K), labels (B,)."""
        top = logits.argmax(axis=1)
        self._right[key].append(top == labels)
        for kind, temperature in self._scales.items():
            scaled = logits.astype(np.float64) / temperature
            with np.errstate(invalid="ignore"):
                chances = metrics.probabilities(scaled)
                losses = metrics.losses(scaled, labels)
            self._sure[kind, key].append(chances[np.arange(len(top)), top])
            self._loss[kind, key] += float(losses.sum())

    def images(self, key: Key) -> int:
        """How many were added."""
        return sum(map(len, self._right[key]))

    def accuracy(self, key: Key) -> float:
        """From 0 to 1."""
        return float(np.concatenate(self._right[key]).mean())

    def calibration(self, key: Key) -> dict[str, float | None]:
        """Calibration errors, as in `calibration/errors.py`; of `debiased` the square.

        Returns:
            KIND + NAME -> value; None where logits are not finite, or there is no temperature.
        """
        right = np.concatenate(self._right[key])
        values: dict[str, float | None] = {
            f"{kind}{name}": None for kind in KINDS for name in NAMES
        }
        for kind in self._scales:
            sure = np.concatenate(self._sure[kind, key])
            if not np.isfinite(sure).all():
                continue
            width = binned(sure, right, equal_width(sure, self._bins), self._bins)
            mass = binned(sure, right, equal_mass(sure, self._bins), self._bins)
            values |= {
                f"{kind}debiased": errors.debiased_square(mass),
                f"{kind}nll": self._loss[kind, key] / len(right),
                f"{kind}gap": errors.gap(sure, right),
                f"{kind}ece": errors.expected(width),
                f"{kind}ece_by_chance": errors.expected_by_chance(width),
            }
        return values


def mean_calibration(
    found: Sequence[Mapping[str, float | None]],
) -> dict[str, float | None]:
    """The mean over corruptions and severities; of `debiased` the root of the mean square.

    Single squares may be below 0, and their mean is unbiased.

    Args:
        found: What `Scores.calibration` gives; at least one.
    """
    means: dict[str, float | None] = {}
    for name in found[0]:
        values = [one[name] for one in found]
        numbers = [value for value in values if value is not None]
        mean = sum(numbers) / len(numbers) if len(numbers) == len(values) else None
        if mean is not None and name.endswith("debiased"):
            mean = math.sqrt(max(mean, 0.0))
        means[name] = mean
    return means
