"""RICAP: exact quadrant weights, empty quadrants, crops, four independent permutations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta

from mixbench import augmentations
from tests.support.oracles import (
    assert_mean,
    assert_rate,
    assert_uniform_counts,
    chosen,
    located_images,
    seeded,
)

SIZES = [(16, 16), (16, 64), (64, 16), (9, 7)]


def chance_of_an_end(side: int, shape: float = 0.3) -> float:
    """round(side * Beta) is 0 or `side`: the cut leaves one side of it empty."""
    return 2 * float(beta.cdf(0.5 / side, shape, shape))


def quadrants(row: int, column: int, height: int, width: int) -> list[tuple[slice, slice]]:
    up, down = slice(0, row), slice(row, height)
    left, right = slice(0, column), slice(column, width)
    return [(up, left), (up, right), (down, left), (down, right)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("per_sample", [False, True])
def test_every_quadrant_is_a_crop_of_one_source(size: tuple[int, int], per_sample: bool) -> None:
    """The cut is found from the label weights, and every pixel must then tell one source and one

    offset per quadrant, inside the source; areas are the weights exactly.
    """
    height, width = size
    batch = 64
    images = located_images(batch, height, width)
    mix = augmentations.create("ricap", per_sample=per_sample)
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    full = 0
    for seed in range(8):
        mixed = mix(images, torch.arange(batch), generator=seeded(seed))
        area = mixed.targets.weights.double() * height * width
        assert torch.equal(area.round().sum(dim=1), torch.full((batch,), height * width).double())
        torch.testing.assert_close(area, area.round(), atol=1e-3, rtol=0)
        for sample in range(batch):
            upper = float(area[sample, :2].sum()) / width
            left = float(area[sample, 0] + area[sample, 2]) / height
            row, column = round(upper), round(left)
            assert upper == pytest.approx(row, abs=1e-3)
            assert left == pytest.approx(column, abs=1e-3)
            for part, (down, across) in enumerate(quadrants(row, column, height, width)):
                source, from_row, from_column = mixed.images[sample, :, down, across].long()
                assert source.numel() == round(float(area[sample, part]))
                if not source.numel():
                    continue
                full += 1
                assert bool((source == mixed.targets.labels[sample, part]).all())
                assert len((from_row - rows[down]).unique()) == 1
                assert len((from_column - columns[:, across]).unique()) == 1
    assert full > 8 * batch  # the loop above has seen quadrants


@pytest.mark.parametrize(("height", "width"), [(32, 32), (16, 64), (28, 28)])
def test_empty_quadrants_are_as_common_as_they_must_be(height: int, width: int) -> None:
    # |z| < 5, false alarm 6e-7 each.
    count = 40_000
    plan = augmentations.create("ricap", per_sample=True).sample(
        (count, 3, height, width), generator=seeded(0)
    )
    weights = plan.mix_labels(torch.arange(count)).weights
    across, down = chance_of_an_end(width), chance_of_an_end(height)
    some_empty = 1 - (1 - across) * (1 - down)
    if height == width == 32:
        assert some_empty == pytest.approx(0.54, abs=0.005)
        assert across * down == pytest.approx(0.10, abs=0.005)
    assert_rate(int((weights == 0).any(dim=1).sum()), count, some_empty)
    assert_rate(int((weights == 1).any(dim=1).sum()), count, across * down)
    for part in range(4):
        assert_mean(weights[:, part], 0.25)


def test_cuts_are_beta_and_independent() -> None:
    """From the weights: the upper share is row / H, the left share column / W."""
    count, height, width = 20_000, 16, 64
    plan = augmentations.create("ricap", per_sample=True).sample(
        (count, 3, height, width), generator=seeded(1)
    )
    area = plan.mix_labels(torch.arange(count)).weights.double() * height * width
    row = ((area[:, 0] + area[:, 1]) / width).round().long()
    column = ((area[:, 0] + area[:, 2]) / height).round().long()
    for cut, side in ((row, height), (column, width)):
        # Share of each whole number between its halves; each |z| < 5, false alarm 6e-7.
        edges = beta.cdf((np.arange(side + 2) - 0.5) / side, 0.3, 0.3)
        for value, chance in enumerate(np.diff(edges)):
            assert_rate(int((cut == value).sum()), count, float(chance))
    product = (row / height - 0.5) * (column / width - 0.5)
    assert_mean(product, 0.0)


def test_four_independent_permutations() -> None:
    batch, repeats = 8, 1500
    mix, generator = augmentations.create("ricap"), seeded(2)
    found = torch.stack(
        [
            mix.sample((batch, 3, 4, 4), generator=generator).mix_labels(torch.arange(batch)).labels
            for _ in range(repeats)
        ]
    )
    ordered = found.sort(dim=1).values
    assert torch.equal(ordered, torch.arange(batch).view(1, -1, 1).expand_as(ordered))
    first = found[:, 0]
    for part in range(4):
        # Who is in a quadrant of sample 0: uniform. Chi-square, false alarm 1e-6.
        assert_uniform_counts(np.bincount(first[:, part].numpy(), minlength=batch))
        for other in range(part):
            # Every pair of sources of two quadrants as often: independent. False alarm 1e-6.
            pairs = first[:, part] * batch + first[:, other]
            assert_uniform_counts(np.bincount(pairs.numpy(), minlength=batch * batch))


def test_crops_start_anywhere_they_fit() -> None:
    """Cut in the middle of 8 x 12: offsets 0..4 down and 0..6 across, uniform, one per quadrant."""
    count = 7000
    half = torch.full((count,), 0.5, dtype=torch.float64)
    plan = augmentations.create("ricap", per_sample=True).draw(chosen(count, 8, 12, lam=half))
    mixed = plan.mix_images(located_images(count, 8, 12)).long()
    offsets = []
    for down, across in quadrants(4, 6, 8, 12):
        corner = mixed[:, 1:, down.start, across.start]
        assert int(corner[:, 0].max()) == 4
        assert int(corner[:, 1].max()) == 6
        offsets.append(corner[:, 0] * 7 + corner[:, 1])
        # Chi-square on the 35 corners, false alarm 1e-6.
        assert_uniform_counts(np.bincount(offsets[-1].numpy(), minlength=35))
    for part in range(4):
        for other in range(part):
            # Independent of each other: the same corner once in 35. |z| < 5, false alarm 6e-7.
            assert_rate(int((offsets[part] == offsets[other]).sum()), count, 1 / 35)


def test_a_cut_at_the_end_is_a_whole_image() -> None:
    for lam, part in ((1.0, 0), (0.0, 3)):
        cut = torch.full((20,), lam, dtype=torch.float64)
        mix = augmentations.create("ricap", per_sample=True, pairing="derange")
        plan = mix.draw(chosen(20, 8, 12, lam=cut))
        images = located_images(20, 8, 12)
        targets = plan.mix_labels(torch.arange(20))
        source = targets.labels[:, part]
        assert torch.equal(plan.mix_images(images), images[source])
        assert torch.equal(targets.weights[:, part], torch.ones(20))
        assert not (source == torch.arange(20)).any()


@pytest.mark.parametrize("prob_side", [False, True])
def test_a_sample_that_is_not_mixed_keeps_its_own_label(prob_side: bool) -> None:
    """RICAP has nothing of the sample in its quadrants: leaving it whole must put it back."""
    images = located_images(200, 8, 12)
    plan = augmentations.create("ricap", per_sample=prob_side, prob=0.5, pairing="derange")
    kept = 0
    for seed in range(10):
        mixed = plan(images, torch.arange(200), generator=seeded(seed))
        same = (mixed.images == images).flatten(1).all(dim=1)
        kept += int(same.sum())
        own = mixed.targets.dense(200).diagonal()
        assert torch.equal(own, same.float())
    # |z| < 5, false alarm 6e-7 per sample; per batch 10 coins: all the same 2e-3 with a seed fixed.
    if prob_side:
        assert_rate(kept, 2000, 0.5)
    else:
        assert 0 < kept < 2000
