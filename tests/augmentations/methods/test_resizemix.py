"""ResizeMix: the whole partner in a box of the authors' size and place; weights by its area."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Paste
from tests.support.oracles import (
    assert_distribution,
    assert_mean,
    assert_uniform_counts,
    chosen,
    seeded,
)

SIZES = [(32, 32), (16, 64), (64, 16), (7, 9)]


def sampled(count: int, height: int, width: int, seed: int = 0, **parameters: object) -> Paste:
    mix = augmentations.create("resizemix", per_sample=True, **parameters)
    plan = mix.sample((count, 3, height, width), generator=seeded(seed))
    assert isinstance(plan, Paste)
    return plan


def authors_box(side: int, small: int, centre: int) -> tuple[int, int]:
    """JayQine/ResizeMix, tools/utils.py, `getbox_new`, along one side."""
    start = np.clip(centre - small // 2, 0, side)
    end = np.clip(start + small, 0, side)
    return int(np.clip(end - small, 0, side)), int(end)


@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (7, 8)])
@pytest.mark.parametrize("scale", [0.1, 0.35, 0.8, 1.0])
def test_the_box_is_the_authors_for_every_centre(height: int, width: int, scale: float) -> None:
    row, column = (torch.from_numpy(axis.ravel()) for axis in np.indices((height, width)))
    mix = augmentations.create(
        "resizemix", per_sample=True, min_scale=scale, max_scale=scale, pairing="roll"
    )
    plan = mix.draw(chosen(len(row), height, width, centre=(row, column)))
    assert isinstance(plan, Paste)
    small = int(height * scale), int(width * scale)
    for index in range(len(row)):
        top, bottom = authors_box(height, small[0], int(row[index]))
        left, right = authors_box(width, small[1], int(column[index]))
        assert plan.target[index, 0].tolist() == [top, left, bottom, right]


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_whole_partner_is_in_the_box(height: int, width: int, per_sample: bool) -> None:
    """Against torch's resizing of the whole image to the box's size; the rest is the sample's."""
    images = torch.randn(6, 3, height, width, generator=seeded(1))
    mix = augmentations.create("resizemix", per_sample=per_sample)
    seen = 0
    for seed in range(8):
        mixed = mix(images, torch.arange(6), 6, generator=seeded(seed))
        plan = mixed.plan
        assert isinstance(plan, Paste)
        assert plan.partner is not None
        for sample in range(6):
            top, left, bottom, right = plan.target[sample, 0].tolist()
            expected = images[sample].clone()
            if bottom > top and right > left:
                seen += 1
                expected[:, top:bottom, left:right] = F.interpolate(
                    images[plan.partner[sample]], size=(bottom - top, right - left), mode="bilinear"
                )[0]
            torch.testing.assert_close(mixed.images[sample], expected, atol=1e-5, rtol=0)
            share = (bottom - top) * (right - left) / (height * width)
            weights = mixed.targets.weights[sample].tolist()
            assert weights == pytest.approx([1 - share, share], abs=1e-6)
            assert mixed.targets.labels[sample].tolist() == [sample, int(plan.partner[sample])]
    assert seen > 20


def test_by_hand() -> None:
    """4 x 4 halved: the mean of every four pixels, in the upper left corner; weight 1/4."""
    row = torch.zeros(2, dtype=torch.int64)
    mix = augmentations.create("resizemix", per_sample=True, min_scale=0.5, max_scale=0.5)
    plan = mix.draw(chosen(2, 4, 4, centre=(row, row), seed=1))
    images = torch.stack([torch.zeros(1, 4, 4), torch.arange(16.0).view(1, 4, 4)])
    mixed = plan.mix_images(images)
    met = torch.where(plan.mix_labels(torch.arange(2)).labels[:, 1] == 1)[0]
    expected = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    for sample in met.tolist():
        assert torch.equal(mixed[sample, 0, :2, :2], expected)
    assert len(met) == 1
    assert plan.mix_labels(torch.arange(2)).weights.tolist() == [[0.75, 0.25]] * 2


@pytest.mark.parametrize(("low", "high"), [(0.1, 0.8), (0.25, 0.5)])
def test_the_scale_is_uniform(low: float, high: float) -> None:
    plan = sampled(8000, 1000, 1000, min_scale=low, max_scale=high)
    box = plan.target[:, 0]
    side = (box[:, 2] - box[:, 0]).double()
    assert torch.equal(box[:, 3] - box[:, 1], box[:, 2] - box[:, 0])
    # Sides are cut off to whole pixels of 1000: half of one is added. False alarm 1e-6.
    assert_distribution(
        (side + 0.5) / 1000, lambda x: np.clip((x - low) / (high - low), 0, 1), 0.0, 1.0
    )
    # E[τ²] of a uniform; |z| < 5, false alarm 6e-7 (rounding moves it by less than 0.001).
    assert_mean((side + 0.5).square() / 1e6, (high**3 - low**3) / (3 * (high - low)))


def test_placements() -> None:
    """A side of 4 in 10: uniform over 7 starts, or pushed, so that the ends have three in ten."""
    counts = {}
    for placement in ("inside", "pushed"):
        plan = sampled(20_000, 10, 10, min_scale=0.4, max_scale=0.4, placement=placement)
        top, left, bottom, right = plan.target[:, 0].unbind(1)
        assert bool((bottom - top == 4).all())
        assert bool((right - left == 4).all())
        counts[placement] = [
            np.bincount(start.numpy(), minlength=7).astype(float) for start in (top, left)
        ]
    for found in counts["inside"]:
        assert len(found) == 7
        assert_uniform_counts(found)  # chi-square, false alarm 1e-6
    for found in counts["pushed"]:
        # Centres 0, 1, 2 have start 0; 3 to 7 have 1 to 5; 8 and 9 have start 6.
        assert len(found) == 7
        assert_uniform_counts(found / np.array([3, 1, 1, 1, 1, 1, 2]) * 10 / 7)


def test_sides_are_not_swapped() -> None:
    plan = sampled(500, 16, 64, min_scale=0.5, max_scale=0.5)
    box = plan.target[:, 0]
    assert (box[:, 2] - box[:, 0]).unique().tolist() == [8]
    assert (box[:, 3] - box[:, 1]).unique().tolist() == [32]
    assert int(box[:, 2].max()) == 16
    assert int(box[:, 3].max()) == 64


def test_a_side_cut_off_to_nothing_leaves_the_image() -> None:
    plan = sampled(5, 8, 200, min_scale=0.1, max_scale=0.1)
    images: Tensor = torch.rand(5, 1, 8, 200, generator=seeded(0))
    assert torch.equal(plan.mix_images(images), images)
    assert torch.equal(plan.mix_labels(torch.arange(5)).weights[:, 0], torch.ones(5))


def test_scales_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"resizemix\.min_scale: got 0\.9, expected at most max_"):
        augmentations.create("resizemix", min_scale=0.9)
    with pytest.raises(ValueError, match=r"resizemix\.max_scale: got 1\.5, expected"):
        augmentations.create("resizemix", max_scale=1.5)
