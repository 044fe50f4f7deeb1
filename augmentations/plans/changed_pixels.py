"""Which pixels of a batch a plan changes, and what that comes to over the mixed samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.blend import Blend
from mixbench.augmentations.plans.composite import AtDepth, Chain, Select
from mixbench.augmentations.plans.paste import Paste
from mixbench.augmentations.plans.pixel_shares import picked

UNIT = 2**24


def changed_area(plan: Plan) -> Tensor:
    """The share of each sample's pixels that the plan changes: (B,) float32.

    All of them in a blend without a mask. Of a plan inside a network it is the share of its
    features. Pixels count that get another source or a fill, whatever the values there.
    """
    if isinstance(plan, AtDepth):
        return changed_area(plan.plan)
    if isinstance(plan, Paste):
        pixels = (plan.area() * plan.moves()).sum(dim=1)
        return pixels.float() / (plan.size[0] * plan.size[1])
    return _mask(plan).float().mean(dim=(1, 2))


def realised(plans: Sequence[Plan]) -> Tensor:
    """What mixing came to, over the samples that the plans change: (3,) int64 on their device.

    How many they are, and the sums of their `own_share` and `changed_area`, all in units of
    1 / UNIT: whole numbers, so that the sum over many plans does not depend on how it is grouped.
    Small plans of one kind and batch size cost about as much together as one of them alone.
    """
    total = torch.zeros(3, dtype=torch.int64, device=plans[0].device)
    for plan in _joined(plans):
        each = torch.stack(
            [torch.ones(plan.batch, device=plan.device), plan.own_share(), changed_area(plan)]
        )
        counted = (each * UNIT).round_().long()
        total += (counted * plan.changed()).sum(dim=1)
    return total


def is_small(plan: Plan) -> bool:
    """Is it worth keeping, to be realised with others, and little to keep?"""
    return type(plan) is Paste or (type(plan) is Blend and plan.keep.shape[2:] == (1, 1))


def _joined(plans: Sequence[Plan]) -> Iterator[Plan]:
    """The same decisions in as few plans as can be: small ones that are alike for one batch."""
    alike: dict[Any, list[Plan]] = {}
    for plan in plans:
        if is_small(plan):
            given = {item.name: getattr(plan, item.name) for item in fields(plan)}  # type: ignore[arg-type]
            kind = tuple(
                value.shape[1:] if isinstance(value, Tensor) else value for value in given.values()
            )
            alike.setdefault((type(plan), plan.batch, kind), []).append(plan)
        else:
            yield plan
    for group in alike.values():
        yield group[0] if len(group) == 1 else _one_batch(group)


def _one_batch(plans: Sequence[Plan]) -> Plan:
    batch = plans[0].batch
    together: dict[str, Tensor] = {}
    for item in fields(plans[0]):  # type: ignore[arg-type]
        values = [getattr(plan, item.name) for plan in plans]
        if isinstance(values[0], Tensor):
            together[item.name] = torch.cat(values)
    if "partner" in together:
        # A partner keeps its distance: sample i of the k-th plan is now sample i + k * batch.
        sample = torch.arange(len(plans) * batch, device=plans[0].device)
        start = sample - sample % batch
        together["partner"] = together["partner"] + start.view(
            -1, *[1] * (together["partner"].dim() - 1)
        )
    return replace(plans[0], **together)  # type: ignore[type-var]


def _mask(plan: Plan) -> Tensor:
    """Is the pixel changed?  (B, H, W) bool, (B, 1, 1) where pixels are alike."""
    if isinstance(plan, AtDepth):
        return _mask(plan.plan)
    if isinstance(plan, Chain):
        mask = _mask(plan.stages[0])
        for stage in plan.stages[1:]:
            mask = mask | _mask(stage)
        return mask
    if isinstance(plan, Select):
        return picked(plan.choice, [_mask(one) for one in plan.plans])
    if isinstance(plan, Blend):
        part = (plan.keep < 1).any(dim=1).expand(plan.batch, -1, -1)
        return part & plan.changed().view(-1, 1, 1)
    if isinstance(plan, Paste):
        row = torch.arange(plan.size[0], device=plan.device).unsqueeze(1)
        column = torch.arange(plan.size[1], device=plan.device)
        target = torch.where(plan.moves().unsqueeze(-1), plan.target, 0)
        top, left, bottom, right = target[..., None, None].unbind(2)
        inside = (row >= top) & (row < bottom) & (column >= left) & (column < right)
        return inside.any(dim=1)
    raise TypeError(f"{type(plan).__name__}: expected a plan of this package")
