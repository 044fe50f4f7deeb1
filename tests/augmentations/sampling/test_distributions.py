"""How often, where and how much: what is drawn, against what the formulas say.

λ of each method, the pairings and single boxes are tested beside their methods and in
test_pairings.py; here is what holds across methods. False alarms: see pixels.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from tests.support.oracles import (
    SIGMAS,
    assert_distribution,
    assert_rate,
    assert_same_distribution,
    located_images,
    seeded,
)

PAIRS = [
    name
    for name in augmentations.available()
    if augmentations.create(name).label_rule == "pixels"
    and not augmentations.create(name).needs
    and name != "none"
]


def own_shares(plan: Any, batch: int) -> Tensor:
    """How much of each sample is its own: (B,)."""
    index, share = plan.sources()
    own = torch.arange(batch).unsqueeze(1)
    return (share * (index == own)).sum(dim=1)


# --- prob ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("prob", [0.05, 0.35, 0.9])
def test_the_realised_rate_is_prob(prob: float) -> None:
    # MixUp with a derangement changes every sample that it mixes: the rate is prob itself.
    mix = augmentations.create("mixup", prob=prob, per_sample=True, pairing="derange")
    plan = mix.sample((20000, 1, 1, 1), generator=seeded(4))
    assert_rate(int((own_shares(plan, 20000) < 1).sum()), 20000, prob)


def test_the_coin_does_not_look_at_lambda() -> None:
    """λ of those that are mixed is as uniform as it is without the coin."""
    mix = augmentations.create("mixup", prob=0.5, per_sample=True, pairing="derange")
    share = own_shares(mix.sample((20000, 1, 1, 1), generator=seeded(5)), 20000)
    assert_distribution(share[share < 1], lambda x: x, 0.001, 0.999)


def test_coins_of_a_batch_are_independent() -> None:
    """Neighbours: both mixed in prob² of the pairs."""
    mix = augmentations.create("mixup", prob=0.4, per_sample=True, pairing="derange")
    mixed = own_shares(mix.sample((40000, 1, 1, 1), generator=seeded(6)), 40000) < 1
    assert_rate(int((mixed[::2] & mixed[1::2]).sum()), 20000, 0.16)


# --- λ ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAIRS)
def test_per_sample_changes_how_many_draws_not_their_distribution(name: str) -> None:
    """The own share of a sample: 500 batches with one draw each, 2000 samples with their own.

    Without self-pairs, so that the size of the batch makes no difference.
    """
    shared_draw = augmentations.create(name, prob=1.0, pairing="derange")
    each = augmentations.create(name, prob=1.0, pairing="derange", per_sample=True)
    generator = seeded(7)
    shared = [
        float(own_shares(shared_draw.sample((9, 1, 12, 16), generator=generator), 9)[0])
        for _ in range(500)
    ]
    apart = own_shares(each.sample((2000, 1, 12, 16), generator=seeded(8)), 2000)
    assert_same_distribution(np.array(shared), apart.double().numpy())


def test_seeds_in_a_row_are_as_good_as_a_stream() -> None:
    """The first λ of the seeds 0, 1, 2, ... is uniform: a run per seed is a fair sample."""
    mix = augmentations.create("mixup")
    first = [float(mix.sample((1, 1, 1, 1), generator=seeded(seed)).keep) for seed in range(3000)]  # type: ignore[attr-defined]
    assert_distribution(torch.tensor(first), lambda x: x, 0.001, 0.999)


def test_lambda_and_partner_are_independent() -> None:
    """λ of the half of the samples with the nearer partners has the distribution of the others."""
    mix = augmentations.create("mixup", per_sample=True)
    plan: Any = mix.sample((8000, 1, 1, 1), generator=seeded(9))
    distance = (plan.partner - torch.arange(8000)).abs()
    near = distance < distance.median()
    keep = plan.keep.flatten().double()
    assert_same_distribution(keep[near].numpy(), keep[~near].numpy())


# --- box position -------------------------------------------------------------------------------


def covered(height: int, width: int, placement: str) -> np.ndarray:
    """How likely CutMix (α = 1) covers each pixel: all boxes of all centres, added up; (H, W)."""
    lam = (np.arange(100_000) + 0.5) / 100_000
    sides = np.stack(
        [(height * np.sqrt(1 - lam)).astype(int), (width * np.sqrt(1 - lam)).astype(int)]
    )
    sizes, counts = np.unique(sides, axis=1, return_counts=True)
    total = np.zeros((height, width))
    for (cut_height, cut_width), count in zip(sizes.T, counts, strict=True):
        lines = []
        for side, cut in ((height, cut_height), (width, cut_width)):
            line = np.zeros(side)
            if placement == "clipped":
                for centre in range(side):
                    line[max(centre - cut // 2, 0) : min(centre + cut // 2, side)] += 1 / side
            else:
                starts = side - cut + 1
                for start in range(starts):
                    line[start : start + cut] += 1 / starts
            lines.append(line)
        total += count / len(lam) * np.outer(*lines)
    return total


@pytest.mark.parametrize("placement", ["clipped", "inside"])
def test_cutmix_covers_each_pixel_as_often_as_it_must(placement: str) -> None:
    """Every pixel by itself, |z| < 5: false alarm 6e-7 each, 1e-4 for the 176 pixels together."""
    height, width, count = 11, 16, 6000
    images = located_images(count, height, width)[:, :1]
    mix = augmentations.create("cutmix", placement=placement, per_sample=True, pairing="derange")
    mixed = mix.sample(images.shape, generator=seeded(10)).mix_images(images)
    found = (mixed != images)[:, 0].double().mean(dim=0).numpy()
    wanted = covered(height, width, placement)
    error = np.sqrt(wanted * (1 - wanted) / count)
    z = (found - wanted) / error
    assert np.abs(z).max() < SIGMAS, f"z up to {np.abs(z).max():.1f}"
    # A test that can tell the two rules apart: they differ by many standard errors somewhere.
    other = covered(height, width, "inside" if placement == "clipped" else "clipped")
    assert (np.abs(other - wanted) / error).max() > 2 * SIGMAS


# --- pairing ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pairing", ["permute", "derange"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_method_meets_everybody_alike(name: str, pairing: str) -> None:
    """Who sample 0 of 5 meets: each of 5 in a fifth, or each of the 4 others in a quarter."""
    mix = augmentations.create(name, pairing=pairing, prob=1.0)
    generator, counts, total = seeded(11), np.zeros(5), 1000
    for _ in range(total):
        plan = mix.sample((5, 1, 8, 8), generator=generator)
        index, _ = plan.sources()
        # The last source is a partner for pairs as for quadrants.
        counts[int(index[0, -1])] += 1
    rate = 0.2 if pairing == "permute" else 0.25
    for sample, count in enumerate(counts):
        if sample == 0 and pairing == "derange":
            assert count == 0
        else:
            assert_rate(int(count), total, rate)


def test_self_pairs_cost_a_share_of_one_in_b() -> None:
    """With "permute" a sample of a batch of b stays as it is in 1/b of the draws."""
    for batch in (2, 5, 32):
        mix = augmentations.create("mixup")
        generator, alone, total = seeded(12), 0, 1200
        for _ in range(total):
            plan = mix.sample((batch, 1, 1, 1), generator=generator)
            alone += int(own_shares(plan, batch)[0] == 1)
        assert_rate(alone, total, 1 / batch)


# --- choice -------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_sample", [False, True])
def test_choice_follows_its_weights(per_sample: bool) -> None:
    """MixUp and nothing, 3 to 1: a derangement mixes three in four."""
    mix = augmentations.create(
        "choice",
        methods=[
            {"name": "mixup", "pairing": "derange", "per_sample": per_sample},
            {"name": "none"},
        ],
        weights=[3, 1],
        per_sample=per_sample,
    )
    generator = seeded(13)
    if per_sample:
        share = own_shares(mix.sample((8000, 1, 1, 1), generator=generator), 8000)
        assert_rate(int((share < 1).sum()), 8000, 0.75)
        return
    mixed = 0
    for _ in range(2000):
        share = own_shares(mix.sample((2, 1, 1, 1), generator=generator), 2)
        assert bool((share < 1).all()) == bool((share < 1).any())
        mixed += int(share[0] < 1)
    assert_rate(mixed, 2000, 0.75)


def test_the_statistical_helpers_can_fail() -> None:
    """A rate, a distribution and a coverage that are a little off are found."""
    with pytest.raises(AssertionError):
        assert_rate(3200, 10000, 0.35)
    uniform = torch.rand(20000, generator=seeded(14), dtype=torch.float64)
    with pytest.raises(AssertionError):
        assert_distribution(uniform.pow(1.1), lambda x: x, 0.001, 0.999)
    with pytest.raises(AssertionError):
        assert_same_distribution(uniform[:2000].numpy(), uniform[2000:4000].pow(1.5).numpy())
    # All boxes inside: on average a pixel is covered as much as the mean area.
    lam = (np.arange(100_000) + 0.5) / 100_000
    area = ((6 * np.sqrt(1 - lam)).astype(int) ** 2).mean() / 36
    assert math.isclose(float(covered(6, 6, "inside").mean()), area, abs_tol=1e-12)
