"""Corruption: accuracy on images that are noisy, blurred, in bad weather, or badly stored.

The families of Hendrycks and Dietterich 2019 (arXiv:1903.12261), computed on the device from images
of any size; their strengths are in `corruption/levels.py`. Every model sees the same corrupted
pixels: random numbers come from a seed and the image's index in the test set.

The numbers are not those of CIFAR-10-C or ImageNet-C, with the preset `published` neither: frost is
generated, glass blur moves all pixels at once, and the random numbers are others. The setting
`files` measures on the published images themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.evaluation.base import Measured, Subject
from mixbench.experiments.evaluation.calibration import temperature
from mixbench.experiments.evaluation.corruption import CorruptionSettings, files
from mixbench.experiments.evaluation.corruption.corrupt import applies, corrupt
from mixbench.experiments.evaluation.corruption.levels import (
    BENCHMARK,
    CORRUPTIONS,
    FAMILIES,
    SEVERITIES,
)
from mixbench.experiments.evaluation.corruption.reference import errors_of
from mixbench.experiments.evaluation.corruption.scores import Scores, mean_calibration
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.kept import KEPT

CLEAN = ("", 0)


@torch.inference_mode()
def measure(subject: Subject, settings: CorruptionSettings) -> Measured:
    """Accuracy by corruption, by family and over all, on `settings.images` test images.

    Metrics: `corruption/clean` (the same images uncorrupted); `corruption/NAME`, the mean over
    severities; `corruption/noise`, `blur`, `weather`, `digital`, the mean over the corruptions of a
    family; `corruption/mean`, over all corruptions; `corruption/retention`, that over `clean` (None
    if that is 0). None for a corruption that does not apply, as `saturate` to grey images.
    `corruption/debiased`, `nll`, `gap`, `ece` and `ece_by_chance`: calibration, the mean over the
    same corruptions and severities; `corruption/scaled/...` with logits divided by the temperature
    that is fitted on clean validation images. Curves: `severity` from 0 (clean), `accuracy` by
    corruption, by family, and `mean`, and `calibration` by name.

    With the preset `published` all names begin with `corruption/published/`, and the means are over
    the fifteen corruptions of the publications. Those of `settings.files` begin with
    `corruption/files/`, with `corruption/files/mce` on top.

    Args:
        subject: The network and its data.
        settings: Corruptions and images.

    Returns:
        Accuracies and calibration errors from 0 to 1, NLL in nats; an mCE of 1 is the reference's.

    Raises:
        UserError: The files don't fit.
    """
    scaling = _temperature(subject)
    bins = subject.config.evaluation.ece_bins
    is_published = settings.preset == "published"
    start = "corruption/published" if is_published else "corruption"
    channels = subject.split("test").shape[0]
    names = [name for name in settings.corruptions if applies(name, channels)]
    scores = Scores(scaling, bins)
    for pixels, labels, where in subject.indexed(settings.images, settings.seed):
        scores.add(CLEAN, *_logits(subject, pixels, labels))
        for name in names:
            draws = ImageRandom(where, settings.seed, name)
            for severity in SEVERITIES:
                corrupted = _corrupted(pixels, name, severity, draws, settings)
                scores.add((name, severity), *_logits(subject, corrupted, labels))
            subject.beat()
    averaged = [name for name in names if not is_published or name in BENCHMARK]
    metrics, curves = _summary(scores, names, averaged, settings.corruptions, start)
    curves["preset"] = settings.preset
    if settings.files is not None:
        found, curves["files"] = _files(subject, settings, Scores(scaling, bins))
        metrics |= found
    return Measured(metrics, curves)


def prepare(settings: CorruptionSettings, dataset: DatasetConfig) -> None:
    """Check that the files of the settings fit runs on `dataset`.

    Args:
        settings: With the folder, if there is one.
        dataset: That of the runs.

    Raises:
        UserError: They don't fit, or there is a reference without files.
    """
    errors_of(settings.reference, settings.files, ())
    if settings.files is not None:
        opened = files.open_files(settings.files, dataset, settings.corruptions)
        opened.reference(settings.reference)


def _files(
    subject: Subject, settings: CorruptionSettings, scores: Scores
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Measure on the files: metrics and curves."""
    opened = files.open_files(
        str(settings.files), subject.config.dataset, settings.corruptions, subject.dataset
    )
    for pixels, labels, _ in subject.indexed(settings.images, settings.seed):
        scores.add(CLEAN, *_logits(subject, pixels, labels))
    chosen = opened.choose(settings.images, settings.seed)
    size = subject.config.evaluation.batch_size
    for name in opened.names:
        for severity in SEVERITIES:
            for raw, labels in opened.batches(name, severity, chosen, size):
                subject.beat()
                pixels = raw.to(subject.device).float() / 255
                scores.add((name, severity), *_logits(subject, pixels, labels))
    averaged = [name for name in opened.names if name in BENCHMARK] or list(opened.names)
    start = "corruption/files"
    metrics, curves = _summary(scores, opened.names, averaged, opened.names, start)
    against = opened.reference(settings.reference)
    ratios = (
        [(1 - float(metrics[f"{start}/{name}"] or 0.0)) / against.errors[name] for name in averaged]
        if against
        else []
    )
    metrics[f"{start}/mce"] = _mean(ratios) if ratios else None
    curves |= opened.described() | {"reference": against.title if against else None}
    return metrics, curves | {"averaged": averaged}


def _corrupted(
    pixels: Tensor, name: str, severity: int, draws: ImageRandom, settings: CorruptionSettings
) -> Tensor:
    """What `corrupt` gives, which is the same for every network."""
    where = tuple(draws.indices.tolist())
    key = ("corruption", name, severity, settings.preset, settings.seed, where)

    def make() -> tuple[Tensor, ...]:
        return (corrupt(pixels, name, severity, draws, settings.preset),)

    return KEPT.get(pixels, key, make)[0]


def _logits(
    subject: Subject, images: Tensor, labels: Tensor
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    logits = subject.network(subject.normalised(images)).float().cpu().numpy()
    return logits, labels.cpu().numpy()


def _temperature(subject: Subject) -> float | None:
    """The temperature that the clean validation split speaks for."""
    logits, labels = subject.logits("validation")
    return temperature.fit(logits, labels).value if np.isfinite(logits).all() else None


def _summary(
    scores: Scores,
    names: Sequence[str],
    averaged: Sequence[str],
    wanted: Sequence[str],
    start: str,
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Metrics that begin with `start`, and curves.

    names: measured. averaged: those in the means. wanted: those that get a metric.
    """
    clean = scores.accuracy(CLEAN)
    accuracy = {
        name: [clean, *(scores.accuracy((name, severity)) for severity in SEVERITIES)]
        for name in names
    }
    groups: dict[str, list[list[float]]] = {name: [accuracy[name]] for name in accuracy}
    for family in FAMILIES:
        members = [accuracy[name] for name in averaged if CORRUPTIONS[name].family == family]
        groups |= {family: members} if members else {}
    groups |= {"mean": [accuracy[name] for name in averaged]} if averaged else {}
    curves = {
        name: [_mean(at) for at in zip(*group, strict=True)] for name, group in groups.items()
    }
    metrics: dict[str, float | None] = {f"{start}/clean": clean}
    for name in (*wanted, *FAMILIES, "mean"):
        metrics[f"{start}/{name}"] = _mean(curves[name][1:]) if name in curves else None
    mean = metrics[f"{start}/mean"]
    metrics[f"{start}/retention"] = mean / clean if mean is not None and clean else None
    of_clean = scores.calibration(CLEAN)
    by_severity = [
        [scores.calibration((name, severity)) for name in averaged] for severity in SEVERITIES
    ]
    flat = [one for found in by_severity for one in found]
    over_all = mean_calibration(flat) if flat else dict.fromkeys(of_clean)
    metrics |= {f"{start}/{name}": value for name, value in over_all.items()}
    points = [mean_calibration(found) for found in ([of_clean], *by_severity) if found]
    described: dict[str, Any] = {
        "images": scores.images(CLEAN),
        "severity": [0, *SEVERITIES],
        "family": {name: CORRUPTIONS[name].family for name in accuracy},
        "accuracy": curves,
        "calibration": {name: [point[name] for point in points] for name in of_clean},
    }
    return metrics, described


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
