"""SK Mixup: the authors' warping of λ by SciPy, on the same draws and distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import betaincinv
from torch import nn

from mixbench import augmentations
from mixbench.augmentations import NetworkView
from mixbench.augmentations.sampling.beta_quantile import beta_quantile
from tests.support.oracles import seeded

BATCH = 6


@pytest.mark.parametrize("distance", ["features", "images"])
@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "sample"])
def test_pairs_are_mixed_by_their_distance(distance: str, per_sample: bool) -> None:
    images = torch.randn(BATCH, 3, 8, 8, generator=seeded(0))
    images[1] = images[0] + 0.01
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )
    mix = augmentations.create(
        "sk_mixup", distance=distance, per_sample=per_sample, pairing="roll", tau_std=0.7
    )
    assert ("model" in mix.needs, mix.passes) == ((True, 1) if distance == "features" else (0, 0))
    model = NetworkView(network) if distance == "features" else None
    plan = mix.sample(images.shape, generator=seeded(3), images=images, model=model)
    # As the authors': squared distances over their mean, a Gaussian kernel, the inverse CDF.
    lam = torch.rand(BATCH if per_sample else 1, generator=seeded(3), dtype=torch.float64).numpy()
    seen = images if distance == "images" else network[:3](images).detach()
    seen = seen.flatten(1).double()
    dist = (seen - seen.roll(-1, dims=0)).pow(2).sum(dim=1).numpy()
    rate = np.exp(-(dist / dist.mean() - 1) / (2 * 0.7 * 0.7))
    expected = torch.from_numpy(betaincinv(rate, rate, lam)).float()
    torch.testing.assert_close(plan.keep.flatten(), expected, atol=2e-4, rtol=0)
    assert float(rate.max()) > 2 and float(rate.min()) < 0.8
    mixed, share = plan.mix_images(images), plan.keep
    torch.testing.assert_close(mixed, share * images + (1 - share) * images.roll(-1, dims=0))


@pytest.mark.parametrize("tau", [1e-4, 0.02, 0.3, 1.0, 5.0, 80.0, 1e4])
def test_quantiles_are_scipys(tau: float) -> None:
    unit = torch.linspace(0, 1, 33, dtype=torch.float64)
    found = beta_quantile(unit, torch.full_like(unit, tau))
    exact = np.nan_to_num(betaincinv(tau, tau, unit.numpy()))
    assert np.abs(found.numpy() - exact).max() < 1e-4


def test_equal_images_are_mixed_by_halves_and_a_lone_one_stays() -> None:
    mix = augmentations.create("sk_mixup", distance="images", tau_std=0.1, pairing="roll")
    for batch in (1, 4):
        images = torch.ones(batch, 1, 4, 4)
        plan = mix.sample(images.shape, generator=seeded(1), images=images)
        assert torch.isfinite(plan.keep).all()
        torch.testing.assert_close(plan.mix_images(images), images)
