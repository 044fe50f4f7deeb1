"""RecursiveMix against the paper's formula on its own draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mixbench
from mixbench import augmentations
from tests.support.oracles import seeded

SIDE, CLASSES = 12, 5
FIRST, SECOND = (torch.rand(4, 3, SIDE, SIDE, generator=seeded(seed)) for seed in (1, 2))
LABELS = torch.tensor([0, 1, 2, 0])


def cut(draws: torch.Generator, alpha: float) -> tuple[int, int, int, int]:
    """The authors' box: rows and columns, clipped around a uniform centre."""
    area, row, column = (float(torch.rand((), dtype=torch.float64, generator=draws)) for _ in "123")
    side = int(SIDE * (area * alpha) ** 0.5)
    top, left = int(row * SIDE) - side // 2, int(column * SIDE) - side // 2
    bottom, right = (min(start + side // 2 * 2, SIDE) for start in (top, left))
    return max(top, 0), max(left, 0), bottom, right


def pasted(images: Tensor, earlier: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    top, left, bottom, right = box
    out = images.clone()
    if bottom > top and right > left:
        out[:, :, top:bottom, left:right] = F.interpolate(
            earlier, (bottom - top, right - left), mode="bilinear", antialias=False
        )
    return out


def test_two_steps_by_hand() -> None:
    """Images, labels, the loss with its second term, and its gradients."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, CLASSES))
    mix = augmentations.create("recursivemix", alpha=0.9, omega=0.7)
    bank = augmentations.Bank()
    options: dict[str, Any] = {"generator": seeded(5), "bank": bank}
    loss = mixbench.training_loss(mix, net, FIRST, LABELS, CLASSES, **options)
    torch.testing.assert_close(loss, F.cross_entropy(net(FIRST), LABELS))
    assert bank.images is not None and torch.equal(bank.images, FIRST)
    before, earlier, share = net(FIRST).detach(), FIRST, 0.0
    by_draw, soft = seeded(5), F.one_hot(LABELS, CLASSES).float()
    cut(by_draw, 0.9)
    for images in (SECOND, FIRST.flip(0)):
        plan: Any = mix.sample(images.shape, generator=_copy(by_draw), bank=bank)
        box = cut(by_draw, 0.9)
        assert tuple(plan.box[0].tolist()) == box
        mixed = pasted(images, earlier, box)
        share = (box[2] - box[0]) * (box[3] - box[1]) / SIDE**2
        assert share > 0.05
        soft = (1 - share) * F.one_hot(LABELS, CLASSES) + share * soft
        torch.testing.assert_close(plan.mix_images(images), mixed, atol=1e-5, rtol=0)
        torch.testing.assert_close(plan.mix_labels(LABELS, CLASSES).dense(CLASSES), soft)
        top, left, bottom, right = box
        view = F.interpolate(mixed[:, :, top:bottom, left:right], (SIDE, SIDE), mode="bilinear")
        logits = net(mixed)
        expected = F.cross_entropy(logits, soft)
        expected = expected + 0.7 * share * F.cross_entropy(net(view), before.softmax(1))
        loss = mixbench.training_loss(mix, net, images, LABELS, CLASSES, **options)
        torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            torch.autograd.grad(loss, list(net.parameters())),
            torch.autograd.grad(expected, list(net.parameters())),
            atol=1e-5,
            rtol=1e-4,
        )
        before, earlier = logits.detach(), mixed


def test_pairing_by_class_chooses_among_the_images_before() -> None:
    """By the largest label of a mixed image; a sample whose class was not there stays as it is."""
    earlier = torch.tensor([[0.6, 0.4, 0, 0], [0, 1, 0, 0], [0.1, 0, 0.9, 0], [0.3, 0.7, 0, 0]])
    images = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, SIDE, SIDE)
    bank = augmentations.Bank(images, earlier)
    labels = torch.tensor([1, 3, 0, 1, 2])
    fitting = {
        "same_class": [{1, 3}, set(), {0}, {1, 3}, {2}],
        "other_class": [{0, 2}, {0, 1, 2, 3}, {1, 2, 3}, {0, 2}, {0, 1, 3}],
    }
    for pairing, allowed in fitting.items():
        mix = augmentations.create("recursivemix", pairing=pairing, alpha=1.0)
        shown: list[set[float]] = [set() for _ in labels]
        for seed in range(40):
            given: dict[str, Any] = {"bank": bank, "labels": labels, "generator": seeded(seed)}
            plan = mix.sample((5, 1, SIDE, SIDE), **given)
            mixed = plan.mix_images(torch.full((5, 1, SIDE, SIDE), 9.0))
            assert torch.equal(plan.own_share() < 1, (mixed != 9).flatten(1).any(dim=1))
            for values, image in zip(shown, mixed, strict=True):
                values |= set(image.unique().tolist()) - {9.0}
        assert shown == allowed
    with pytest.raises(ValueError, match=r"pairing: expected labels \(B,\) of classes"):
        mix.sample((5, 1, SIDE, SIDE), bank=bank, labels=torch.rand(5, 4))


def _copy(generator: torch.Generator) -> torch.Generator:
    other = torch.Generator()
    other.set_state(generator.get_state())
    return other


def test_boxes_masks_and_features_know_nothing_of_the_earlier_batch() -> None:
    bank = augmentations.Bank(FIRST, LABELS)
    mix = augmentations.create("recursivemix", alpha=0.9, per_sample=True)
    plan: Any = mix.sample(SECOND.shape, generator=seeded(5), bank=bank)
    masks = torch.arange(4).view(4, 1, 1).repeat(1, SIDE, SIDE)
    assert torch.equal(plan.mix_masks(masks), masks)
    kept = plan.mix_features(torch.ones(4, 2, SIDE, SIDE))
    shown = plan.changed_pixels().unsqueeze(1).expand_as(kept)
    assert torch.equal(kept == 0, shown) and shown.any()
    torch.testing.assert_close(plan.own_share(), kept.mean(dim=(1, 2, 3)))
    assert plan.statistics()["self_pair"] == 0
    with pytest.raises(ValueError, match=r"expected .*, as those of the earlier batch, got"):
        plan.mix_images(torch.rand(4, 1, SIDE, SIDE))


def test_another_size_of_batch_shows_the_first_ones_again() -> None:
    bank = augmentations.Bank(FIRST[:3], LABELS[:3])
    mix = augmentations.create("recursivemix")
    plan: Any = mix.sample(SECOND.shape, generator=seeded(1), bank=bank)
    assert torch.equal(plan.images, FIRST[[0, 1, 2, 0]])
    assert plan.labels.tolist() == [0, 1, 2, 0]
