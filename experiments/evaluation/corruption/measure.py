"""Corruption: accuracy on images that are noisy, blurred, in bad weather, or badly stored.

The families of Hendrycks and Dietterich 2019 (arXiv:1903.12261), computed on the device from images
of any size; their strengths are in `corruption/levels.py`. Every model sees the same corrupted
pixels: random numbers come from a seed and the image's index in the test set.

The numbers are not those of CIFAR-10-C or ImageNet-C: `frost` is left out, the four corruptions
that they keep for tuning count like the others (but for spatter, which is left out), and values are
not rounded to 256 shades.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.corruption import CorruptionSettings
from mixbench.experiments.evaluation.corruption.corrupt import applies, corrupt
from mixbench.experiments.evaluation.corruption.levels import CORRUPTIONS, FAMILIES, SEVERITIES
from mixbench.experiments.evaluation.image_random import ImageRandom


@torch.inference_mode()
def measure(subject: Subject, settings: CorruptionSettings) -> Measured:
    """Accuracy by corruption, by family and over all, on `settings.images` test images.

    Metrics: `corruption/clean` (the same images uncorrupted); `corruption/NAME`, the mean over
    severities; `corruption/noise`, `blur`, `weather`, `digital`, the mean over the corruptions of a
    family; `corruption/mean`, over all corruptions; `corruption/retention`, that over `clean` (None
    if that is 0). None for a corruption that does not apply, as `saturate` to grey images. Curves:
    `severity` from 0 (clean), and `accuracy` by corruption, by family, and `mean`.

    Args:
        subject: The network and its data.
        settings: Corruptions and images.

    Returns:
        Accuracies from 0 to 1.
    """
    channels = subject.split("test").shape[0]
    names = [name for name in settings.corruptions if applies(name, channels)]
    hits = {(name, severity): 0 for name in names for severity in SEVERITIES}
    clean = done = 0
    for pixels, labels, where in subject.indexed(settings.images, settings.seed):
        done += len(labels)

        def right(images: torch.Tensor, labels: torch.Tensor = labels) -> int:
            predicted = subject.network(subject.normalised(images)).argmax(dim=1)
            return int((predicted == labels).sum())

        clean += right(pixels)
        for name in names:
            draws = ImageRandom(where, settings.seed, name)
            for severity in SEVERITIES:
                hits[name, severity] += right(corrupt(pixels, name, severity, draws))
            subject.beat()
    accuracy = {
        name: [clean / done, *(hits[name, severity] / done for severity in SEVERITIES)]
        for name in names
    }
    return _summary(accuracy, clean / done, done, settings.corruptions)


def _summary(
    accuracy: dict[str, list[float]], clean: float, images: int, wanted: Sequence[str]
) -> Measured:
    groups: dict[str, list[list[float]]] = {name: [accuracy[name]] for name in accuracy}
    for family in FAMILIES:
        members = [accuracy[name] for name in accuracy if CORRUPTIONS[name].family == family]
        groups |= {family: members} if members else {}
    groups |= {"mean": list(accuracy.values())} if accuracy else {}
    curves = {
        name: [_mean(at) for at in zip(*group, strict=True)] for name, group in groups.items()
    }
    metrics: dict[str, float | None] = {"corruption/clean": clean}
    for name in (*wanted, *FAMILIES, "mean"):
        metrics[f"corruption/{name}"] = _mean(curves[name][1:]) if name in curves else None
    mean = metrics["corruption/mean"]
    metrics["corruption/retention"] = mean / clean if mean is not None and clean else None
    described: dict[str, Any] = {
        "images": images,
        "severity": [0, *SEVERITIES],
        "family": {name: CORRUPTIONS[name].family for name in accuracy},
        "accuracy": curves,
    }
    return Measured(metrics, described)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
