"""The boxes of mixed images, as a plan mixes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from mixbench.augmentations.box_targets import BoxTargets
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.overlay import Overlay
from mixbench.experiments.data.object_rows import Objects

VISIBLE = 0.1
"""Objects of which mixing leaves less than this share are gone."""


def mixed_boxes(plan: Plan, objects: Objects) -> BoxTargets:
    """Return the boxes of the images that `plan` mixes.

    Where whole objects are pasted by their maps (Copy-Paste), a box is the smallest one around the
    pixels that are seen.
    """
    device = objects.boxes.device
    exact = objects.maps is not None and any(isinstance(one, Overlay) for one in _stages(plan))
    targets = [_target(objects, number, exact=exact) for number in range(len(objects.labels))]
    mixed = plan.mix_boxes(targets, visibility=VISIBLE, per_box=("source",))
    counts = torch.tensor([len(one["labels"]) for one in mixed], device=device)
    joined = {
        key: torch.cat([one[key] for one in mixed])
        for key in ("boxes", "labels", "weights", "source")
    }
    boxes = joined["boxes"]
    if exact and len(boxes):
        boxes = _around(torch.cat([one["masks"] for one in mixed]))
    return BoxTargets(
        images=len(targets),
        sample=torch.arange(len(targets), device=device).repeat_interleave(counts),
        source=joined["source"],
        boxes=boxes,
        labels=joined["labels"],
        weights=joined["weights"],
    )


def _stages(plan: Plan) -> tuple[Plan, ...]:
    stages: tuple[Plan, ...] = getattr(plan, "plans", (plan,))
    return stages


def _target(objects: Objects, number: int, *, exact: bool) -> dict[str, Any]:
    (there,) = objects.there[number].nonzero(as_tuple=True)
    target: dict[str, Any] = {
        "boxes": objects.boxes[number, there],
        "labels": objects.labels[number, there],
        "source": torch.full_like(there, number),
    }
    if exact and objects.maps is not None:
        target["masks"] = (objects.maps[number] == (there + 1).view(-1, 1, 1)).to(torch.uint8)
    return target


def _around(masks: Tensor) -> Tensor:
    """The boxes of masks (G,H,W), edges and not middles of pixels."""
    boxes: Tensor = masks_to_boxes(masks)
    return boxes + boxes.new_tensor([0, 0, 1, 1])
