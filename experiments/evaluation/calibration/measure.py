"""Calibration: errors of many kinds, as trained and mended after training, from logits alone.

What every run measures right after its training is `metrics.measure`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.evaluation import metrics as scores
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.calibration import CalibrationSettings, intervals, vector
from mixbench.experiments.evaluation.calibration import errors as calibration_errors
from mixbench.experiments.evaluation.calibration.binning import (
    binned,
    diagram,
    equal_mass,
    equal_width,
)
from mixbench.experiments.evaluation.calibration.temperature import fit

NAMES = (
    "gap",
    "ece",
    "ece_by_chance",
    "ece_equal_mass",
    "ece_classwise",
    "debiased_squared",
    "debiased",
    "overconfidence",
    "mce",
    "ks",
    "brier",
    "nll",
)
INTERVALS = ("debiased_low", "debiased_high", "ece_unbiased", "ece_low", "ece_high")
KINDS = ("", "scaled/", "vector/")
"""As trained, with temperature scaling, and with vector scaling."""


def measure(subject: Subject, settings: CalibrationSettings) -> Measured:
    """Calibration of the test set, as trained and mended with the validation split.

    Temperature and vector scaling are fitted on the validation split; test labels play no part.

    Metrics: `calibration/NAME`, `calibration/scaled/NAME` and `calibration/vector/NAME` for the
    `NAMES` of `errors` and the `INTERVALS` over test images; `calibration/vector/accuracy`, as
    vector scaling may change predictions; `calibration/temperature`, its `temperature_error`
    (standard error of its logarithm) and `temperature_bounded` (1 where it is a bound or arbitrary,
    and no optimum). None where logits are not finite. Curves: `bins`, `temperature`, `vector` and,
    `before` and `after` temperature scaling, the reliability data of bins of equal `width` and of
    equal `mass` (`binning.diagram`).

    Args:
        subject: The network and its data.
        settings: Bins and bounds.

    Returns:
        Errors as fractions, NLL in nats.
    """
    bins = settings.bins or subject.config.evaluation.ece_bins
    metrics: dict[str, float | None] = {
        f"calibration/{kind}{name}": None for kind in KINDS for name in (*NAMES, *INTERVALS)
    }
    metrics |= {f"calibration/temperature{what}": None for what in ("", "_error", "_bounded")}
    metrics["calibration/vector/accuracy"] = None
    curves: dict[str, Any] = {"bins": bins}

    logits, labels = subject.logits("test")
    if not np.isfinite(logits).all():
        return Measured(metrics, curves)
    metrics |= _named("", logits, labels, bins)
    curves["before"] = errors(logits, labels, bins)[1]

    known, truth = subject.logits("validation")
    if not np.isfinite(known).all():
        return Measured(metrics, curves)
    fitted = fit(known, truth, settings.lowest_temperature, settings.highest_temperature)
    curves["temperature"] = {
        "value": fitted.value,
        "end": fitted.end,
        "error": fitted.error,
        "images": len(truth),
    }
    scaled = logits.astype(np.float64) / fitted.value
    metrics |= _named("scaled/", scaled, labels, bins)
    curves["after"] = errors(scaled, labels, bins)[1]
    mended = vector.fit(known, truth, fitted.value)
    curves["vector"] = {
        "factor": mended.factor.tolist(),
        "offset": mended.offset.tolist(),
        "strength": mended.strength,
    }
    metrics |= _named("vector/", mended.apply(logits), labels, bins)
    metrics["calibration/vector/accuracy"] = scores.accuracy(mended.apply(logits), labels)
    metrics["calibration/temperature"] = fitted.value
    metrics["calibration/temperature_error"] = fitted.error
    metrics["calibration/temperature_bounded"] = float(fitted.end is not None)
    return Measured(metrics, curves)


def _named(
    kind: str, logits: NDArray[np.floating], labels: NDArray[np.integer], bins: int
) -> dict[str, float]:
    """Metrics of one of `KINDS`: errors and intervals."""
    values = errors(logits, labels, bins)[0]
    probability = scores.probabilities(logits)
    top = logits.argmax(axis=1)
    confidence, correct = probability[np.arange(len(top)), top], top == labels
    mass = equal_mass(confidence, bins)
    width = binned(confidence, correct, equal_width(confidence, bins), bins)
    ends = intervals.debiased(confidence, correct, mass, bins) + intervals.expected(width)
    values |= dict(zip(INTERVALS, ends, strict=True))
    return {f"calibration/{kind}{name}": value for name, value in values.items()}


def errors(
    logits: NDArray[np.floating], labels: NDArray[np.integer], bins: int
) -> tuple[dict[str, float], dict[str, Any]]:
    """All calibration errors, and the reliability data of bins of equal `width` and `mass`.

    `ece`, `ece_by_chance`, `overconfidence` and `mce` are of bins of equal width; `ece_equal_mass`
    and `debiased_squared` of equal mass, as in Kumar's code; `debiased` is the root of the latter,
    0 where that is negative. Formulas and sources: `calibration/errors.py`.

    Args:
        logits: (N,K), finite; N at least 1.
        labels: (N,) int.
        bins: Their number M.

    Returns:
        The `NAMES` with their values, and "width" and "mass" with what `binning.diagram` gives.
    """
    probability = scores.probabilities(logits)
    # Of the logits, as `scores.accuracy`: where two probabilities round to one, a temperature
    # would change who is right.
    top = logits.argmax(axis=1)
    confidence, correct = probability[np.arange(len(top)), top], top == labels
    index = {"width": equal_width(confidence, bins), "mass": equal_mass(confidence, bins)}
    width, mass = (binned(confidence, correct, of, bins) for of in index.values())
    square = calibration_errors.debiased_square(mass)
    values = {
        "gap": calibration_errors.gap(confidence, correct),
        "ece": calibration_errors.expected(width),
        "ece_by_chance": calibration_errors.expected_by_chance(width),
        "ece_equal_mass": calibration_errors.expected(mass),
        "ece_classwise": calibration_errors.classwise(probability, labels, bins),
        "debiased_squared": square,
        "debiased": math.sqrt(max(square, 0.0)),
        "overconfidence": calibration_errors.overconfidence(width),
        "mce": calibration_errors.greatest(width),
        "ks": calibration_errors.kolmogorov_smirnov(confidence, correct),
        "brier": scores.brier(probability, labels),
        "nll": scores.nll(logits, labels),
    }
    return values, {kind: diagram(confidence, correct, of, bins) for kind, of in index.items()}
