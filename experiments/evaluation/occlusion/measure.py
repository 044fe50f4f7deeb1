"""Occlusion: accuracy where a growing part of an image is hidden, by many shapes and many fills.

A network that was trained on images with rectangles cut out, or pasted in, has an advantage where
rectangles are hidden that is not robustness (Marcu and Prügel-Bennett 2022, "On the Effects of
Artificial Data Modification", ICML). So shapes are compared: `favour` is how much better rectangles
are withstood than the others, `away` leaves out what the training showed (`home`), and
`iocclusion` compares with training images of which the same is hidden. Every model sees the same
hidden pixels: they come from a seed and the image's index in its split.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.data.split import Split
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.base import Measured, Subject, subset, subset_indices
from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.occlusion import OcclusionSettings
from mixbench.experiments.evaluation.occlusion.home import away, home_of
from mixbench.experiments.evaluation.occlusion.masks import levels
from mixbench.experiments.evaluation.partners import class_count, partners

RECTANGLES = ("centre", "boundary", "square")
"""The others are `patches` and `blobs`."""
COMPARED = "blobs"
"""The shape of iOcclusion's random masks."""


@dataclass(frozen=True)
class Hidden:
    """Accuracies of one split.

    Attributes:
        images: How many there were.
        fraction: Shape -> the realised hidden fractions, from 0.
        accuracy: Shape -> fill -> accuracy at each of them.
    """

    images: int
    fraction: dict[str, list[float]]
    accuracy: dict[str, dict[str, list[float]]]

    def areas(self, largest: float) -> dict[tuple[str, str], float]:
        """The `area` up to fraction `largest` by shape and fill."""
        return {
            (shape, fill): area(self.fraction[shape], values, largest)
            for shape, by_fill in self.accuracy.items()
            for fill, values in by_fill.items()
        }


@torch.inference_mode()
def measure(subject: Subject, settings: OcclusionSettings) -> Measured:
    """Accuracy on `settings.images` test images, by shape and fill, over the hidden fraction.

    Metrics: `hiding/clean` (nothing hidden); `hiding/SHAPE/FILL/area`, the mean accuracy from
    fraction 0 to the largest one (`area`), and `hiding/SHAPE/FILL/retention`, that over `clean`
    (None if that is 0); `hiding/area` and `hiding/retention`, their means;
    `hiding/rectangles/area`, `hiding/others/area` and `hiding/favour`, the first less the second
    (None where there is no shape of a kind); `hiding/away/area`, the mean over the pairs of which
    the run's training showed neither shape nor fill (None where there is none, or where a method
    does not declare what it shows); `hiding/iocclusion/FILL` and `hiding/iocclusion`, see
    `iocclusion`. Curves: the realised `fraction` from 0 by shape, the `accuracy` by shape and fill,
    `train` likewise, and `home`, what was left out of `away`.

    Args:
        subject: The network and its data.
        settings: Shapes, fills, fractions and images.

    Returns:
        Accuracies from 0 to 1.

    Raises:
        UserError: The fill "image" is asked for, and the test images are of one class.
    """
    largest = settings.fractions[-1]
    test = hidden(subject, settings, "test", settings.shapes)
    areas = test.areas(largest)
    clean = next(iter(next(iter(test.accuracy.values())).values()))[0]
    metrics = _metrics(areas, clean)
    home = home_of(subject.config)
    metrics["hiding/away/area"] = (
        None if home is None else _mean([areas[case] for case in away(home, areas)])
    )
    curves: dict[str, Any] = {
        "images": test.images,
        "fraction": test.fraction,
        "accuracy": test.accuracy,
        "home": home and {"shapes": sorted(home.shapes), "fills": sorted(home.fills)},
    }
    if COMPARED in settings.shapes:
        train = hidden(subject, settings, "train", (COMPARED,))
        curves["train"] = {"images": train.images, "accuracy": train.accuracy}
        ratios = {
            fill: iocclusion(values, test.accuracy[COMPARED][fill])
            for fill, values in train.accuracy[COMPARED].items()
        }
    else:
        ratios = dict.fromkeys(settings.fills)
    metrics |= {f"hiding/iocclusion/{fill}": ratio for fill, ratio in ratios.items()}
    known = [ratio for ratio in ratios.values() if ratio is not None]
    metrics["hiding/iocclusion"] = _mean(known) if len(known) == len(ratios) else None
    return Measured(metrics, curves)


def iocclusion(train: Sequence[float], test: Sequence[float]) -> float | None:
    """How much of the gap between training and test images is left where parts are hidden.

    The mean over fractions p of |(train_p - test_p) / (train - test)|, where train and test are
    accuracies. What the fill itself does to an image, its artefact, it does to both splits alike,
    so that it cancels: near 1, hidden parts cost unseen images what they cost those that the
    network has learnt; near 0, both are guessed.

    Source: Marcu and Prügel-Bennett 2022, "On Pitfalls of Measuring Occlusion Robustness through
    Data Distortion" (arXiv:2211.13734), and the authors' code, with its random masks: those of
    FMix. They take one proportion p.

    Args:
        train: Accuracy on training images, the first with nothing hidden.
        test: Accuracy on test images, likewise.

    Returns:
        At least 0; None where there is no gap.

    Examples:
        >>> iocclusion([1.0, 0.5], [0.75, 0.375])
        0.5
    """
    gaps = [abs(one - other) for one, other in zip(train, test, strict=True)]
    return sum(gaps[1:]) / (len(gaps) - 1) / gaps[0] if gaps[0] else None


def hidden(
    subject: Subject, settings: OcclusionSettings, name: str, shapes: Sequence[str]
) -> Hidden:
    """Accuracy on images of one split by shape and fill, over the hidden fraction.

    Args:
        subject: The network and its data.
        settings: Fills, fractions and images.
        name: Of the split.
        shapes: Of hidden parts.
    """
    fills, fractions = settings.fills, settings.fractions
    cases = [(shape, fill) for shape in shapes for fill in fills]
    hits = {(*case, step): 0 for case in cases for step in range(len(fractions))}
    # Pixels, in whole numbers: their sum does not depend on the batches.
    covered = {(shape, step): 0 for shape in shapes for step in range(len(fractions))}
    clean = done = pixels = 0
    for images, labels, others, draws in _batches(subject, settings, subject.split(name)):
        shown = subject.normalised(images)
        done += len(labels)
        clean += _hits(subject, shown, labels)
        height, width = images.shape[-2:]
        pixels += len(labels) * height * width
        over = {
            fill: subject.normalised(filling(fill, subject, images, draws, others))
            for fill in fills
        }
        for shape in shapes:
            level = levels(shape, draws, height, width, fractions)
            for step in range(len(fractions)):
                part = (level <= step).unsqueeze(1)
                covered[shape, step] += int(part.sum()) * (len(labels) // len(part))
                for fill in fills:
                    covering = torch.where(part, over[fill], shown)
                    hits[shape, fill, step] += _hits(subject, covering, labels)
    fraction = {
        shape: [0.0, *(covered[shape, step] / pixels for step in range(len(fractions)))]
        for shape in shapes
    }
    accuracy = {
        shape: {
            fill: [clean / done, *(hits[shape, fill, n] / done for n in range(len(fractions)))]
            for fill in fills
        }
        for shape in shapes
    }
    return Hidden(done, fraction, accuracy)


def filling(
    fill: str, subject: Subject, images: Tensor, draws: ImageRandom, others: Tensor | None
) -> Tensor:
    """What hidden pixels become.

    Args:
        fill: "black"; "mean", the data set's by channel; "noise", Gaussian with the data set's mean
            and deviation, clipped to [0,1]; "image", `others`, as in CutMix.
        subject: Whose data set.
        images: (B,C,H,W) in [0,1].
        draws: The images' random numbers.
        others: (B,C,H,W) in [0,1], for "image".

    Returns:
        (B,C,H,W) or (1,C,1,1), in pixels from 0 to 1.
    """
    mean, std = (
        part.view(1, -1, 1, 1).to(images.device)
        for part in (subject.dataset.mean, subject.dataset.std)
    )
    if fill == "black":
        return torch.zeros_like(mean)
    if fill == "mean":
        return mean
    if fill == "noise":
        return (mean + std * draws.normal("noise", *images.shape[1:])).clamp_(0, 1)
    if others is None:
        raise ValueError("the fill 'image' needs other images")
    return others


def area(fraction: Sequence[float], accuracy: Sequence[float], largest: float) -> float:
    """The mean accuracy over hidden fractions: the normalised area under the curve.

    (1 / largest) · ∫ accuracy df from 0 to `largest`, straight between realised fractions. It ends
    at `largest` for all shapes, though rounded sides may hide a little more or less.

    Args:
        fraction: Realised fractions, ascending from 0.
        accuracy: At each of them.
        largest: Where the area ends.

    Examples:
        >>> area([0.0, 0.5], [1.0, 0.5], largest=0.5)
        0.75
    """
    at = [*(one for one in fraction if one < largest), largest]
    return float(np.trapezoid(np.interp(at, fraction, accuracy), at)) / largest


def _batches(
    subject: Subject, settings: OcclusionSettings, split: Split
) -> Iterator[tuple[Tensor, Tensor, Tensor | None, ImageRandom]]:
    """Images in [0,1], their labels, images of other classes where they are asked for, draws."""
    indices = subset_indices(len(split), settings.images, settings.seed)
    shown = subset(split, settings.images, settings.seed)
    other: Split | None = None
    if "image" in settings.fills:
        if class_count(split) < 2:
            raise UserError("hiding.fills: 'image' needs images of two classes, got one class")
        other = split.subset(partners(split.labels, indices, settings.seed))
    size = subject.config.evaluation.batch_size
    more = None if other is None else subject.pixels(other, size)
    for number, (images, labels) in enumerate(subject.pixels(shown, size)):
        others = None if more is None else next(more)[0]
        # Files that can't be read leave batches with fewer images.
        if not len(labels) or (others is not None and not len(others)):
            continue
        if others is not None and len(others) != len(labels):
            others = others[torch.arange(len(labels), device=others.device) % len(others)]
        where = indices[number * size : number * size + len(labels)].to(images.device)
        yield images, labels, others, ImageRandom(where, settings.seed, "hiding")


def _hits(subject: Subject, images: Tensor, labels: Tensor) -> int:
    subject.beat()
    return int((subject.network(images).argmax(dim=1) == labels).sum())


def _metrics(areas: dict[tuple[str, str], float], clean: float) -> dict[str, float | None]:
    rectangles = _mean([one for (shape, _), one in areas.items() if shape in RECTANGLES])
    others = _mean([one for (shape, _), one in areas.items() if shape not in RECTANGLES])
    mean = _mean(list(areas.values()))
    metrics: dict[str, float | None] = {"hiding/clean": clean}
    for (shape, fill), value in areas.items():
        metrics[f"hiding/{shape}/{fill}/area"] = value
        metrics[f"hiding/{shape}/{fill}/retention"] = value / clean if clean else None
    favour = None if rectangles is None or others is None else rectangles - others
    return metrics | {
        "hiding/area": mean,
        "hiding/retention": mean / clean if mean is not None and clean else None,
        "hiding/rectangles/area": rectangles,
        "hiding/others/area": others,
        "hiding/favour": favour,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
