"""Basic occlusion: what every run measures after its training, by two shapes and two fills.

Every model sees the same hidden pixels: the masks come from a seed of their own and the image's
place among those that are measured. Hidden pixels get the data set's mean colour, which Cutout and
Random Erasing train on, or noise, which no method here trains on (its numbers have `noise` in their
names; runs of before lack them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.occlusion.masks import (
    centre_square,
    patch_grid,
    patch_order,
    random_patches,
)
from mixbench.experiments.ranks import ALONE, Ranks

Predict = Callable[[Tensor], Tensor]
CLEAN = ("", 0.0)
NOISE = "noise"
"""Gaussian by value with the data set's mean and deviation, clipped to the range of pixels."""


def measure(
    predict: Predict,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    shapes: tuple[str, ...],
    fractions: tuple[float, ...],
    count: int,
    seed: int,
    batch_size: int,
    colours: tuple[Tensor, Tensor],
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Accuracy by shape and hidden fraction, its normalised area, and its retention.

    Metrics: `centre/0.25` (accuracy), `centre/retention/0.25` (that over the accuracy of the same
    images unhidden; None if that is 0), `centre/area` (area under accuracy over the hidden
    fraction, divided by the largest fraction): all with the mean colour; `centre/noise/0.25` and so
    on with noise. Curves, by shape and as "centre/noise": the realised `fraction`s, from 0, and
    `accuracy`.

    Args:
        predict: From normalised images (B,C,H,W) to logits (B,K).
        batches: Normalised images and labels in a fixed order. Where several ranks share the work,
            every `size`-th batch.
        shapes: "centre" or "patches".
        fractions: Of the image's area, ascending, above 0 and below 1.
        count: How many images there are in all.
        seed: Of the order of patches, and of the noise.
        batch_size: How many images each batch has, but the last.
        colours: Mean and deviation (C,) of the pixels, by which images are normalised.
        ranks: Who shares the work.

    Returns:
        Metrics and curves; empty on ranks other than 0.
    """
    parts = [part for shape in shapes for part in (shape, f"{shape}/{NOISE}")]
    batch_sums: list[dict[Any, tuple[float, float]]] = []
    order: Tensor | None = None
    for number, (images, labels) in enumerate(batches):
        height, width = images.shape[-2:]
        if order is None:
            _, rows, columns = patch_grid(height, width)
            order = patch_order(count, rows * columns, seed)
        first = (ranks.rank + number * ranks.size) * batch_size
        batch_order = order[first : first + len(labels)].to(images.device)
        if not len(labels):
            batch_sums.append({})
            continue
        sums: dict[Any, tuple[float, float]] = {
            CLEAN: (_hits(predict(images), labels), len(labels))
        }
        places = torch.arange(first, first + len(labels), device=images.device)
        noise = _noise(ImageRandom(places, seed, "occlusion"), images, colours)
        for shape in shapes:
            for fraction in fractions:
                if shape == "centre":
                    hidden = centre_square(height, width, fraction).to(images.device).unsqueeze(0)
                else:
                    hidden = random_patches(batch_order, height, width, fraction)
                hidden = hidden.unsqueeze(1)
                share = hidden.float().mean().item() * len(labels)
                logits = predict(images.masked_fill(hidden, 0.0))
                sums[shape, fraction] = (_hits(logits, labels), share)
                logits = predict(torch.where(hidden, noise, images))
                sums[f"{shape}/{NOISE}", fraction] = (_hits(logits, labels), share)
        batch_sums.append(sums)

    batch_sums = ranks.interleave(batch_sums)
    if not ranks.leads:
        return {}, {}
    return _summed(batch_sums, parts, fractions)


def _summed(
    batch_sums: list[dict[Any, tuple[float, float]]],
    parts: list[str],
    fractions: tuple[float, ...],
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """Metrics and curves from the hits, and the shares or counts, of all batches."""
    hits, covered = (
        {
            key: sum(sums[key][which] for sums in batch_sums if sums)
            for key in _keys(parts, fractions)
        }
        for which in (0, 1)
    )
    clean, done = hits[CLEAN], covered[CLEAN]
    metrics: dict[str, float | None] = {}
    curves: dict[str, Any] = {}
    for shape in parts:
        accuracy = [clean / done, *(hits[shape, fraction] / done for fraction in fractions)]
        hidden_share = [0.0, *(covered[shape, fraction] / done for fraction in fractions)]
        curves[shape] = {"fraction": hidden_share, "accuracy": accuracy}
        metrics[f"{shape}/area"] = float(np.trapezoid(accuracy, hidden_share)) / hidden_share[-1]
        for fraction, value in zip(fractions, accuracy[1:], strict=True):
            metrics[f"{shape}/{fraction:g}"] = value
            metrics[f"{shape}/retention/{fraction:g}"] = value / accuracy[0] if clean else None
    return metrics, curves


def _noise(draws: ImageRandom, images: Tensor, colours: tuple[Tensor, Tensor]) -> Tensor:
    """Noise for each image (B,C,H,W), as normalised images have it, in their memory format."""
    mean, std = (part.view(1, -1, 1, 1).to(images.device) for part in colours)
    pixels = (mean + std * draws.normal(NOISE, *images.shape[1:])).clamp_(0, 1)
    return torch.empty_like(images).copy_((pixels - mean) / std)


def _keys(shapes: list[str], fractions: tuple[float, ...]) -> list[Any]:
    return [CLEAN, *((shape, fraction) for shape in shapes for fraction in fractions)]


def _hits(logits: Tensor, labels: Tensor) -> int:
    return int((logits.argmax(dim=1) == labels).sum())
