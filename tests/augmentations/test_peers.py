"""The same decision, applied by torchvision and timm where they are right, gives the same batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

import augmentations
from tests.augmentations.pixels import boxes_of, seeded

v2 = pytest.importorskip("torchvision.transforms.v2")
CLASSES = 10


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand(7, 3, 16, 24, generator=seeded(0))
    return images, torch.tensor([1, 0, 4, 9, 4, 2, 7])


def torchvisions(
    transform: Any, images: torch.Tensor, labels: torch.Tensor, decision: dict[str, Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """torchvision pairs i with i - 1 and ours "roll" i with i + 1: the batch is turned round."""
    images, labels = images.flip(0), labels.flip(0)
    decision = {**decision, "labels": labels, "batch_size": len(labels)}
    mixed = transform.transform(images, decision)
    soft = transform.transform(labels, decision)
    return mixed.flip(0), soft.flip(0)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_as_torchvision(seed: int) -> None:
    images, labels = batch()
    ours = augmentations.create("mixup", pairing="roll")(
        images, labels, CLASSES, generator=seeded(seed)
    )
    decision = {"lam": float(ours.targets.weights[0, 0])}
    theirs, soft = torchvisions(v2.MixUp(num_classes=CLASSES), images, labels, decision)
    torch.testing.assert_close(ours.images, theirs)
    torch.testing.assert_close(ours.targets.dense(CLASSES), soft)


@pytest.mark.parametrize("seed", range(5))
def test_cutmix_as_torchvision(seed: int) -> None:
    images, labels = batch()
    ours = augmentations.create("cutmix", pairing="roll")(
        images, labels, CLASSES, generator=seeded(seed)
    )
    changed = (ours.images != images).any(dim=1)
    top, left, bottom, right = boxes_of(changed)[0].tolist()
    decision = {
        "box": (left, top, right, bottom),
        "lam_adjusted": 1 - (right - left) * (bottom - top) / (16 * 24),
    }
    theirs, soft = torchvisions(v2.CutMix(num_classes=CLASSES), images, labels, decision)
    assert torch.equal(ours.images, theirs)
    torch.testing.assert_close(ours.targets.dense(CLASSES), soft)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_as_timm(smoothing: float) -> None:
    """timm mixes smoothed one-hot labels with the batch reversed; we smooth in the loss."""
    mixup_target = pytest.importorskip("timm.data.mixup").mixup_target
    images, labels = batch()
    logits = torch.randn(7, CLASSES, generator=seeded(1))
    for seed in range(5):
        ours = augmentations.create("mixup", pairing="flip")(
            images, labels, CLASSES, generator=seeded(seed)
        )
        soft = mixup_target(
            labels, CLASSES, lam=float(ours.targets.weights[0, 0]), smoothing=smoothing
        )
        if not smoothing:
            torch.testing.assert_close(ours.targets.dense(CLASSES), soft)
        torch.testing.assert_close(
            ours.targets.cross_entropy(logits, label_smoothing=smoothing),
            F.cross_entropy(logits, soft),
        )
