"""Segmentation: metrics against torchmetrics and scipy, mixed masks, losses, whole runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from mixbench.experiments.tasks.segmentation.scores import SMALL, band_width, count, summarise

CLASSES = 4


@pytest.fixture(scope="module")
def split() -> tuple[Tensor, Tensor, Tensor]:
    """Logits, classes and objects of six images: blocks of classes, some large, seams of 255."""
    random = torch.Generator().manual_seed(0)
    masks = torch.zeros(6, 40, 56, dtype=torch.int64)
    objects = torch.zeros_like(masks)
    for image in range(6):
        for item in range(3):
            top, left = (int(torch.randint(24, (), generator=random)) for _ in range(2))
            side = int(torch.randint(4, 20, (), generator=random))
            box = slice(top, top + side), slice(left, left + side)
            masks[image][box] = int(torch.randint(1, CLASSES, (), generator=random))
            objects[image][box] = item + 1
        masks[image, ::9] = 255
    logits = torch.randn(6, CLASSES, 40, 56, generator=random)
    kept = torch.nn.functional.one_hot(masks.clamp(max=CLASSES - 1), CLASSES).movedim(3, 1)
    return logits + 2 * kept, masks, objects


def test_metrics_are_those_of_torchmetrics(split: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, masks, objects = split
    parts = [count(*(part[rows] for part in split)) for rows in (slice(0, 4), slice(4, 6))]
    metrics = summarise(parts)
    assert metrics == summarise([count(*split)])
    jaccard = MulticlassJaccardIndex(CLASSES, ignore_index=255)
    accuracy = MulticlassAccuracy(CLASSES, average="micro", ignore_index=255)
    assert metrics["miou"] == pytest.approx(float(jaccard(logits, masks)), abs=1e-6)
    assert metrics["pixel_accuracy"] == pytest.approx(float(accuracy(logits, masks)), abs=1e-6)
    nll = torch.nn.functional.cross_entropy(logits.double(), masks, ignore_index=255)
    assert metrics["nll"] == pytest.approx(float(nll), abs=1e-6)
    # Of small objects: the pixels of large ones don't count, and background is no class.
    small = masks.clone()
    for image in range(6):
        for item in range(1, 4):
            pixels = objects[image] == item
            if pixels.sum() >= SMALL * pixels.numel():
                small[image][pixels] = 255
    assert not torch.equal(small, masks)
    per_class = MulticlassJaccardIndex(CLASSES, ignore_index=255, average=None)(logits, small)
    there = [label for label in range(1, CLASSES) if (small == label).any()]
    assert metrics["miou_small"] == pytest.approx(float(per_class[there].mean()), abs=1e-6)


def test_boundaries_are_what_erosion_takes_off(split: tuple[Tensor, Tensor, Tensor]) -> None:
    """Erode as the authors of Boundary IoU do: a 3 x 3 square, as often as the band is wide."""
    logits, masks, _ = split
    assert band_width(40, 56) == 1 and band_width(480, 640) == 16
    truth = masks.numpy()
    predicted = np.where(truth == 255, 255, logits.argmax(1).numpy())
    scores = []
    for label in range(CLASSES):
        rings = []
        for maps in (truth, predicted):
            shown = maps == label
            eroded = [ndimage.binary_erosion(one, np.ones((3, 3))) for one in shown]
            rings.append(shown & ~np.stack(eroded))
        scores.append((rings[0] & rings[1]).sum() / (rings[0] | rings[1]).sum())
    measured = summarise([count(*split)])["boundary_iou"]
    assert measured == pytest.approx(float(np.mean(scores)), abs=1e-9)


def test_a_perfect_predictor_scores_1_and_a_random_one_its_chance(
    split: tuple[Tensor, Tensor, Tensor],
) -> None:
    _, masks, objects = split
    perfect = torch.nn.functional.one_hot(masks % 255, CLASSES).movedim(3, 1) * 100.0
    metrics = summarise([count(perfect, masks, objects)])
    assert [metrics[name] for name in ("miou", "boundary_iou", "miou_small")] == [1, 1, 1]
    assert metrics["nll"] == pytest.approx(0, abs=1e-6)
    guessed = torch.randn(perfect.shape, generator=torch.Generator().manual_seed(1))
    shares = torch.bincount(masks[masks != 255], minlength=CLASSES) / (masks != 255).sum()
    # Hits are share/K of all pixels, those in either share + 1/K less the hits.
    chance = (shares / CLASSES / (shares + 1 / CLASSES - shares / CLASSES)).mean()
    assert summarise([count(guessed, masks, objects)])["miou"] == pytest.approx(
        float(chance), abs=0.02
    )
