"""Overfitting: how much better the network is on its training images than on the test set.

The training images are clean here: neither mixed nor cropped nor mirrored. Accuracy during training
does not show overfitting, because mixed images are harder than clean ones.
"""

from __future__ import annotations

import math

from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.metrics import accuracy, nll
from mixbench.experiments.evaluation.overfitting import OverfittingSettings
from mixbench.experiments.evaluation.predict import score


def measure(subject: Subject, settings: OverfittingSettings) -> Measured:
    """Accuracy and NLL on clean training images, and their gaps to the test set.

    Metrics: `overfitting/train/accuracy`, `overfitting/train/nll`, `overfitting/gap` (train - test
    accuracy), `overfitting/nll_gap` (test - train NLL); gaps above 0 are overfitting. All training
    images give the `train/accuracy` and `train/nll` of a run's result. None where logits are not
    finite.

    Args:
        subject: The network and its data.
        settings: How many training images.

    Returns:
        Accuracies from 0 to 1, NLL in nats.
    """
    # Not subject.logits: of a million images with a thousand classes they would take 4 GB.
    train = score(
        subject.network,
        subject.images(subset(subject.split("train"), settings.images, settings.seed)),
    )
    logits, labels = subject.logits("test")
    loss = nll(logits, labels)
    # Who is right is told by the largest logit, and there is none where some are no numbers.
    known = math.isfinite(loss) and math.isfinite(train["nll"])
    metrics = {
        "train/accuracy": train["accuracy"],
        "train/nll": train["nll"],
        "gap": train["accuracy"] - accuracy(logits, labels),
        "nll_gap": loss - train["nll"],
    }
    return Measured({f"overfitting/{k}": v if known else None for k, v in metrics.items()})
