"""CowMask: the authors' mask from the same noise; mixing and erasing; how much is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.stats import norm
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend
from tests.support.oracles import assert_mean, chosen, seeded


def authors_mask(noise: np.ndarray, sigma: float, share: float) -> np.ndarray:
    """google-research, milking_cowmask/masking/cow_mask.py: 1 where the noise is low."""
    smooth = gaussian_filter(noise.astype(np.float64), sigma, mode="constant", truncate=12)
    return smooth <= norm.ppf(share) * smooth.std() + smooth.mean()


def masks_of(plan: object) -> Tensor:
    assert isinstance(plan, Blend)
    return plan.keep[:, 0]


@pytest.mark.parametrize("size", [(32, 32), (20, 45)])
@pytest.mark.parametrize(("sigma", "share"), [(0.125, 0.3), (0.2, 0.75), (0.5, 0.5)])
def test_the_mask_is_the_authors(size: tuple[int, int], sigma: float, share: float) -> None:
    """Pixels at the threshold may differ by rounding: fewer than one in 5,000."""
    noise = torch.randn(12, *size, generator=seeded(3))
    mix = augmentations.create(
        "cowmask", min_sigma=sigma, max_sigma=sigma, min_keep=share, max_keep=share
    )
    masks = masks_of(mix.draw(chosen(12, *size, noise=lambda *_: noise))).numpy() == 1
    expected = [authors_mask(one, sigma * min(size), share) for one in noise.numpy()]
    assert (masks != np.stack(expected)).mean() < 2e-4
    assert 0.05 < masks.mean() < 0.95


def test_mixing_and_erasing() -> None:
    images = torch.rand(6, 3, 16, 16, generator=seeded(0)) + 1
    labels = torch.arange(6)
    mixes = [
        augmentations.create("cowmask", pairing="roll", **parameters)
        for parameters in ({}, {"mode": "erase", "fill": -2.0}, {"mode": "erase", "fill": "mean"})
    ]
    assert [mix.label_rule for mix in mixes] == ["pixels", "kept", "kept"]
    mixed, erased, meant = (mix(images, labels, 6, generator=seeded(1)) for mix in mixes)
    keep = masks_of(mixed.plan).unsqueeze(1) == 1
    assert torch.equal(mixed.images, torch.where(keep, images, images.roll(-1, 0)))
    own = keep.float().mean(dim=(1, 2, 3))
    torch.testing.assert_close(mixed.targets.weights, torch.stack([own, 1 - own], dim=1))
    assert torch.equal(erased.images, torch.where(keep, images, -2.0))
    mean = images.mean(dim=(0, 2, 3), keepdim=True)
    torch.testing.assert_close(meant.images, torch.where(keep, images, mean))
    for batch in (erased, meant):
        assert torch.equal(batch.targets.dense(6), torch.eye(6))


def test_how_much_is_kept() -> None:
    """p and 1 - p are as likely, and so are noise and its negative; 0 and 1 are exact."""
    plan = augmentations.create("cowmask").sample((3000, 1, 12, 16), generator=seeded(2))
    share = masks_of(plan).mean(dim=(1, 2))
    assert_mean(share, 0.5)
    assert 0.1 < float(share.min()) < 0.3
    # Smooth noise is near normal; its share is p up to what an image's own fluctuations do.
    for keep in (0.0, 0.25, 1.0):
        mix = augmentations.create("cowmask", min_keep=keep, max_keep=keep, max_sigma=0.125)
        kept = masks_of(mix.sample((200, 1, 32, 32), generator=seeded(4))).mean(dim=(1, 2))
        assert abs(float(kept.mean()) - keep) < (0.02 if keep == 0.25 else 1e-9)
    single = augmentations.create("cowmask").sample((4, 1, 1, 1), generator=seeded(5))
    assert masks_of(single).flatten().tolist() == [1.0] * 4


@pytest.mark.parametrize("low", ["min_sigma", "min_keep"])
def test_bounds_in_the_wrong_order_are_refused(low: str) -> None:
    with pytest.raises(ValueError, match=rf"cowmask\.{low}: got 0\.9, expected at most max_"):
        augmentations.create("cowmask", **{low: 0.9})
