"""Object share: whether a network is right where its object is small, and where it fills the image.

CutMix is said to struggle where objects fill the image, and its labels by area to be wrong where
they don't. Both are about what is object and what is background, which is exactly black here.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench import augmentations
from mixbench.experiments.config import datasets
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.kept import KEPT
from mixbench.experiments.evaluation.object_share import ObjectShareSettings
from mixbench.experiments.evaluation.object_share.framing import framed, objects
from mixbench.experiments.evaluation.object_share.labels import errors_of

MOST = 0.95
"""Images of which more is object, on average, have no black background."""


def prepare(_settings: ObjectShareSettings, dataset: DatasetConfig) -> None:
    """Refuse data sets of colour images, before any run is measured.

    Args:
        _settings: Of the measurement.
        dataset: Of the runs.

    Raises:
        Impossible: Its images are in colour.
    """
    if datasets.info(dataset.name).channels != 1:
        raise Impossible(_no_background(dataset.name))


@torch.inference_mode()
def measure(subject: Subject, settings: ObjectShareSettings) -> Measured:
    """Accuracy by object share on `settings.images` test images, and errors of the run's labels.

    Metrics: `object_share/clean`, images as they are; `object_share/SHARE`, the same images padded
    or cropped until the object fills that share of them (`framing`), without those of which that is
    impossible for any share; `object_share/own/larger` and `/smaller`, all test images as they are,
    whose object is larger or smaller than the median of their class, the mean over classes, and
    `/difference`, the first less the second; `object_share/mean`, the objects' mean share of all
    test images; `object_share/label_error` and `/ghost_labels` of the run's augmentation at
    probability 1 (`labels`; None without any). Curves: `share` as asked for, `realised` and
    `accuracy`; `images` and those `left_out`, by class.

    Args:
        subject: The network and its data.
        settings: Shares and images.

    Returns:
        Accuracies, shares and errors from 0 to 1.

    Raises:
        Impossible: The background of the test images is not black.
    """
    own = _own_shares(subject)
    if not 0 < own.mean() <= MOST:
        raise Impossible(_no_background(subject.config.dataset.name))
    metrics: dict[str, float | None] = {"object_share/mean": float(own.mean())}
    found, curves = _by_share(subject, settings)
    metrics |= found
    logits, labels = subject.logits("test")
    metrics |= halves(own, logits.argmax(axis=1) == labels, labels)
    method = augmentations.create(**subject.config.augmentation)
    error, ghosts = errors_of(
        method, subject.split("train"), subject.normalised, settings.pairs, settings.seed
    )
    metrics |= {"object_share/label_error": error, "object_share/ghost_labels": ghosts}
    return Measured(metrics, curves)


def halves(
    own: NDArray[np.float64], hits: NDArray[np.bool_], labels: NDArray[np.int64]
) -> dict[str, float | None]:
    """Accuracy on the images of each class whose object is larger, and smaller, than its median.

    Args:
        own: Each image's object share, (N,).
        hits: Whether the network is right, (N,).
        labels: The classes, (N,).

    Returns:
        Means over classes that have both; None where none has.
    """
    pairs = []
    for number in np.unique(labels):
        mine = labels == number
        middle = np.median(own[mine])
        larger, smaller = hits[mine & (own > middle)], hits[mine & (own < middle)]
        if len(larger) and len(smaller):
            pairs.append((larger.mean(), smaller.mean()))
    if not pairs:
        return dict.fromkeys(
            f"object_share/own/{key}" for key in ("larger", "smaller", "difference")
        )
    one, other = (float(np.mean(side)) for side in zip(*pairs, strict=True))
    return {
        "object_share/own/larger": one,
        "object_share/own/smaller": other,
        "object_share/own/difference": one - other,
    }


def _own_shares(subject: Subject) -> NDArray[np.float64]:
    """The object share of every test image as it is."""
    parts = [
        objects(images).double().mean(dim=(1, 2)).cpu()
        for images, _ in subject.pixels(subject.split("test"))
    ]
    return torch.cat(parts).numpy()


def _by_share(
    subject: Subject, settings: ObjectShareSettings
) -> tuple[dict[str, float | None], dict[str, Any]]:
    shares = settings.shares
    clean: list[Tensor] = []
    hits: list[Tensor] = []
    realised: list[Tensor] = []
    possible: list[Tensor] = []
    classes: list[Tensor] = []
    for images, labels, _ in subject.indexed(settings.images, settings.seed):
        # The same for every network.
        made = [
            KEPT.get(images, ("framed", share), partial(framed, images, share)) for share in shares
        ]
        clean.append(_right(subject, images, labels))
        hits.append(torch.stack([_right(subject, one, labels) for one, _, _ in made], dim=1))
        realised.append(torch.stack([share.cpu() for _, share, _ in made], dim=1))
        possible.append(torch.stack([one.cpu() for _, _, one in made], dim=1).all(dim=1))
        classes.append(labels.cpu())
    kept = torch.cat(possible)
    whole = torch.cat(clean)[kept].double()
    right, filled = torch.cat(hits)[kept].double(), torch.cat(realised)[kept].double()
    labels_of = torch.cat(classes)
    names = subject.dataset.classes
    out = labels_of[~kept].bincount(minlength=len(names)).tolist()
    is_any = bool(kept.any())
    accuracy = right.mean(dim=0).tolist() if is_any else [None] * len(shares)
    metrics = {"object_share/clean": float(whole.mean()) if is_any else None}
    metrics |= {
        f"object_share/{share:g}": value for share, value in zip(shares, accuracy, strict=True)
    }
    curves = {
        "images": int(kept.sum()),
        "left_out": {name: number for name, number in zip(names, out, strict=True) if number},
        "share": list(shares),
        "realised": filled.mean(dim=0).tolist() if is_any else None,
        "accuracy": {"framed": accuracy},
    }
    return metrics, curves


def _right(subject: Subject, images: Tensor, labels: Tensor) -> Tensor:
    subject.beat()
    logits: Tensor = subject.network(subject.normalised(images))
    return (logits.argmax(dim=1) == labels).cpu()


def _no_background(name: str) -> str:
    return (
        f"object_share: expected images whose background is exactly black, as fashion_mnist's, so "
        f"that what else is there is the object; got {name}"
    )
