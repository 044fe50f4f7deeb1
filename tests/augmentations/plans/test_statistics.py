"""What a plan says that it realised is what happened to the images and the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from tests.support.oracles import (
    SIGMAS,
    assert_mean,
    assert_rate,
    one_hot_images,
    pixel_shares,
    seeded,
)

MIXING = ["mixup", "cutmix", "ricap", "fmix"]
FILLING = ["cutout", "random_erasing"]

each_mode = pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])


@each_mode
@pytest.mark.parametrize("name", MIXING)
def test_the_own_share_is_how_much_of_the_image_is_the_samples(name: str, per_sample: bool) -> None:
    images = one_hot_images(9, 8, 12)
    for seed in range(4):
        plan = augmentations.create(name, per_sample=per_sample, prob=0.8).sample(
            images.shape, generator=seeded(seed)
        )
        expected = pixel_shares(plan.mix_images(images)).diagonal().float()
        torch.testing.assert_close(plan.own_share(), expected, atol=1e-6, rtol=0)


@each_mode
@pytest.mark.parametrize("name", ["none", *MIXING, *FILLING])
def test_changed_samples_are_those_whose_pixels_differ(name: str, per_sample: bool) -> None:
    images = torch.rand(9, 1, 8, 12, generator=seeded(0)) + 1
    seen = set()
    for seed in range(12):
        plan = augmentations.create(name, per_sample=per_sample, prob=0.6).sample(
            images.shape, generator=seeded(seed)
        )
        expected = (plan.mix_images(images) != images).flatten(1).any(dim=1)
        assert torch.equal(plan.changed(), expected)
        torch.testing.assert_close(plan.statistics()["changed"], expected.float().mean())
        seen |= set(expected.tolist())
    assert seen == ({False} if name == "none" else {False, True})


def test_the_numbers_are_numpys() -> None:
    for batch in (1, 2, 7, 64):
        lam = torch.rand(batch, generator=seeded(batch))
        plan = Blend(lam.view(-1, 1, 1, 1), torch.arange(batch).roll(1))
        own = np.ones(1) if batch == 1 else lam.double().numpy()
        found = plan.statistics()
        expected = {
            "own_mean": own.mean(),
            "own_std": own.std(),
            "own_min": own.min(),
            "own_max": own.max(),
            **{f"own_q{q:02d}": np.quantile(own, q / 100) for q in (5, 25, 50, 75, 95)},
            "self_pair": float(batch == 1),
            "changed": float(batch > 1),
        }
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.dtype == torch.float32
            assert value.dim() == 0
            assert float(value) == pytest.approx(float(expected[name]), abs=1e-6), name


def test_self_pairs_are_counted_among_the_visible_parts_of_others() -> None:
    """Parts: sample 0 shows itself and sample 1; 1 shows itself twice; 2 is not mixed."""
    partner = torch.tensor([[0, 1], [1, 1], [2, 0]])
    boxes = torch.tensor([[[0, 0, 1, 4], [1, 0, 2, 4]]] * 2 + [[[0, 0, 0, 0]] * 2])
    found = Paste((4, 4), boxes, partner).statistics()
    assert float(found["self_pair"]) == pytest.approx(3 / 4)
    assert float(found["changed"]) == pytest.approx(1 / 3)
    none = augmentations.create("cutout").sample((3, 1, 8, 8), generator=seeded(0)).statistics()
    assert float(none["self_pair"]) == 0
    unmixed = augmentations.create("mixup", prob=0.0, pairing="permute").sample((3, 1, 8, 8))
    assert float(unmixed.statistics()["self_pair"]) == 0


@pytest.mark.parametrize("name", MIXING)
def test_statistics_over_many_batches_find_the_policys_rates(name: str) -> None:
    """A uniform permutation pairs one in B with itself (300 batches of 5).

    Parts of one batch depend on each other, so z is taken over batches: |z| < 5, false alarm 6e-7.
    """
    mix, generator = augmentations.create(name, per_sample=True, prob=0.5), seeded(8)
    plans = [mix.sample((5, 1, 8, 8), generator=generator) for _ in range(300)]
    rates = [plan.statistics()["self_pair"] for plan in plans]
    # Batches without any visible part count 0, and RICAP's can be a single image: a batch shows at
    # least one other part in more than 9 of 10.
    shown = torch.stack([(plan.sources()[1][:, 1:] > 0).any() for plan in plans])
    values = torch.stack(rates)[shown]
    assert len(values) > 250
    assert_mean(values, 0.2)


def test_mixups_mean_share_is_a_half_and_prob_moves_it() -> None:
    generator = seeded(5)
    mix = augmentations.create("mixup", per_sample=True, prob=0.4, pairing="derange")
    found = mix.sample((20000, 1, 1, 1), generator=generator).statistics()
    assert_rate(round(float(found["changed"]) * 20000), 20000, 0.4)
    # 0.6 + 0.4 / 2; the variance of 1 - coin * (1 - λ) is 0.4 / 3 - 0.04.
    assert abs(float(found["own_mean"]) - 0.8) < SIGMAS * ((0.4 / 3 - 0.04) / 20000) ** 0.5
    assert float(found["own_q95"]) == 1.0
