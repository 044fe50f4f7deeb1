"""PatchUp: blocks of maps and the labels that follow, against the authors' formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import beta

from mixbench import augmentations
from mixbench.augmentations import Paste
from tests.support.oracles import assert_distribution, assert_rate, seeded


@pytest.mark.parametrize("mode", ["soft", "hard"])
def test_maps_and_labels_are_the_authors(mode: str) -> None:
    mix = augmentations.create("patchup", prob=1.0, depths=[2], mode=mode, gamma=0.5)
    plan = mix.sample((4, 3, 32, 32), generator=seeded(1))
    assert plan.depth == 2
    keep, indices = plan.plan.keep, plan.plan.partner
    holes = (keep < 1).float()
    lam = float(keep.min()) if mode == "soft" else 0.0
    assert 0 < float(holes.mean()) < 1
    x = torch.randn(4, 5, 32, 32, generator=seeded(2))
    patches = holes * x
    expected = (1 - holes) * x + lam * patches + (1 - lam) * patches[indices]
    torch.testing.assert_close(plan.mix_features(x), expected)
    # The authors' two terms, each as dense targets.
    changed = float(holes[0].mean())
    own = torch.eye(4)
    other = own[indices]
    target_b = lam * own + (1 - lam) * other
    first = (1 - changed) * own + changed * target_b
    reweighted = (1 - changed) * own + lam * changed * own + (1 - lam) * changed * other
    dense = plan.mix_labels(torch.arange(4), 4).dense(4)
    torch.testing.assert_close(dense, (first + reweighted) / 2)


def test_blocks_are_dropblocks() -> None:
    """Every altered position lies in a whole block, around centres of the authors' probability."""
    mix = augmentations.create("patchup", per_sample=True, prob=1.0, depths=[1], gamma=0.2)
    plan = mix.sample((400, 1, 32, 32), generator=seeded(5)).plan
    altered = (plan.keep < 1).float()
    # Where no altered position is lost by opening with a block: a union of blocks, at the border
    # cut off.
    padded = F.pad(altered, [3] * 4, value=1.0)
    eroded = -F.max_pool2d(-padded, 7, stride=1)
    assert torch.equal(F.max_pool2d(eroded, 7, stride=1, padding=3), altered)
    chance = 0.2 * 32**2 / (7**2 * (32 - 7 + 1) ** 2)
    hits = altered[:, 0, 16, 16] > 0
    assert_rate(int(hits.sum()), 400, 1 - (1 - chance) ** 49)  # false alarm 6e-7
    strengths = plan.keep.flatten(1).min(dim=1).values[altered.flatten(1).any(dim=1)]
    assert_distribution(strengths, beta(2, 2).cdf, 0, 1)  # false alarm 1e-6


def test_at_depth_0_it_is_cutmix() -> None:
    plan = augmentations.create("patchup", prob=1.0, depths=[0]).sample(
        (6, 3, 16, 24), generator=seeded(0)
    )
    assert isinstance(plan, Paste) and plan.depth == 0
    top, left, bottom, right = plan.target[0, 0].tolist()
    own = 1 - (bottom - top) * (right - left) / (16 * 24)
    torch.testing.assert_close(plan.own_share()[plan.changed()][0], torch.tensor(own))
