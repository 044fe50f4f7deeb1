"""Plans that exchange moments: what they leave as it is, in memory, in files and in chains."""

from __future__ import annotations

import pytest
import torch

from mixbench.augmentations import Blend, Moments
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.composite import chain, select
from mixbench.augmentations.plans.serialise import from_tensors, to_tensors
from tests.support.oracles import seeded

PARTNER = torch.tensor([1, 2, 0, 3])


@pytest.mark.parametrize("over", ["channels", "positions"])
def test_kept_samples_and_samples_that_are_their_own_partner_stay_bit_for_bit(over: str) -> None:
    plan = Moments(torch.tensor([1.0, 0.0, 0.5, 0.0]), PARTNER, over=over)
    images = torch.rand(4, 3, 5, 6, generator=seeded(0)) * 1000
    mixed = plan.mix_images(images)
    stays = (mixed == images).flatten(1).all(dim=1)
    assert stays.tolist() == [True, False, False, True] == (~plan.changed()).tolist()
    assert torch.equal(plan.only_where(torch.zeros(1, dtype=torch.bool)).mix_images(images), images)


def test_tokens_have_their_channels_last() -> None:
    plan = Moments(torch.zeros(4), PARTNER)
    maps = torch.rand(4, 8, 3, 2, generator=seeded(0))
    tokens = maps.flatten(2).transpose(1, 2)
    expected = plan.mix_features(maps).flatten(2).transpose(1, 2)
    torch.testing.assert_close(plan.mix_features(tokens), expected)


def test_masks_and_boxes_stay_where_they_are() -> None:
    plan = AtDepth(Moments(torch.zeros(4), PARTNER), 1)
    masks = torch.randint(0, 5, (4, 6, 7), generator=seeded(0))
    assert torch.equal(plan.mix_masks(masks), masks)
    boxes = torch.tensor([[1.0, 2.0, 3.0, 5.0]])
    targets = [{"boxes": boxes + b, "labels": torch.tensor([b])} for b in range(4)]
    for before, after in zip(targets, plan.mix_boxes(targets), strict=True):
        assert torch.equal(before["boxes"], after["boxes"])
        assert after["weights"].tolist() == [1.0]


def test_saved_chained_and_chosen() -> None:
    weights = torch.tensor([[0.75, 0.25]]).expand(4, -1)
    moments = Moments(torch.full((4,), 0.25), PARTNER, "positions", 1e-6, weights=weights)
    maps = torch.rand(4, 2, 3, 3, generator=seeded(1))
    for plan in (moments, AtDepth(moments, 2)):
        loaded = from_tensors(to_tensors(plan))
        assert torch.equal(loaded.mix_features(maps), plan.mix_features(maps))
    blend = Blend(torch.full((4, 1, 1, 1), 0.5), PARTNER)
    both = chain([AtDepth(moments, 1), blend])
    assert both.depth == 1 and not both.is_linear
    dense = both.mix_labels(torch.arange(4), 4).dense(4)
    # Sample 0 is half 0, half 1; its partner 1 is half 1, half 2.
    torch.testing.assert_close(dense[0], torch.tensor([0.375, 0.5, 0.125, 0.0]))
    one_of = select(torch.tensor([0, 0, 1, 1]), [moments, blend])
    mixed = one_of.mix_images(maps)
    assert torch.equal(mixed[:2], moments.mix_images(maps)[:2])
    assert torch.equal(mixed[2:], blend.mix_images(maps)[2:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": torch.full((4,), 1.5)}, "keep: expected values from 0 to 1"),
        ({"keep": torch.zeros(4, 1)}, "keep: expected"),
        ({"partner": torch.tensor([0, 1, 2, 4])}, "partner: expected values from 0 to 3"),
        ({"over": "batch"}, "over: got 'batch', expected channels or positions"),
        ({"epsilon": 0.0}, "epsilon: got 0.0, expected a number above 0"),
    ],
)
def test_a_plan_that_cannot_be_is_named(fields: dict, message: str) -> None:
    plan = Moments(**{"keep": torch.zeros(4), "partner": PARTNER, **fields})
    with pytest.raises(ValueError, match=message):
        plan.check_fields()
