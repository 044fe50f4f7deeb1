"""Shift: whether a network is less confident on images of other data sets than on its own.

Three kinds of foreign images stand side by side: those of a `far` data set, of a `near` one, and
of the classes that were left out of training, which are the nearest. Of each, three scores are
tried (`detection`): the largest probability (Hendrycks and Gimpel 2017, "A Baseline for Detecting
Misclassified and Out-of-Distribution Examples in Neural Networks"), ranked by its log odds, which
is the same order but keeps probabilities apart that round to 1; the largest logit; and the energy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.config import datasets
from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load_once
from mixbench.experiments.data.split import Split
from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation.base import Measured, Subject, subset
from mixbench.experiments.evaluation.corruption.weather import grey
from mixbench.experiments.evaluation.predict import logits_of
from mixbench.experiments.evaluation.shift import NONE, ShiftSettings
from mixbench.experiments.evaluation.shift.detection import (
    Scores,
    certainty,
    confidence,
    detection,
    false_positives,
)

DEFAULTS = {
    "fashion_mnist": "digits",
    "mnist_5k": "fashion_mnist",
    "digits": "fashion_mnist",
    "cifar10": "svhn",
    "cifar100": "svhn",
    "stl10": "svhn",
    "svhn": "cifar10",
    "klettres": "fashion_mnist",
}
"""The far data set where none is named, with as many channels; for folders it is cifar10."""
FOLDERS = "cifar10"

NEAR = {
    "fashion_mnist": "mnist_5k",
    "cifar10": "cifar100",
    "cifar100": "cifar10",
    "stl10": "cifar100",
}
"""The near data set where none is named: as large, with as many channels, of the same kind.

Those of CIFAR-10 and CIFAR-100 are of OpenOOD (Yang et al. 2022); the others follow them.
"""

BINS = 20
POINTS = 101
Logits = NDArray[np.float32]


def measure(subject: Subject, settings: ShiftSettings) -> Measured:
    """How well scores tell the test set from `settings.images` of other data sets.

    The foreign images are resized to the network's; grey ones are repeated in three channels, and
    colours become their luminance. They are normalised like the network's own.

    Metrics: `shift/KIND/SCORE/auroc`, `/fpr95`, `/aupr_in` and `/aupr_out` as of `detection`, where
    KIND is `far`, `near` or `left_out`, as far as there are such images, and SCORE `confidence`,
    `max_logit` or `energy`. `shift/auroc` (chance that an own image gets more confidence than one
    of the far data set; 0.5 is no better than guessing) and `shift/fpr95` (share of its images
    above the confidence that 95 % of the own reach) are those of `far/confidence`;
    `shift/confidence` is the mean on its images, `shift/own_confidence` that on the own. None where
    logits are not finite. Curves: of the far data set its name (`dataset`), `size` and `channels`
    and the network's (`own_size`, `own_channels`), `resized`, the ROC curve, histograms of
    confidence; `sets`: name and number of images of each kind, 0 where the
    near data set is not on this machine.

    Args:
        subject: The network and its data.
        settings: The other data sets and how many of their images.

    Returns:
        Shares, chances and probabilities from 0 to 1.

    Raises:
        UserError: Another data set is the run's own, or has channels that can't be compared.
    """
    channels, height, _ = subject.dataset.shape
    own = subject.logits("test")[0]
    metrics: dict[str, float | None] = dict.fromkeys(
        f"shift/{key}" for key in ("auroc", "fpr95", "confidence", "own_confidence")
    )
    facts = other_dataset(settings, subject.dataset.name, channels)
    far = _logits(subject, _foreign(facts.name, subject).test, settings)
    curves: dict[str, Any] = {
        "dataset": facts.name,
        "images": len(far),
        "size": facts.size,
        "own_size": height,
        "resized": facts.size != height,
        "channels": facts.channels,
        "own_channels": channels,
        "own_images": len(own),
    }
    groups = {"far": (facts.name, far), **_nearer(subject, settings)}
    curves["sets"] = {
        kind: {"dataset": name, "images": len(logits)} for kind, (name, logits) in groups.items()
    }
    near = near_dataset(settings, subject.dataset.name, channels)
    if near is not None and "near" not in groups:
        curves["sets"]["near"] = {"dataset": near.name, "images": 0}
    for kind, (_, logits) in groups.items():
        metrics |= {f"shift/{kind}/{key}": value for key, value in _detected(own, logits).items()}
    out, own_certainty = certainty(far), certainty(own)
    if np.isnan(out).any() or np.isnan(own_certainty).any():
        return Measured(metrics, curves)
    metrics |= {
        "shift/auroc": metrics["shift/far/confidence/auroc"],
        "shift/fpr95": metrics["shift/far/confidence/fpr95"],
        "shift/confidence": float(confidence(out).mean()),
        "shift/own_confidence": float(confidence(own_certainty).mean()),
    }
    return Measured(metrics, curves | _drawn(own_certainty, out))


def _nearer(subject: Subject, settings: ShiftSettings) -> dict[str, tuple[str, Logits]]:
    """Kind -> name and logits of the images nearer than the far ones, as far as there are any."""
    groups: dict[str, tuple[str, Logits]] = {}
    near = near_dataset(settings, subject.dataset.name, subject.dataset.shape[0])
    if near is not None and (settings.near or fetch.available_offline(near.name)):
        groups["near"] = near.name, _logits(subject, _foreign(near.name, subject).test, settings)
    config = subject.config.dataset
    if config.left_out_classes:
        names = config.left_out_classes
        every = load_once(config.model_copy(update={"left_out_classes": None}), str(subject.device))
        wanted = torch.tensor([every.classes.index(name) for name in names])
        left_out = every.test.subset(torch.isin(every.test.labels, wanted).nonzero()[:, 0])
        groups["left_out"] = ", ".join(names), _logits(subject, left_out, settings)
    return groups


def _detected(own: Logits, foreign: Logits) -> dict[str, float | None]:
    """`detection`, or None for each of its numbers where logits are not finite."""
    if np.isfinite(own).all() and np.isfinite(foreign).all():
        return dict(detection(own, foreign))
    return dict.fromkeys(detection(np.eye(2), np.eye(2)))


def _drawn(own: Scores, foreign: Scores) -> dict[str, Any]:
    """The ROC curve, and histograms of confidence."""
    shares = np.linspace(0, 1, POINTS)
    edges = np.linspace(0, 1, BINS + 1)
    return {
        "roc": {
            "true": shares.tolist(),
            "false": [false_positives(own, foreign, share) for share in shares],
        },
        "confidence": {
            "edges": edges.tolist(),
            "own": np.histogram(confidence(own), edges)[0].tolist(),
            "foreign": np.histogram(confidence(foreign), edges)[0].tolist(),
        },
    }


def prepare(settings: ShiftSettings, dataset: DatasetConfig) -> None:
    """Fetch the other data sets for runs on `dataset`.

    Args:
        settings: Which ones.
        dataset: That of the runs.

    Raises:
        UserError: A data set in the settings can't be fetched or compared.
        Impossible: The default far one can't be fetched; without a near one, the others are
            measured.
    """
    channels = datasets.info(dataset.name).channels
    far = other_dataset(settings, dataset.name, channels).name
    near = near_dataset(settings, dataset.name, channels)
    for key, name in (("dataset", far), ("near", near.name if near else None)):
        if name is None:
            continue
        try:
            fetch.ensure(name)
        except UserError as error:
            if getattr(settings, key) is not None:
                raise UserError(f"shift.{key}: {error}") from None
            if key == "dataset":
                raise Impossible(
                    f"{error}; another one can be had with --set shift.dataset=NAME"
                ) from None


def other_dataset(settings: ShiftSettings, dataset: str, channels: int) -> DatasetInfo:
    """The far data set for a network.

    Args:
        settings: Which one.
        dataset: The run's own.
        channels: Those of the network's images.

    Raises:
        UserError: It is the run's own, or has channels that can't be compared.
    """
    name = settings.dataset or DEFAULTS.get(dataset, FOLDERS)
    return _comparable("dataset", name, dataset, channels)


def near_dataset(settings: ShiftSettings, dataset: str, channels: int) -> DatasetInfo | None:
    """The near data set for a network; None where none is asked for or known.

    Args:
        settings: Which one.
        dataset: The run's own.
        channels: Those of the network's images.

    Raises:
        UserError: It is the run's own, or has channels that can't be compared.
    """
    name = settings.near or NEAR.get(dataset)
    if name in (None, NONE):
        return None
    return _comparable("near", str(name), dataset, channels)


def _comparable(key: str, name: str, dataset: str, channels: int) -> DatasetInfo:
    if name == dataset:
        raise UserError(
            f"shift.{key}: got {name!r}, the data set of the run itself; expected another one"
        )
    facts = datasets.info(name)
    if channels != facts.channels and {channels, facts.channels} != {1, 3}:
        raise UserError(
            f"shift.{key}: {name} has {facts.channels} channels, expected {channels}, those of "
            f"{dataset}"
        )
    return facts


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


def _logits(subject: Subject, split: Split, settings: ShiftSettings) -> Logits:
    """Logits of `settings.images` of a split, normalised as the network's own images are."""
    channels = subject.dataset.shape[0]
    batches = (
        (subject.normalised(as_channels(pixels, channels)), labels)
        for pixels, labels in subject.pixels(subset(split, settings.images, settings.seed))
    )
    return logits_of(subject.network, batches)[0]


def _foreign(name: str, subject: Subject) -> Dataset:
    """Load a data set with images of the run's size, and as few training images as it allows."""
    facts = datasets.info(name)
    few = 20 * (facts.classes or 1)
    few = min(few, facts.train) if facts.train else few
    size = subject.dataset.shape[1:]
    return load_once(DatasetConfig(name=name, train_size=few, image_size=size), str(subject.device))
