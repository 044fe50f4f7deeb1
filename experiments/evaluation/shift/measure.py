"""Shift: whether a network is less confident on images of another data set than on its own.

The score is the largest probability (Hendrycks and Gimpel 2017, "A Baseline for Detecting
Misclassified and Out-of-Distribution Examples in Neural Networks"). Images are ranked by the log
odds of that class: the same order, but probabilities that round to 1 stay apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load_once
from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.corruption.weather import grey
from mixbench.experiments.evaluation.predict import logits_of
from mixbench.experiments.evaluation.shift import ShiftSettings

DEFAULTS = {
    "fashion_mnist": "digits",
    "digits": "fashion_mnist",
    "cifar10": "svhn",
    "cifar100": "svhn",
    "stl10": "svhn",
    "svhn": "cifar10",
}
"""The other data set where none is named, with as many channels; for folders it is cifar10."""
FOLDERS = "cifar10"

BINS = 20
POINTS = 101
Scores = NDArray[np.float64]


def measure(subject: Subject, settings: ShiftSettings) -> Measured:
    """How well confidence tells the test set from `settings.images` of another data set.

    The foreign images are resized to the network's; grey ones are repeated in three channels, and
    colours become their luminance. They are normalised like the network's own.

    Metrics: `shift/auroc` (chance that an own image gets more confidence than a foreign one; 0.5 is
    no better than guessing), `shift/fpr95` (share of foreign images above the confidence that 95 %
    of the own reach), `shift/confidence` (mean, on the foreign images) and `shift/own_confidence`.
    None where logits are not finite. Curves: `dataset`, its `size` and `channels` and the
    network's (`own_size`, `own_channels`), `resized`; the ROC curve; histograms of confidence.

    Args:
        subject: The network and its data.
        settings: The other data set and how many of its images.

    Returns:
        Shares, chances and probabilities from 0 to 1.

    Raises:
        UserError: The other data set is the run's own, or has channels that can't be compared.
    """
    channels, height, _ = subject.dataset.shape
    facts = other_dataset(settings, subject.dataset.name, channels)
    name = facts.name
    foreign = subset(_foreign(name, height, subject.device).test, settings.images, settings.seed)
    batches = (
        (subject.normalised(as_channels(pixels, channels)), labels)
        for pixels, labels in subject.pixels(foreign)
    )
    out = certainty(logits_of(subject.network, batches)[0])
    own_certainty = certainty(subject.logits("test")[0])
    described: dict[str, Any] = {
        "dataset": name,
        "images": len(out),
        "size": facts.size,
        "own_size": height,
        "resized": facts.size != height,
        "channels": facts.channels,
        "own_channels": channels,
    }
    metrics: dict[str, float | None] = dict.fromkeys(
        f"shift/{key}" for key in ("auroc", "fpr95", "confidence", "own_confidence")
    )
    if np.isnan(out).any() or np.isnan(own_certainty).any():
        return Measured(metrics, described)
    sure, own_confidence = confidence(out), confidence(own_certainty)
    metrics = {
        "shift/auroc": auroc(own_certainty, out),
        "shift/fpr95": false_positives(own_certainty, out, 0.95),
        "shift/confidence": float(sure.mean()),
        "shift/own_confidence": float(own_confidence.mean()),
    }
    shares = np.linspace(0, 1, POINTS)
    described["roc"] = {
        "true": shares.tolist(),
        "false": [false_positives(own_certainty, out, share) for share in shares],
    }
    edges = np.linspace(0, 1, BINS + 1)
    described["confidence"] = {
        "edges": edges.tolist(),
        "own": np.histogram(own_confidence, edges)[0].tolist(),
        "foreign": np.histogram(sure, edges)[0].tolist(),
    }
    return Measured(metrics, described)


def prepare(settings: ShiftSettings, dataset: DatasetConfig) -> None:
    """Fetch the other data set for runs on `dataset`.

    Args:
        settings: Which one.
        dataset: That of the runs.

    Raises:
        UserError: The data set in the settings can't be fetched or compared.
        Impossible: The default one can't be fetched.
    """
    name = other_dataset(settings, dataset.name, datasets.info(dataset.name).channels).name
    try:
        fetch.ensure(name)
    except UserError as error:
        if settings.dataset is not None:
            raise UserError(f"shift.dataset: {error}") from None
        raise Impossible(f"{error}; another one can be had with --set shift.dataset=NAME") from None


def other_dataset(settings: ShiftSettings, dataset: str, channels: int) -> DatasetInfo:
    """The other data set for a network.

    Args:
        settings: Which one.
        dataset: The run's own.
        channels: Those of the network's images.

    Raises:
        UserError: It is the run's own, or has channels that can't be compared.
    """
    name = settings.dataset or DEFAULTS.get(dataset, FOLDERS)
    if name == dataset:
        raise UserError(
            f"shift.dataset: got {name!r}, the data set of the run itself; expected another one"
        )
    facts = datasets.info(name)
    if channels != facts.channels and {channels, facts.channels} != {1, 3}:
        raise UserError(
            f"shift.dataset: {name} has {facts.channels} channels, expected {channels}, those of "
            f"{dataset}"
        )
    return facts


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


def as_channels(images: Tensor, channels: int) -> Tensor:
    """Convert images to another number of channels: repeat grey, or take the luminance.

    Args:
        images: (B,C,H,W).
        channels: 1 or 3, or as the images have.

    Returns:
        (B,channels,H,W).
    """
    if images.shape[1] == channels:
        return images
    return grey(images) if channels == 1 else images.expand(-1, channels, -1, -1)


def _foreign(name: str, size: int, device: torch.device) -> Dataset:
    """Load a data set with images of that size, and as few training images as it allows."""
    facts = datasets.info(name)
    few = 20 * (facts.classes or 1)
    few = min(few, facts.train) if facts.train else few
    return load_once(DatasetConfig(name=name, train_size=few, image_size=size), str(device))
