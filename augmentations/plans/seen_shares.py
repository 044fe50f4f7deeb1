"""Label weights by how much of each image's object, or of its saliency, a plan shows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mixbench.augmentations.sampling.label_weights import NEEDED

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan
    from mixbench.augmentations.plans.blend import Blend
    from mixbench.augmentations.plans.paste import Paste
    from mixbench.augmentations.sampling.draws import Draws


def weighed(plan: Blend | Paste, labels: str, draws: Draws) -> Plan:
    """Return the plan with the label weights of a rule that looks at the images.

    A source weighs s / (sum of all s), where s is the share of its object, or of its saliency, that
    is still seen (OA-CutMix, arXiv:2606.04820). In an image without an object s is the share of its
    area; where nothing of any object is seen, labels weigh by area.

    Args:
        plan: Of one row, or of one per sample.
        labels: The method's `labels`; "area" and "uncorrected" leave the plan as it is.
        draws: With the masks, or the images, of the batch.

    Raises:
        ValueError: The masks are of another size than the images.
    """
    if labels not in NEEDED:
        return plan
    import torch

    from mixbench.augmentations.plans.paste import Paste

    maps = _maps(labels, draws)
    whole = maps.sum(dim=(1, 2), keepdim=True)
    # An image without an object: all of it is.
    maps = torch.where(whole > 0, maps / whole.clamp(min=1e-30), 1 / maps[0].numel())
    area = replace(plan.expand(draws.batch), weights=None).sources()[1]
    if isinstance(plan, Paste):
        seen = _seen_in_rectangles(plan, maps)
    else:
        seen = _seen_in_blend(plan, maps)
    seen = seen.clamp(min=0)
    total = seen.sum(dim=1, keepdim=True)
    # The shares of a binary mask are 0 up to rounding only.
    weights = torch.where(total > 1e-6, seen / total.clamp(min=1e-6), area.expand_as(seen))
    return replace(plan, weights=weights.float())


def _maps(labels: str, draws: Draws) -> Tensor:
    """Return what is looked at: (B, H, W) float32, at least 0."""
    size = (draws.batch, draws.height, draws.width)
    if labels == "saliency":
        from mixbench.augmentations.sampling.saliency import fine_grained

        if draws.images is None:
            raise ValueError("labels: expected draws with images for saliency, got none")
        return fine_grained(draws.images)
    masks = draws.masks
    if masks is None or tuple(masks.shape) != size:
        found = "none" if masks is None else tuple(masks.shape)
        raise ValueError(f"masks: expected {size} for labels: objects, got {found}")
    return (masks != 0).float()


def _seen_in_blend(plan: Blend, maps: Tensor) -> Tensor:
    """Return the share of each map that a blend shows: (B, 2)."""
    import torch

    keep = plan.keep[:, 0]
    own = (maps * keep).sum(dim=(1, 2))
    other = maps if plan.partner is None else maps.index_select(0, plan.partner)
    return torch.stack([own, (other * (1 - keep)).sum(dim=(1, 2))], dim=1)


def _seen_in_rectangles(plan: Paste, maps: Tensor) -> Tensor:
    """Return the share of each map that pasted rectangles leave and show: (B, K)."""
    import torch
    import torch.nn.functional as F

    table = F.pad(maps, (1, 0, 1, 0)).cumsum(1).cumsum(2)
    sample = torch.arange(len(maps), device=maps.device).unsqueeze(1)

    def inside(of: Tensor, rectangles: Tensor) -> Tensor:
        top, left, bottom, right = rectangles.expand(len(maps), -1, -1).unbind(-1)
        above = table[of, top, right] - table[of, top, left]
        shown: Tensor = table[of, bottom, right] - table[of, bottom, left] - above
        return shown

    if plan.partner is None:
        raise ValueError("labels: expected rectangles of other samples, got filled ones")
    # Empty targets have sources that are not empty where they are resized.
    come = inside(plan.partner, plan.target if plan.source is None else plan.source)
    come = torch.where(plan.area() > 0, come, 0)
    if plan.tiles:
        return come
    left = 1 - inside(sample, plan.target).sum(dim=1, keepdim=True)
    return torch.cat([left, come], dim=1)
