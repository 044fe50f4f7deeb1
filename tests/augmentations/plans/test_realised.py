"""What mixing came to: pixels that change, counted in the images, and sums over many plans."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.realised import UNIT, sum_realised
from tests.support.oracles import seeded

METHODS: tuple[Any, ...] = (
    "none",
    "mixup",
    "cutmix",
    "ricap",
    "fmix",
    "resizemix",
    "saliencymix",
    "cutout",
    "gridmask",
    "random_erasing",
    "spec_augment",
    "mosaic",
    "choice",
    "compose",
    {"name": "choice", "methods": ["cutmix", "fmix", "mixup", "cutout"]},
    {"name": "compose", "methods": ["fmix", "cutout", {"name": "gridmask", "prob": 0.5}]},
)


def sampled(method: Any, seed: int, batch: int = 9, **parameters: Any) -> tuple[Plan, Any]:
    section = {"name": method} if isinstance(method, str) else dict(method)
    images = torch.rand(batch, 1, 8, 12, generator=seeded(seed)) + 1
    mix = augmentations.create(**{**section, **parameters})
    return mix.sample(images.shape, generator=seeded(seed), images=images), images


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_changed_area_is_what_differs(method: Any, per_sample: bool) -> None:
    seen = 0.0
    for seed in range(8):
        plan, images = sampled(method, seed, per_sample=per_sample, prob=0.8)
        expected = (plan.mix_images(images) != images).float().mean(dim=(1, 2, 3))
        torch.testing.assert_close(plan.changed_area(), expected, atol=1e-6, rtol=0)
        seen += float(expected.sum())
    assert (seen == 0) == (method == "none")


def test_inside_a_network_it_is_the_area_of_the_features() -> None:
    plan, _ = sampled({"name": "manifold_mixup", "depths": [1]}, 0, pairing="roll")
    assert plan.changed_area().tolist() == [1.0] * 9


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_realised_sums_are_those_over_changed_samples_however_grouped(
    method: Any, per_sample: bool
) -> None:
    plans = [
        sampled(method, seed, 9 if seed % 3 else 4, per_sample=per_sample, prob=0.6)[0]
        for seed in range(9)
    ]
    by_hand = torch.zeros(3, dtype=torch.float64)
    for plan in plans:
        changed = plan.changed()
        by_hand[0] += changed.sum()
        by_hand[1] += plan.own_share()[changed].double().sum()
        by_hand[2] += plan.changed_area()[changed].double().sum()
    whole = sum_realised(plans)
    torch.testing.assert_close(whole.double() / UNIT, by_hand, atol=1e-5, rtol=0)
    assert torch.equal(whole, torch.stack([sum_realised([plan]) for plan in plans]).sum(dim=0))
    assert torch.equal(whole, sum_realised(plans[:5]) + sum_realised(plans[5:]))


def test_small_plans_are_summed_up_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []

    def watched(own: Any) -> Any:
        def changed(plan: Plan) -> torch.Tensor:
            looks.append("a plan")
            return own(plan)

        return changed

    for kind in (augmentations.Paste, augmentations.Blend):
        monkeypatch.setattr(kind, "changed", watched(kind.changed))
    for method in ("cutmix", "mixup", "ricap", "cutout"):
        plans = [sampled(method, seed, prob=0.5)[0] for seed in range(20)]
        looks.clear()
        sum_realised(plans)
        assert len(looks) <= 2, method
