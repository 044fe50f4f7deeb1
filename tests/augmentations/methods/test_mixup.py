"""MixUp: λ is the own weight, as drawn, from Beta(α, α), also for tiny α."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from mixbench import augmentations
from tests.support.oracles import assert_distribution, assert_mean, assert_rate, chosen, seeded


def own_share(count: int, alpha: float, seed: int = 0) -> Tensor:
    """How much of itself each of `count` samples keeps, read from the pixels.

    Images are 1, 0, 1, 0, ... and each meets the next: where a 1 was, the pixel is the own share.
    """
    images = (torch.arange(count) % 2 == 0).float().view(-1, 1, 1, 1)
    plan = augmentations.create("mixup", alpha=alpha, per_sample=True, pairing="roll").sample(
        images.shape, generator=seeded(seed)
    )
    mixed = plan.mix_images(images).flatten()
    share = torch.where(images.flatten() == 1, mixed, 1 - mixed)
    weights = plan.mix_labels(torch.arange(count)).weights
    torch.testing.assert_close(weights[:, 0], share, atol=1e-6, rtol=0)
    return weights[:, 0]


@pytest.mark.parametrize("alpha", [0.01, 0.1, 0.2, 1.0, 2.0, 8.0])
def test_lambda_is_beta_of_alpha(alpha: float) -> None:
    share = own_share(20_000, alpha)
    assert bool(share.isfinite().all())
    # Whole line for smooth densities; for U-shaped ones, between where float32 rounds to 0 or 1.
    # False alarm 1e-6.
    assert_distribution(share, lambda x: beta.cdf(x, alpha, alpha), 1e-6, 1 - 1e-6)
    # Symmetric, so not folded: |z| < 5, false alarm 6e-7.
    assert_rate(int((share < 0.5).sum()), 20_000, 0.5)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_lambda_of_a_batch_draw_is_beta_of_alpha(alpha: float) -> None:
    mix, generator = augmentations.create("mixup", alpha=alpha), seeded(3)
    weights = [
        mix.sample((3, 1, 1, 1), generator=generator).mix_labels(torch.arange(3)).weights[:, 0]
        for _ in range(3000)
    ]
    drawn = torch.stack(weights)
    assert torch.equal(drawn, drawn[:, :1].expand_as(drawn))  # one λ for the batch
    # False alarm 1e-6.
    assert_distribution(drawn[:, 0], lambda x: beta.cdf(x, alpha, alpha), 1e-6, 1 - 1e-6)


@pytest.mark.parametrize("alpha", [1e-2, 1e-3, 1e-6, 1e-100])
def test_a_tiny_alpha_gives_0_or_1_and_never_nan(alpha: float) -> None:
    share = own_share(20_000, alpha, seed=1)
    assert bool(share.isfinite().all())
    assert bool(((share >= 0) & (share <= 1)).all())
    # Nearly all the mass sits at the ends, half at each: |z| < 5, false alarm 6e-7.
    assert_rate(int((share < 0.5).sum()), 20_000, 0.5)
    inside = float(((share > 0.01) & (share < 0.99)).float().mean())
    assert inside < 0.05 if alpha == 1e-2 else inside < 0.006  # exact: 0.045, 0.0046


def test_a_large_alpha_mixes_half_and_half() -> None:
    share = own_share(20_000, 1e4)
    assert_mean(share, 0.5)  # |z| < 5, false alarm 6e-7
    assert float((share - 0.5).abs().max()) < 0.03  # the standard deviation is 0.0035


def test_every_lambda_is_independent_per_sample() -> None:
    share = own_share(20_000, 1.0)
    product = (share[:-1] - 0.5) * (share[1:] - 0.5)
    assert_mean(product, 0.0)  # |z| < 5, false alarm 6e-7


def test_lambda_weights_the_sample_itself() -> None:
    """By hand: 0.25 of (8, 80) and 0.75 of the next one's (16, 160)."""
    images = torch.tensor([[8.0, 80.0], [16.0, 160.0]]).view(2, 2, 1, 1)
    draws = chosen(2, 1, 1, lam=torch.tensor([0.25, 1.0], dtype=torch.float64))
    plan = augmentations.create("mixup", per_sample=True, pairing="roll").draw(draws)
    mixed = plan.mix_images(images).flatten(1)
    assert torch.equal(mixed, torch.tensor([[14.0, 140.0], [16.0, 160.0]]))
    dense = plan.mix_labels(torch.tensor([2, 0]), num_classes=3).dense(3)
    assert torch.equal(dense, torch.tensor([[0.75, 0.0, 0.25], [1.0, 0.0, 0.0]]))


def test_lambda_one_is_the_identity_and_zero_is_the_partner() -> None:
    images = torch.rand(50, 3, 16, 24, generator=seeded(0)) * 1000
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        typed = images.to(dtype)
        mix = augmentations.create("mixup", per_sample=True, pairing="roll")
        ones = mix.draw(chosen(50, 16, 24, lam=torch.ones(50, dtype=torch.float64)))
        zeros = mix.draw(chosen(50, 16, 24, lam=torch.zeros(50, dtype=torch.float64)))
        assert torch.equal(ones.mix_images(typed), typed)
        assert torch.equal(zeros.mix_images(typed), typed.roll(-1, 0))
        assert torch.equal(ones.mix_labels(torch.arange(50)).dense(50), torch.eye(50))
        assert torch.equal(zeros.mix_labels(torch.arange(50)).dense(50), torch.eye(50).roll(1, 1))
