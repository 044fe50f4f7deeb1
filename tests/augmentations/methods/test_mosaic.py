"""Mosaic: four quadrants around the authors' cut, exact areas, whole, cropped or resized parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.plans.base import Batch
from tests.support.oracles import assert_rate, assert_uniform_counts, located_images, seeded

SIZES = [(16, 16), (16, 64), (64, 16), (9, 7)]


def mixed(
    images: Tensor, seed: int, per_sample: bool = True, parts: str = "same_place", **others: object
) -> Batch:
    mix = augmentations.create(
        "mosaic", **{"prob": 1.0, "per_sample": per_sample, "parts": parts, **others}
    )
    return mix(images, torch.arange(images.shape[0]), generator=seeded(seed))


def cut_of(batch: Batch, sample: int, height: int, width: int) -> tuple[int, int]:
    """The row and column of the cut, from the weights of the four quadrants."""
    area = (batch.targets.weights[sample].double() * height * width).tolist()
    row, column = (area[0] + area[1]) / width, (area[0] + area[2]) / height
    assert row == pytest.approx(round(row), abs=1e-3)
    assert column == pytest.approx(round(column), abs=1e-3)
    for found, expected in zip(
        area,
        (
            row * column,
            row * (width - column),
            (height - row) * column,
            (height - row) * (width - column),
        ),
        strict=True,
    ):
        assert found == pytest.approx(expected, abs=1e-2)
    return round(row), round(column)


def quadrants(row: int, column: int, height: int, width: int) -> list[tuple[slice, slice]]:
    up, down = slice(0, row), slice(row, height)
    left, right = slice(0, column), slice(column, width)
    return [(up, left), (up, right), (down, left), (down, right)]


@pytest.mark.parametrize("parts", ["same_place", "crop", "resize"])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_every_quadrant_is_one_source(size: tuple[int, int], per_sample: bool, parts: str) -> None:
    """The same pixels, a crop with one offset, or torch's resizing of the whole image."""
    height, width = size
    images = located_images(12, height, width)
    rows = torch.arange(height).view(-1, 1)
    columns = torch.arange(width).view(1, -1)
    for seed in range(4):
        batch = mixed(images, seed, per_sample, parts)
        assert torch.equal(batch.targets.labels[:, 0], torch.arange(12))
        cuts = set()
        for sample in range(12):
            cut = cut_of(batch, sample, height, width)
            cuts.add(cut)
            assert int(0.2 * height) <= cut[0] <= int(0.8 * height)
            assert int(0.2 * width) <= cut[1] <= int(0.8 * width)
            for part, (down, across) in enumerate(quadrants(*cut, height, width)):
                source = int(batch.targets.labels[sample, part])
                found = batch.images[sample, :, down, across]
                if parts == "same_place":
                    assert torch.equal(found, images[source, :, down, across])
                elif parts == "resize":
                    expected = F.interpolate(
                        images[source : source + 1], size=found.shape[1:], mode="bilinear"
                    )[0]
                    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
                else:
                    assert bool((found[0] == source).all())
                    assert len((found[1] - rows[down]).unique()) == 1
                    assert len((found[2] - columns[:, across]).unique()) == 1
        assert len(cuts) == 1 if not per_sample else len(cuts) > 3


def test_by_hand() -> None:
    """A 2 x 2 image, cut in the middle: one pixel of each of four images, a quarter each."""
    images = torch.arange(1.0, 5.0).view(4, 1, 1, 1).repeat(1, 1, 2, 2)
    batch = mixed(images, 0, pairing="roll", min_offset=0.5)
    assert batch.images[:, 0].tolist() == [
        [[1.0, 2.0], [3.0, 4.0]],
        [[2.0, 3.0], [4.0, 1.0]],
        [[3.0, 4.0], [1.0, 2.0]],
        [[4.0, 1.0], [2.0, 3.0]],
    ]
    assert batch.targets.labels.tolist() == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    assert batch.targets.weights.tolist() == [[0.25] * 4] * 4


def test_resized_by_hand() -> None:
    """4 x 4 images cut in the middle: each quadrant is a whole image, the mean of every four."""
    images = torch.arange(16.0).view(1, 1, 4, 4) + 100 * torch.arange(4.0).view(4, 1, 1, 1)
    batch = mixed(images, 0, parts="resize", pairing="roll", min_offset=0.5)
    small = torch.tensor([[2.5, 4.5], [10.5, 12.5]])
    expected = torch.cat(
        [torch.cat([small, small + 100], 1), torch.cat([small + 200, small + 300], 1)]
    )
    assert torch.equal(batch.images[0, 0], expected)


def test_cuts_are_uniform() -> None:
    """From 0.2 to 0.8 of each side, both ends included, independent; chi-square, 1e-6 each."""
    count, height, width = 20_000, 10, 21
    mix = augmentations.create("mosaic", prob=1.0)
    weights = (
        mix.sample((count, 1, height, width), generator=seeded(1))
        .mix_labels(torch.arange(count))
        .weights.double()
    )
    row = ((weights[:, 0] + weights[:, 1]) * height).round().long() - 2
    column = ((weights[:, 0] + weights[:, 2]) * width).round().long() - 4
    assert (int(row.min()), int(row.max())) == (0, 6)
    assert (int(column.min()), int(column.max())) == (0, 12)
    assert_uniform_counts(np.bincount((row * 13 + column).numpy(), minlength=7 * 13))


def test_three_independent_permutations() -> None:
    """Who is in the other quadrants, for a batch of 5: every pair as often; chi-square, 1e-6."""
    mix, generator = augmentations.create("mosaic"), seeded(2)
    found = torch.stack(
        [
            mix.sample((5, 1, 4, 4), generator=generator).mix_labels(torch.arange(5)).labels
            for _ in range(1500)
        ]
    )
    assert torch.equal(found[..., 0], torch.arange(5).expand(1500, 5))
    ordered = found.sort(dim=1).values
    assert torch.equal(ordered, torch.arange(5).view(1, -1, 1).expand_as(ordered))
    first = found[:, 0]
    for part in (1, 2, 3):
        for other in range(1, part):
            pairs = first[:, part] * 5 + first[:, other]
            assert_uniform_counts(np.bincount(pairs.numpy(), minlength=25))


def test_pairings() -> None:
    for pairing, expected in (
        ("roll", [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]),
        ("flip", [[0, 3, 0, 3], [1, 2, 1, 2], [2, 1, 2, 1], [3, 0, 3, 0]]),
    ):
        plan = augmentations.create("mosaic", pairing=pairing, prob=1.0).sample((4, 1, 8, 8))
        assert plan.mix_labels(torch.arange(4)).labels.tolist() == expected
    plan = augmentations.create("mosaic", pairing="derange").sample(
        (6, 1, 8, 8), generator=seeded(0)
    )
    labels = plan.mix_labels(torch.arange(6)).labels
    assert not bool((labels[:, 1:] == torch.arange(6).view(-1, 1)).any())


@pytest.mark.parametrize("parts", ["same_place", "crop", "resize"])
def test_half_of_the_samples_are_mixed_unless_told_otherwise(parts: str) -> None:
    """|z| < 5, false alarm 6e-7; a sample that is not mixed is whole and has its own label."""
    images = located_images(500, 6, 6)
    mix = augmentations.create("mosaic", parts=parts, pairing="derange")
    batch = mix(images, torch.arange(500), generator=seeded(3))
    same = (batch.images == images).flatten(1).all(dim=1)
    assert torch.equal(batch.targets.dense(500).diagonal() == 1, same)
    assert_rate(int(same.sum()), 500, 0.5)


def test_the_offset_keeps_the_cut_from_the_border() -> None:
    for offset in (0.0, 0.3, 0.5):
        batch = mixed(located_images(400, 10, 20), 4, min_offset=offset)
        cuts = [cut_of(batch, sample, 10, 20) for sample in range(400)]
        assert min(row for row, _ in cuts) == 10 * offset
        assert max(row for row, _ in cuts) == 10 - 10 * offset
        assert min(column for _, column in cuts) == 20 * offset
        assert max(column for _, column in cuts) == 20 - 20 * offset
