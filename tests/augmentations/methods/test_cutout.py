"""Cutout: the authors' square for every centre, 19.1% of a 32 x 32 image, labels kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mixbench import augmentations
from tests.support.oracles import assert_mean, assert_uniform_counts, boxes_of, chosen, seeded


def authors_mask(height: int, width: int, length: int, row: Any, column: Any) -> np.ndarray:
    """uoguelph-mlrg/Cutout, `Cutout.__call__`: True where the image is blanked."""
    mask = np.zeros((height, width), dtype=bool)
    top, bottom = np.clip(row - length // 2, 0, height), np.clip(row + length // 2, 0, height)
    left, right = np.clip(column - length // 2, 0, width), np.clip(column + length // 2, 0, width)
    mask[top:bottom, left:right] = True
    return mask


def blanked(
    height: int, width: int, size: int, row: np.ndarray, column: np.ndarray
) -> torch.Tensor:
    draws = chosen(
        len(row), height, width, centre=(torch.from_numpy(row), torch.from_numpy(column))
    )
    plan = augmentations.create("cutout", size=size).draw(draws)
    return plan.mix_images(torch.ones(len(row), 1, height, width))[:, 0] == 0


@pytest.mark.parametrize("size", [1, 4, 5, 12, 16, 20])
@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12), (7, 20)])
def test_the_square_is_the_authors_for_every_centre(height: int, width: int, size: int) -> None:
    row, column = (axis.ravel() for axis in np.indices((height, width)))
    expected = [
        authors_mask(height, width, size, *centre) for centre in zip(row, column, strict=True)
    ]
    assert np.array_equal(blanked(height, width, size, row, column).numpy(), np.stack(expected))


def test_mean_erased_area() -> None:
    """19.1%, not 25%, for 16 on 32 x 32: exact over all centres, and as drawn."""
    masks = [authors_mask(32, 32, 16, row, column) for row in range(32) for column in range(32)]
    exact = float(np.mean(masks))
    assert exact == pytest.approx(0.191, abs=0.0005)
    plan = augmentations.create("cutout").sample((6000, 1, 32, 32), generator=seeded(0))
    erased = (plan.mix_images(torch.ones(6000, 1, 32, 32)) == 0).double().mean(dim=(1, 2, 3))
    assert_mean(erased, exact)  # |z| < 5, false alarm 6e-7; 25% would be 60 standard errors away


def test_centres_are_uniform_on_both_sides() -> None:
    """A 2 x 2 square: its bottom edge is centre + 1, clipped, so rows 5 and 6 share one."""
    plan = augmentations.create("cutout", size=2).sample((20_000, 1, 7, 11), generator=seeded(1))
    masks = plan.mix_images(torch.ones(20_000, 1, 7, 11))[:, 0] == 0
    top, left, _, _ = boxes_of(masks).unbind(1)
    # Centres 0 and 1 have top 0; centres 2..6 have top 1..5. Chi-square, false alarm 1e-6.
    for corner, side in ((top, 7), (left, 11)):
        counts = np.bincount(corner.numpy(), minlength=side - 1)
        assert len(counts) == side - 1
        assert counts[0] == pytest.approx(2 * 20_000 / side, abs=5 * (20_000 * 2 / side) ** 0.5)
        assert_uniform_counts(counts[1:])


def test_a_square_larger_than_the_image_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cutout\.size: got 25, expected at most 24, the longer"):
        augmentations.create("cutout", size=25).sample((20, 3, 16, 24))
    assert augmentations.create("cutout", size=24).sample((20, 3, 16, 24)).batch == 20


def test_the_default_is_clipped_to_small_images() -> None:
    plan = augmentations.create("cutout").sample((20, 3, 8, 4), generator=seeded(0))
    assert not plan.mix_images(torch.ones(20, 3, 8, 4)).any()


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_label_is_untouched_even_if_all_is_blank(per_sample: bool) -> None:
    mix = augmentations.create("cutout", per_sample=per_sample)
    labels = torch.tensor([3, 1, 4])
    targets = mix(torch.ones(3, 1, 8, 8), labels, 10, generator=seeded(0)).targets
    assert torch.equal(targets.dense(10), torch.nn.functional.one_hot(labels, 10).float())


@pytest.mark.parametrize("per_sample", [False, True])
def test_fill(per_sample: bool) -> None:
    images = torch.rand(6, 3, 12, 12, generator=seeded(0)) + 1
    for fill in (0.0, -2.5, "mean"):
        mix = augmentations.create("cutout", size=6, fill=fill, per_sample=per_sample)
        mixed = mix.sample(images.shape, generator=seeded(1)).mix_images(images)
        changed = (mixed != images).all(dim=1)
        assert bool(changed.flatten(1).any(dim=1).all())
        for channel in range(3):
            value = images[:, channel].mean() if fill == "mean" else torch.tensor(fill)
            values = mixed[:, channel][changed]
            torch.testing.assert_close(values, value.expand_as(values))
            assert torch.equal(mixed[:, channel][~changed], images[:, channel][~changed])


def test_by_default_every_image_has_its_own_square() -> None:
    images = torch.ones(64, 1, 32, 32)
    drawn = augmentations.create("cutout").sample(images.shape, generator=seeded(2))
    assert len({tuple(mask.flatten().tolist()) for mask in drawn.mix_images(images)}) > 50


@pytest.mark.parametrize(("height", "width"), [(12, 20), (20, 12)])
@pytest.mark.parametrize("size", [1, 5, 12])
def test_inside_is_always_whole(height: int, width: int, size: int) -> None:
    """A square of size² pixels, odd sizes too, uniform over where it fits; false alarm 1e-6."""
    mix = augmentations.create("cutout", size=size, placement="inside")
    plan = mix.sample((9000, 1, height, width), generator=seeded(3))
    blank = plan.mix_images(torch.ones(9000, 1, height, width))[:, 0] == 0
    top, left, bottom, right = boxes_of(blank).unbind(1)
    assert bool((bottom - top == size).all())
    assert bool((right - left == size).all())
    assert bool((blank.sum(dim=(1, 2)) == size * size).all())
    for corner, side in ((top, height), (left, width)):
        counts = np.bincount(corner.numpy(), minlength=side - size + 1)
        assert len(counts) == side - size + 1
        if len(counts) > 1:
            assert_uniform_counts(counts)


def test_a_square_that_can_not_lie_inside_is_refused() -> None:
    mix = augmentations.create("cutout", size=13, placement="inside")
    with pytest.raises(ValueError, match=r"cutout\.size: got 13, expected at most 12, the shorter"):
        mix.sample((4, 3, 12, 20))
    assert mix.sample((4, 3, 13, 20)).batch == 4
