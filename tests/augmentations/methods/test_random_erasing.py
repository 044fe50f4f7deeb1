"""Random Erasing against the authors' loop: area, uniform aspect, strict fit, fill, probability."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations.methods.random_erasing import MOST_TRIES, RandomErasing
from tests.support.oracles import (
    assert_full_rectangles,
    assert_rate,
    assert_same_distribution,
    boxes_of,
    seeded,
)


@cache
def authors_boxes(height: int, width: int, count: int, log_uniform: bool = False) -> np.ndarray:
    """zhunzhong07/Random-Erasing, `RandomErasing.__call__`: (count, 4); zeros where none fits.

    `log_uniform`: the aspect as timm and torchvision draw it, to show that the tests can tell.
    """
    sampler = random.Random(0)
    boxes = np.zeros((count, 4), dtype=int)
    for index in range(count):
        for _ in range(100):
            area = sampler.uniform(0.02, 0.4) * height * width
            if log_uniform:
                aspect = math.exp(sampler.uniform(math.log(0.3), math.log(1 / 0.3)))
            else:
                aspect = sampler.uniform(0.3, 1 / 0.3)
            high, wide = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if wide < width and high < height:
                top, left = sampler.randint(0, height - high), sampler.randint(0, width - wide)
                boxes[index] = top, left, top + high, left + wide
                break
    return boxes


def erased_boxes(height: int, width: int, count: int, **parameters: Any) -> np.ndarray:
    """What was erased, read from the pixels: (count, 4)."""
    images = torch.ones(count, 1, height, width)
    mix = augmentations.create("random_erasing", **{"prob": 1.0, "fill": 0.0, **parameters})
    mask = mix.sample(images.shape, generator=seeded(0)).mix_images(images)[:, 0] == 0
    assert_full_rectangles(mask)
    return boxes_of(mask).numpy()


def measures(boxes: np.ndarray) -> dict[str, np.ndarray]:
    top, left, bottom, right = boxes.T
    high, wide = bottom - top, right - left
    return {
        "height": high,
        "width": wide,
        "area": high * wide,
        "aspect": high / np.maximum(wide, 1),
        "top": top,
        "left": left,
        "bottom": bottom,
        "right": right,
    }


@pytest.mark.parametrize(("height", "width"), [(40, 40), (16, 64), (64, 16), (7, 9)])
def test_boxes_are_distributed_as_the_authors(height: int, width: int) -> None:
    """Height, width, area, aspect and all four edges; false alarm 1e-6 each."""
    ours = measures(erased_boxes(height, width, 4000))
    authors = measures(authors_boxes(height, width, 8000))
    for name, values in ours.items():
        try:
            assert_same_distribution(values, authors[name])
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from None


def test_the_aspect_is_not_log_uniform() -> None:
    """The comparison above tells the authors' aspect from timm's and torchvision's."""
    ours = measures(erased_boxes(40, 40, 4000))
    other = measures(authors_boxes(40, 40, 8000, log_uniform=True))
    with pytest.raises(AssertionError, match="distance"):
        assert_same_distribution(ours["aspect"], other["aspect"])
    # Uniform on (0.3, 3.33): 23% lie wider than high, less where it doesn't fit; log-uniform: 50%.
    assert (ours["width"] > ours["height"]).mean() < 0.3


def test_half_of_the_images_are_erased_by_default() -> None:
    # At 32 x 32 every rectangle has at least 0.02 * 1024 pixels, so a hit always shows.
    # |z| < 5, false alarm 6e-7 each.
    images = torch.ones(6000, 1, 32, 32)
    plan = augmentations.create("random_erasing", fill=0.0).sample(
        images.shape, generator=seeded(1)
    )
    erased = (plan.mix_images(images) == 0).flatten(1).any(dim=1)
    assert_rate(int(erased.sum()), 6000, 0.5)
    # Neighbours are independent: one in four pairs has both.
    pairs = erased.view(-1, 2)
    assert_rate(int(pairs.all(dim=1).sum()), 3000, 0.25)


def test_area_bounds() -> None:
    areas = measures(erased_boxes(100, 100, 2000, min_area=0.1, max_area=0.2))["area"] / 100**2
    # Sides are rounded: half a pixel of each.
    assert areas.min() > 0.09
    assert areas.max() < 0.21
    # Uniform between: the mean is 0.15 but for 5 standard errors (6e-7) and the rounding.
    assert areas.mean() == pytest.approx(0.15, abs=5 * 0.1 / math.sqrt(12 * 2000) + 0.001)


def test_a_square_only() -> None:
    boxes = measures(erased_boxes(50, 50, 500, min_aspect=1.0))
    assert np.array_equal(boxes["height"], boxes["width"])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (4, 20), (20, 4)])
def test_it_never_reaches_from_side_to_side(height: int, width: int) -> None:
    boxes = measures(erased_boxes(height, width, 4000))
    assert boxes["height"].max() == height - 1 or height > width
    assert boxes["width"].max() == width - 1 or width > height
    assert boxes["height"].max() < height
    assert boxes["width"].max() < width


def test_what_never_fits_leaves_the_image_whole() -> None:
    """Area above 90% of 4 x 4: 3 x 3 is the largest strict rectangle, and too small."""
    for per_sample in (False, True):
        boxes = erased_boxes(4, 4, 500, min_area=0.9, max_area=1.0, per_sample=per_sample)
        assert not boxes.any()
    assert not erased_boxes(1, 1, 500).any()


@pytest.mark.parametrize("size", [(28, 28), (224, 224), (16, 64), (20, 4), (5, 5), (2, 2), (1, 1)])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"min_aspect": 1.0},
        {"min_aspect": 0.1},
        {"max_area": 1.0},
        {"min_area": 0.3},
        {"min_area": 0.9, "max_area": 1.0},
        {"max_area": 0.0201},
        {"min_aspect": 0.01},
    ],
    ids=str,
)
def test_so_many_tries_that_one_fits(given: dict[str, float], size: tuple[int, int]) -> None:
    """The authors' 100, or none of them fits in one of 10^9 images: counted in a million tries."""
    mix = RandomErasing(**given)
    tries = mix._tries(*size)
    if tries == MOST_TRIES:
        return
    area = np.random.default_rng(0).uniform(mix.min_area, mix.max_area, 10**6) * size[0] * size[1]
    aspect = np.random.default_rng(1).uniform(mix.min_aspect, 1 / mix.min_aspect, 10**6)
    fits = (np.rint(np.sqrt(area * aspect)) < size[0]) & (np.rint(np.sqrt(area / aspect)) < size[1])
    assert (1 - fits.mean()) ** tries < 1e-9


def test_few_tries_where_nearly_all_fit() -> None:
    assert RandomErasing()._tries(32, 32) < 15


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_fill_is_the_batchs_mean_of_each_channel(per_sample: bool, dtype: torch.dtype) -> None:
    levels = torch.tensor([1.0, 10.0, 100.0]).view(1, 3, 1, 1)
    images = ((torch.rand(6, 3, 24, 32, generator=seeded(0)) + 0.5) * levels).to(dtype)
    mix = augmentations.create("random_erasing", prob=1.0, per_sample=per_sample)
    mixed = mix(images, torch.arange(6), generator=seeded(1))
    changed = (mixed.images != images).any(dim=1)
    assert_full_rectangles(changed)
    assert bool(changed.flatten(1).any(dim=1).all())
    for channel in range(3):
        values = mixed.images[:, channel][changed]
        expected = images[:, channel].double().mean().to(dtype)
        torch.testing.assert_close(values, expected.expand_as(values))
        assert torch.equal(mixed.images[:, channel][~changed], images[:, channel][~changed])
    assert torch.equal(mixed.targets.labels.flatten(), torch.arange(6))
    assert torch.equal(mixed.targets.weights, torch.ones(6, 1))


def test_areas_must_be_in_order() -> None:
    with pytest.raises(ValueError, match=r"random_erasing\.min_area: got 0\.5, expected at most"):
        augmentations.create("random_erasing", min_area=0.5)
