"""CutMix: the authors' boxes bit for bit, labels from the clipped box, sides not swapped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta

from mixbench import augmentations
from tests.support.oracles import (
    assert_distribution,
    assert_full_rectangles,
    assert_mean,
    assert_uniform_counts,
    boxes_of,
    chosen,
    located_images,
    seeded,
)

SIZES = [(32, 32), (16, 64), (64, 16), (31, 33), (33, 32), (28, 28), (1, 9)]


def authors_box(
    height: int, width: int, lam: np.ndarray, row: np.ndarray, column: np.ndarray
) -> tuple[np.ndarray, ...]:
    """`rand_bbox` of clovaai/CutMix-PyTorch, in double precision: top, left, bottom, right."""
    cut_ratio = np.sqrt(1.0 - lam)
    cut_height = (height * cut_ratio).astype(int)
    cut_width = (width * cut_ratio).astype(int)
    return (
        np.clip(row - cut_height // 2, 0, height),
        np.clip(column - cut_width // 2, 0, width),
        np.clip(row + cut_height // 2, 0, height),
        np.clip(column + cut_width // 2, 0, width),
    )


def expected_own_weight(height: int, width: int, clipped: bool) -> float:
    """Exact mean of 1 - area for λ ~ U(0, 1): the ratio's square is uniform, so sum over it.

    The integral over λ is taken on a fine grid; the mean over centres is exact.
    """
    ratio = np.sqrt((np.arange(200_000) + 0.5) / 200_000)

    def mean_side(side: int) -> np.ndarray:
        cut = np.arange(side + 1)
        if not clipped:
            return cut.astype(float)
        centre = np.arange(side)[:, None]
        low = np.clip(centre - cut // 2, 0, side)
        high = np.clip(centre + cut // 2, 0, side)
        return (high - low).mean(axis=0)

    rows = mean_side(height)[(height * ratio).astype(int)]
    columns = mean_side(width)[(width * ratio).astype(int)]
    return 1 - float((rows * columns).mean()) / (height * width)


def own_weights(height: int, width: int, count: int = 40_000, **parameters: Any) -> torch.Tensor:
    plan = augmentations.create("cutmix", per_sample=True, **parameters).sample(
        (count, 3, height, width), generator=seeded(1)
    )
    return plan.mix_labels(torch.arange(count)).weights[:, 0]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_boxes_are_the_authors_bit_for_bit(height: int, width: int) -> None:
    """Read from the pixels, for random λ and for those where the side is just a whole number.

    1 - (k/side)^2 in double precision is where single precision cuts to the other whole number.
    """
    sampler = np.random.default_rng(0)
    edges = [1.0 - (np.arange(side + 1) / side) ** 2 for side in (height, width)]
    lam = np.concatenate([sampler.random(300), *edges, [0.0, 1.0, 1e-12, 1 - 1e-12]])
    row, column = sampler.integers(height, size=len(lam)), sampler.integers(width, size=len(lam))
    if height == width:
        column = row
    draws = chosen(
        len(lam),
        height,
        width,
        lam=torch.from_numpy(lam),
        centre=(torch.from_numpy(row), torch.from_numpy(column)),
    )
    plan = augmentations.create("cutmix", per_sample=True, pairing="roll").draw(draws)
    images = located_images(len(lam), height, width)
    mixed = plan.mix_images(images)

    pasted = mixed[:, 0] != images[:, 0]
    top, left, bottom, right = authors_box(height, width, lam, row, column)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    at = (slice(None), None, None)
    expected = (rows >= top[at]) & (rows < bottom[at])
    expected = expected & (columns >= left[at]) & (columns < right[at])
    assert np.array_equal(pasted.numpy(), expected)

    # Labels: λ computed again from what is left of the box.
    area = (bottom - top) * (right - left)
    own = plan.mix_labels(torch.arange(len(lam))).weights[:, 0].numpy()
    assert np.array_equal(own, ((height * width - area) / (height * width)).astype(np.float32))


@pytest.mark.parametrize("placement", ["clipped", "inside"])
@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("size", [(16, 64), (64, 16), (9, 11)])
def test_pixels_come_from_the_same_place_of_one_partner(
    placement: str, per_sample: bool, size: tuple[int, int]
) -> None:
    images = located_images(64, *size)
    mix = augmentations.create("cutmix", placement=placement, per_sample=per_sample)
    for seed in range(5):
        mixed = mix(images, torch.arange(64), generator=seeded(seed))
        assert torch.equal(mixed.images[:, 1:], images[:, 1:])  # row and column stay
        own, partner = mixed.targets.labels.unbind(1)
        assert torch.equal(own, torch.arange(64))
        pasted = mixed.images[:, 0] != images[:, 0]
        assert_full_rectangles(pasted)
        other = partner.view(-1, 1, 1).expand_as(pasted)
        assert torch.equal(mixed.images[:, 0][pasted].long(), other[pasted])


def test_height_and_width_are_not_swapped() -> None:
    """λ = 0 covers it all; λ = 0.5 cuts int(H r) rows and int(W r) columns, r = √0.5."""
    ratio = np.sqrt(0.5)
    for height, width in ((16, 64), (64, 16)):
        for lam, sides in (
            (0.0, (height, width)),
            (0.5, (int(height * ratio), int(width * ratio))),
        ):
            draws = chosen(200, height, width, lam=torch.full((200,), lam, dtype=torch.float64))
            mix = augmentations.create(
                "cutmix", placement="inside", per_sample=True, pairing="roll"
            )
            images = located_images(200, height, width)
            pasted = mix.draw(draws).mix_images(images)[:, 0] != images[:, 0]
            top, left, bottom, right = boxes_of(pasted).unbind(1)
            assert set((bottom - top).tolist()) == {sides[0]}
            assert set((right - left).tolist()) == {sides[1]}
    # And every row and every column is reached by clipped boxes.
    images = located_images(2000, 16, 64)
    plan = augmentations.create("cutmix", per_sample=True, pairing="roll").sample(
        images.shape, generator=seeded(0)
    )
    pasted = plan.mix_images(images)[:, 0] != images[:, 0]
    assert bool(pasted.any(dim=0).all())


def test_clipping_moves_the_mean_weight() -> None:
    # assert_mean: |z| < 5, false alarm 6e-7 each.
    for size, published in ((32, 0.70), (224, 0.68)):
        exact = expected_own_weight(size, size, clipped=True)
        assert exact == pytest.approx(published, abs=0.005)
        assert_mean(own_weights(size, size), exact)


def test_inside_keeps_the_mean_weight_at_a_half() -> None:
    # assert_mean: |z| < 5, false alarm 6e-7 each.
    for size, about in ((32, 0.521), (224, 0.503)):
        exact = expected_own_weight(size, size, clipped=False)
        assert exact == pytest.approx(about, abs=0.002)
        assert_mean(own_weights(size, size, placement="inside"), exact)


def test_mean_weight_of_rectangles_and_a_batch_draw() -> None:
    # assert_mean: |z| < 5, false alarm 6e-7 each.
    assert_mean(own_weights(16, 64), expected_own_weight(16, 64, clipped=True))
    mix, generator = augmentations.create("cutmix"), seeded(2)
    drawn = [
        mix.sample((2, 3, 32, 32), generator=generator).mix_labels(torch.arange(2)).weights[0, 0]
        for _ in range(2000)
    ]
    assert_mean(torch.stack(drawn), expected_own_weight(32, 32, clipped=True))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_lambda_is_beta_of_alpha(alpha: float) -> None:
    """On a tall, wide image without clipping the kept area is λ, up to the cut to whole pixels."""
    weight = own_weights(10_000, 10_000, count=20_000, placement="inside", alpha=alpha)
    # False alarm 1e-6. Rounding moves λ by less than 2/10000, well inside the bound of 0.02.
    assert_distribution(weight, lambda x: beta.cdf(x, alpha, alpha), 0.001, 0.999)


def test_inside_boxes_fit_and_reach_every_corner() -> None:
    draws = chosen(4000, 8, 12, lam=torch.full((4000,), 0.75, dtype=torch.float64))
    mix = augmentations.create("cutmix", placement="inside", per_sample=True, pairing="roll")
    images = located_images(4000, 8, 12)
    pasted = mix.draw(draws).mix_images(images)[:, 0] != images[:, 0]
    top, left, bottom, right = boxes_of(pasted).unbind(1)
    assert set((bottom - top).tolist()) == {4}
    assert set((right - left).tolist()) == {6}
    # Corners uniform on 5 x 7 positions; chi-square, false alarm 1e-6.
    assert_uniform_counts(np.bincount((top * 7 + left).numpy(), minlength=35))


def test_lambda_one_is_the_identity() -> None:
    images = torch.rand(50, 3, 16, 24)
    draws = chosen(50, 16, 24, lam=torch.ones(50, dtype=torch.float64))
    for placement in ("clipped", "inside"):
        plan = augmentations.create("cutmix", per_sample=True, placement=placement).draw(draws)
        assert torch.equal(plan.mix_images(images), images)
        assert torch.equal(plan.mix_labels(torch.arange(50)).dense(50), torch.eye(50))


@pytest.mark.parametrize(("axis", "size"), [("width", (6, 40)), ("height", (40, 6))])
@pytest.mark.parametrize("placement", ["clipped", "inside"])
def test_a_box_of_one_axis_is_as_long_as_the_other(
    axis: str, size: tuple[int, int], placement: str
) -> None:
    mix = augmentations.create("cutmix", axis=axis, placement=placement, per_sample=True)
    plan = mix.sample((4_000, 1, *size), generator=seeded(3))
    top, left, bottom, right = plan.target[:, 0].unbind(1)
    if axis == "height":
        top, left, bottom, right = left, top, right, bottom
    cut = right > left
    assert (top[cut] == 0).all() and (bottom[cut] == 6).all()
    weights = plan.mix_labels(torch.arange(4_000)).weights[:, 0]
    assert torch.allclose(weights, 1 - (right - left) / 40)
    # Inside, the share of the side is 1 - λ, uniform, rounded down to whole pixels.
    if placement == "inside":
        assert abs(float(weights.mean()) - (0.5 + 0.5 / 40)) < 0.02
