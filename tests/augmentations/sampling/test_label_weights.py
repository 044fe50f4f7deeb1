"""Labels by what is seen of each image's object, or of its saliency, against sums over pixels."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import mixbench
from mixbench.augmentations import Blend, Paste, Plan
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.seen_shares import weighed
from mixbench.augmentations.sampling.draws import Draws
from mixbench.augmentations.sampling.saliency import fine_grained
from tests.support.oracles import seeded

BATCH, SIDE = 6, 20
METHODS: list[dict[str, Any]] = [
    {"name": "cutmix"},
    {"name": "resizemix"},
    {"name": "saliencymix"},
    {"name": "fmix", "max_soft": 0.3},
    {"name": "gridmix"},
    {"name": "smoothmix"},
    {"name": "cowmask"},
    {"name": "classmix"},
    {"name": "copy_paste"},
    {"name": "ricap"},
    {"name": "mosaic"},
    {"name": "mosaic", "parts": "crop"},
    {"name": "mosaic", "parts": "resize"},
    {"name": "snapmix"},
    {"name": "patchup", "depths": [0]},
    {"name": "patchup", "depths": [1]},
]


def objects() -> Tensor:
    """Blobs at the left; the last image has no object, the one before a single pixel."""
    masks = torch.zeros(BATCH, SIDE, SIDE, dtype=torch.bool)
    for index in range(BATCH - 2):
        masks[index, index : index + 9, 2 : 7 + index] = True
        masks[index, index + 3, 4] = False
    masks[BATCH - 2, 11, 13] = True
    return masks


def expected(plan: Any, maps: Tensor) -> Tensor:
    """Count pixel by pixel what each source shows of its map: (B, K)."""
    index, area = plan.sources()
    seen = torch.zeros(index.shape, dtype=torch.float64)
    whole = maps.double().sum(dim=(1, 2))
    flat = torch.full((SIDE, SIDE), 1 / SIDE**2, dtype=torch.float64)
    shares = [m.double() / w if w > 0 else flat for m, w in zip(maps, whole, strict=True)]
    for sample in range(BATCH):
        if isinstance(plan, Blend):
            keep = plan.keep[sample, 0].double()
            for k, shown in enumerate((keep, 1 - keep)):
                seen[sample, k] = (shares[index[sample, k]] * shown).sum()
            continue
        left = torch.ones(SIDE, SIDE, dtype=torch.bool)
        sources = plan.target if plan.source is None else plan.source
        first = 0 if plan.tiles else 1
        for r, box in enumerate(plan.target[sample].tolist()):
            left[box[0] : box[2], box[1] : box[3]] = False
            if (box[2] - box[0]) * (box[3] - box[1]) > 0:
                top, start, bottom, end = sources[sample, r].tolist()
                share = shares[plan.partner[sample, r]][top:bottom, start:end]
                seen[sample, r + first] = share.sum()
        if not plan.tiles:
            seen[sample, 0] = shares[sample][left].sum()
    total = seen.sum(dim=1, keepdim=True)
    return torch.where(total > 1e-6, seen / total.clamp(min=1e-9), area.double())


@pytest.mark.parametrize("spec", METHODS, ids=lambda spec: "-".join(map(str, spec.values())))
@pytest.mark.parametrize("labels", ["objects", "saliency"])
@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "sample"])
def test_weights_are_the_shares_that_are_seen(
    spec: dict[str, Any], labels: str, per_sample: bool
) -> None:
    images, masks = torch.rand(BATCH, 3, SIDE, SIDE, generator=seeded(0)), objects()
    images[-1] = 0.5  # without saliency
    mix = mixbench.create(**spec, labels=labels, per_sample=per_sample, prob=1.0)
    plain = mixbench.create(**spec, labels="area", per_sample=per_sample, prob=1.0)
    assert mix.label_rule == "declared" and mix.needs >= {
        {"objects": "masks"}.get(labels, "images")
    }
    given = {"images": images, "masks": masks}
    plan: Plan = mix.sample(images.shape, generator=seeded(1), **given)
    before = plain.sample(images.shape, generator=seeded(1), **given)
    assert torch.equal(plan.mix_images(images), before.mix_images(images))
    before = before.plan if isinstance(before, AtDepth) else before
    assert isinstance(before, Blend | Paste)
    _, weights = plan.sources()
    if (spec["name"], labels) == ("saliencymix", "saliency"):
        return  # as it was before there were other rules; tested with the method
    maps = masks if labels == "objects" else fine_grained(images)
    torch.testing.assert_close(weights.double(), expected(before, maps), atol=2e-5, rtol=0)
    assert weights.dtype == torch.float32
    # A sample that is not mixed keeps its label.
    apart = mixbench.create(**spec, labels=labels, per_sample=True, prob=0.0)
    own = apart.sample(images.shape, generator=seeded(2), **given).own_share()
    torch.testing.assert_close(own, torch.ones(BATCH))


def test_where_no_object_is_seen_labels_weigh_by_area() -> None:
    """The box hides the sample's object and brings none: 1/4 of the area is the partner's."""
    masks = torch.zeros(2, 8, 8, dtype=torch.bool)
    masks[0, 0:2, 0:2] = masks[1, 6:8, 6:8] = True
    plan = Paste((8, 8), torch.tensor([[[0, 0, 4, 4]]]), torch.tensor([[1], [0]]))
    draws = Draws(1, 2, 8, 8, "cpu", None, masks=masks)
    _, weights = weighed(plan, "objects", draws).expand(2).sources()
    # The second keeps all of its object and gets all of the first's.
    assert weights.tolist() == [[0.75, 0.25], [0.5, 0.5]]


def test_bad_masks_and_rules_are_refused() -> None:
    mix = mixbench.create("cutmix", labels="objects")
    for masks, message in (
        (None, "cutmix: expected masks=, as what it draws depends on them, got None"),
        (objects()[:, :4], r"masks: expected \(6, 20, 20\) for labels: objects, got \(6, 4, 20\)"),
    ):
        with pytest.raises(ValueError, match=message):
            mix.sample((BATCH, 3, SIDE, SIDE), masks=masks)
    with pytest.raises(ValueError, match=r"cowmask\.labels: got objects, expected area with mode"):
        mixbench.create("cowmask", mode="erase", labels="objects")
    with pytest.raises(ValueError, match=r"ricap\.labels: got 'uncorrected', expected"):
        mixbench.create("ricap", labels="uncorrected")
