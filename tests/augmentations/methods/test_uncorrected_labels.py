"""`labels="uncorrected"`: the same images as by area, labels by the share as drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations.registry import identifying
from tests.support.oracles import chosen, seeded

LAM = torch.tensor([0.0, 0.03, 0.31, 0.5, 0.77, 0.999, 1.0], dtype=torch.float64)
COUNT = len(LAM)
DRAWN: dict[str, tuple[dict[str, Any], Tensor]] = {
    "cutmix": ({}, LAM),
    "cutmix bounded": ({"min_area": 0.2, "max_area": 0.6}, 1 - (0.2 + 0.4 * (1 - LAM))),
    "fmix": ({}, LAM),
    "gridmix": ({}, LAM),
    "saliencymix": ({}, LAM),
    # The scale is drawn by itself: here it is one number.
    "resizemix": ({"min_scale": 0.37, "max_scale": 0.37}, torch.full_like(LAM, 1 - 0.37**2)),
}


@pytest.mark.parametrize("case", DRAWN)
def test_labels_weigh_by_what_was_drawn(case: str) -> None:
    parameters, drawn = DRAWN[case]
    images = torch.rand(COUNT, 3, 9, 13, generator=seeded(0))
    mixes = [
        augmentations.create(
            case.split(" ")[0], labels=labels, per_sample=True, pairing="roll", **parameters
        )
        for labels in ("area", "uncorrected")
    ]
    by_area, plan = (mix.draw(chosen(COUNT, 9, 13, lam=LAM, images=images)) for mix in mixes)
    assert torch.equal(plan.mix_images(images), by_area.mix_images(images))
    own = plan.own_share()
    torch.testing.assert_close(own, drawn.float())
    assert not torch.allclose(own, by_area.own_share(), atol=1e-3)
    assert [mix.label_rule for mix in mixes] == ["pixels", "declared"]


@pytest.mark.parametrize("name", ["cutmix", "fmix", "gridmix", "resizemix", "saliencymix"])
def test_area_is_the_default_and_no_part_of_a_key(name: str) -> None:
    default = augmentations.resolve(name, {})
    assert default["labels"] == "area"
    later = {"name": name, **augmentations.resolve(name, {"labels": "uncorrected"})}
    assert identifying(later)["labels"] == "uncorrected"
    # SaliencyMix had the parameter from its beginning.
    assert ("labels" in identifying({"name": name, **default})) == (name == "saliencymix")


@pytest.mark.parametrize("per_sample", [False, True])
def test_a_sample_that_is_not_mixed_has_its_own_label(per_sample: bool) -> None:
    mix = augmentations.create(
        "cutmix", labels="uncorrected", prob=0.5, per_sample=per_sample, pairing="derange"
    )
    plans = [mix.sample((8, 3, 64, 64), generator=seeded(seed)) for seed in range(12)]
    own = torch.cat([plan.own_share() for plan in plans])
    changed = torch.cat([plan.changed() for plan in plans])
    assert bool((own[~changed] == 1).all())
    assert 0 < int(changed.sum()) < 96
    assert bool((own[changed] < 1).all())
