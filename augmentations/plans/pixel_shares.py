"""Which pixels come from whom after several plans: the shares of a chain, counted by pixels.

Where two plans differ between pixels, the share of a source can't be had from the two plans'
shares: a box of a partner may hold more or less than its share of what was pasted into that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.paste import Paste

if TYPE_CHECKING:
    from mixbench.augmentations.plans.composite import Chain


def is_spatial(plan: Plan) -> bool:
    """Do the plan's shares differ between the pixels of an image?"""
    from mixbench.augmentations.plans.composite import Chain, Select

    if isinstance(plan, Chain):
        return any(is_spatial(stage) for stage in plan.stages)
    if isinstance(plan, Select):
        return any(is_spatial(one) for one in plan.plans)
    if isinstance(plan, Blend):
        return plan.partner is not None and plan.weights is None and plan.keep.shape[2:] != (1, 1)
    return isinstance(plan, Paste) and plan.partner is not None and plan.weights is None


def shares(plan: Chain) -> Tensor:
    """The means over pixels of every source's share, in the order of `plan.sources`: (B, K)."""
    whole = torch.ones(plan.batch, 1, 1, 1, device=plan.device, dtype=torch.float32)
    return _parts(plan, whole).mean(dim=(-2, -1)).flatten(1)


def picked(choice: Tensor, results: Sequence[Tensor]) -> Tensor:
    """For each sample b, row b of `results[choice[b]]`; results broadcast against each other."""
    chosen = results[0]
    for which, result in enumerate(results[1:], start=1):
        follows = (choice == which).reshape(-1, *[1] * (result.dim() - 1))
        chosen = torch.where(follows, result, chosen)
    return chosen


def _parts(plan: Plan, before: Tensor) -> Tensor:
    """What each source of the plan brings of `before`.

    before: (B, M, h, w), M quantities of every pixel, with h = w = 1 where pixels are alike.
    Returns (B, K, M, h, w); the sum over K is `before` mixed by the plan.
    """
    from mixbench.augmentations.plans.composite import Chain, Select

    if isinstance(plan, Chain):
        sources = 1
        for stage in plan.stages:
            parts = _parts(stage, before)
            sources *= parts.shape[1]
            before = parts.flatten(1, 2)
        return before.unflatten(1, (sources, -1))
    if isinstance(plan, Select):
        every = [_parts(one, before) for one in plan.plans]
        most = max(parts.shape[1] for parts in every)
        padded = [_padded(parts, most) for parts in every]
        return picked(plan.choice, padded)
    index, share = plan.sources()
    if not is_spatial(plan):
        return share[:, :, None, None, None] * before[index]
    if isinstance(plan, Blend):
        keep = plan.keep.expand(plan.batch, -1, -1, -1)
        weight = torch.stack([keep, 1 - keep], dim=1)
        return weight * before[index]
    if isinstance(plan, Paste):
        return _inside(plan) * _moved(plan, before, index)
    raise TypeError(f"{type(plan).__name__}: expected a Blend, a Paste or a plan made of these")


def _inside(plan: Paste) -> Tensor:
    """Is the pixel that source's? (B, K, 1, H, W) float32, in the order of `plan.sources`."""
    row = torch.arange(plan.size[0], device=plan.device).unsqueeze(1)
    column = torch.arange(plan.size[1], device=plan.device)
    top, left, bottom, right = plan.target[..., None, None].unbind(2)
    inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
    if not plan.tiles:
        inside = torch.cat([~inside.any(dim=1, keepdim=True), inside], dim=1)
    return inside.float().unsqueeze(2)


def _moved(plan: Paste, before: Tensor, index: Tensor) -> Tensor:
    """`before` as each source brings it: from its place to the rectangle; right inside of it."""
    if plan.source is None or before.shape[-2:] == (1, 1):
        return before[index]
    height, width = plan.size
    mixed = plan.mix_images(before.expand(-1, -1, height, width).contiguous())
    return mixed.unsqueeze(1)


def _padded(parts: Tensor, sources: int) -> Tensor:
    missing = parts.new_zeros(parts.shape[0], sources - parts.shape[1], *parts.shape[2:])
    return torch.cat([parts, missing], dim=1)
