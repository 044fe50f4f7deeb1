"""Weighted labels of every pixel, and their loss, against sums over pixels one at a time."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mixbench
from mixbench.augmentations import Blend, DenseTargets, Paste, Plan
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.composite import chain, select
from tests.augmentations.plans.test_other_kinds import LeftHalf
from tests.support.given import all_needed
from tests.support.oracles import seeded

BATCH, HEIGHT, WIDTH, CLASSES = 4, 8, 12, 3
LAST, ONES = [1, 2, 3, 0], torch.ones(BATCH, 1, 1, 1)


def blend(keep: Tensor | float) -> Blend:
    rows = keep if isinstance(keep, Tensor) else torch.full((BATCH, 1, 1, 1), keep)
    return Blend(rows, torch.tensor(LAST))


def box(source: bool = False, resize: bool = False) -> Paste:
    target = torch.tensor([[[1, 2, 5, 8]]]).expand(BATCH, -1, -1)
    rows = [[2, 1, 6, 7]] if not resize else [[0, 0, 8, 12]]
    origin = torch.tensor([rows]).expand(BATCH, -1, -1) if source or resize else None
    partner = torch.tensor(LAST).view(-1, 1)
    return Paste((HEIGHT, WIDTH), target, partner, origin, resize=resize)


SOFT = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=seeded(1))
PLANS: dict[str, Callable[[], Plan]] = {
    "uniform": lambda: blend(0.7),
    "per pixel": lambda: blend(SOFT),
    "filled": lambda: Blend(ONES * 0.2, None),
    "box": box,
    "from elsewhere": lambda: box(source=True),
    "in a network": lambda: AtDepth(blend(0.3), 1),
    "chain": lambda: chain([blend(0.7), box(source=True), blend(SOFT)]),
    "chosen": lambda: select(torch.tensor([0, 1, 2, 1]), [blend(0.4), box(), blend(SOFT)]),
    "another kind": lambda: chain([box(), LeftHalf(ONES), blend(0.6)]),
}


def a_mask(seed: int = 0) -> Tensor:
    masks = torch.randint(0, CLASSES, (BATCH, HEIGHT, WIDTH), generator=seeded(seed))
    masks[:, 0, 3:6] = masks[:, 5, 2] = 255
    return masks


def one_hot(masks: Tensor, classes: int = CLASSES) -> Tensor:
    """255 is in no class."""
    return torch.stack([(masks == c).float() for c in range(classes)], dim=1)


@pytest.mark.parametrize("name", PLANS)
def test_labels_per_pixel_are_what_soft_masks_become(name: str) -> None:
    plan, masks = PLANS[name](), a_mask()
    before = masks.clone()
    targets = plan.mix_dense(masks)
    assert targets.labels.dtype == torch.int64 and targets.weights.dtype == torch.float32
    assert targets.labels.shape == targets.weights.shape
    torch.testing.assert_close(targets.weights.sum(dim=1), torch.ones(BATCH, HEIGHT, WIDTH))
    torch.testing.assert_close(targets.dense(CLASSES), plan.mix_masks(one_hot(masks)))
    assert torch.equal(masks, before)
    as_bytes = plan.mix_dense(masks.byte())
    torch.testing.assert_close(as_bytes.dense(CLASSES), targets.dense(CLASSES))


@pytest.mark.parametrize("name", PLANS)
def test_the_loss_is_the_weighted_sum_of_the_losses_of_the_labels(name: str) -> None:
    targets = PLANS[name]().mix_dense(a_mask())
    logits = torch.randn(BATCH, CLASSES, HEIGHT, WIDTH, generator=seeded(2), requires_grad=True)
    class_weights = torch.tensor([0.5, 1.0, 3.0])
    for options, weights in (({}, None), ({"class_weights": class_weights}, class_weights)):
        terms, divisor = torch.zeros(BATCH, HEIGHT, WIDTH), torch.tensor(0.0)
        for k in range(targets.labels.shape[1]):
            label, weight = targets.labels[:, k], targets.weights[:, k]
            loss = F.cross_entropy(
                logits, label, weights, ignore_index=255, reduction="none", label_smoothing=0.1
            )
            terms = terms + weight * loss
            counted = torch.where(label == 255, 0.0, weight)
            factor = 1 if weights is None else weights[label.where(label != 255, 0)]
            divisor = divisor + (counted * factor).sum()
        found = targets.cross_entropy(logits, label_smoothing=0.1, reduction="none", **options)
        torch.testing.assert_close(found, terms)
        mean = targets.cross_entropy(logits, label_smoothing=0.1, **options)
        torch.testing.assert_close(mean, terms.sum() / divisor)
        (gradient,) = torch.autograd.grad(mean, logits)
        (expected,) = torch.autograd.grad(terms.sum() / divisor, logits)
        torch.testing.assert_close(gradient, expected)


def test_what_is_not_mixed_has_torchs_loss() -> None:
    masks = a_mask()
    logits = torch.randn(BATCH, CLASSES, HEIGHT, WIDTH, generator=seeded(3))
    loss = blend(1.0).mix_dense(masks).cross_entropy(logits)
    torch.testing.assert_close(loss, F.cross_entropy(logits, masks, ignore_index=255))
    negative = masks.where(masks != 255, -1)
    loss = blend(1.0).mix_dense(negative).cross_entropy(logits, ignore_index=-1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, negative, ignore_index=-1))
    nothing = blend(0.5).mix_dense(torch.full_like(masks, 255))
    assert nothing.cross_entropy(logits).isnan()
    assert nothing.dense(CLASSES).count_nonzero() == 0


def test_a_scaled_rectangle_takes_label_and_weight_from_one_pixel() -> None:
    masks, first = a_mask(), blend(SOFT)
    plan = chain([first, box(resize=True)])
    before, after = first.mix_dense(masks), plan.mix_dense(masks)
    pairs = torch.stack([before.labels.double(), before.weights.double()], dim=2)
    rows = (torch.arange(4) * 2 + 1).repeat_interleave(6)  # centres of 4 x 6 on 8 x 12 pixels
    columns = (torch.arange(6) * 2 + 1).repeat(4)
    brought = torch.stack([after.labels.double(), after.weights.double()], dim=2)[..., 1:5, 2:8]
    expected = pairs[torch.tensor(LAST)][..., rows, columns].view_as(brought)
    assert torch.equal(brought, expected)


def test_masks_at_another_resolution() -> None:
    masks = a_mask().repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    for plan in (blend(0.7), box(), chain([box(), blend(0.2)])):
        dense = plan.mix_dense(masks).dense(CLASSES)
        torch.testing.assert_close(dense, plan.mix_masks(one_hot(masks)))


@pytest.mark.parametrize(
    "name", [n for n in mixbench.available() if not mixbench.create(n).deepest]
)
def test_every_method_has_labels_per_pixel(name: str) -> None:
    images = torch.rand(BATCH, 3, 24, 24, generator=seeded(4))
    mix = mixbench.create(name, per_sample=True, prob=1.0)
    plan = mix.sample(images.shape, generator=seeded(5), **all_needed(mix, images))
    samples = torch.arange(BATCH).view(-1, 1, 1).expand(-1, 24, 24)
    targets = plan.mix_dense(samples)
    soft = plan.mix_masks(one_hot(samples, BATCH))
    torch.testing.assert_close(targets.dense(BATCH), soft, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda: box().mix_dense(torch.zeros(4, 8, 12)), "masks: expected (4, H, W) of classes"),
        (lambda: box().mix_dense(torch.zeros(4, 1, 8, 12).long()), "masks: expected (4, H, W)"),
        (lambda: blend(0.5).mix_dense(a_mask()[:3]), "masks: expected (4, H, W) of classes, got"),
        (
            lambda: box().mix_dense(DenseTargets(a_mask(), SOFT)),
            "masks: expected labels and weights (4, K, H, W), got (4, 8, 12) and",
        ),
        (
            lambda: box().mix_dense(a_mask()).cross_entropy(torch.zeros(4, 3, 4, 12)),
            "logits: expected (4, num_classes, 8, 12) on cpu, got (4, 3, 4, 12) on cpu",
        ),
        (
            lambda: box().mix_dense(a_mask()).cross_entropy(torch.zeros(4, 2, 8, 12)),
            "masks: expected classes from 0 to 1, or 255 (ignored), got values from 0 to 2",
        ),
        (
            lambda: box().mix_dense(a_mask()).dense(3, ignore_index=-1),
            "masks: expected classes from 0 to 2, or -1 (ignored), got values from 0 to 255",
        ),
    ],
)
def test_what_is_refused(action: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        action()
    assert "\n" not in str(caught.value)
