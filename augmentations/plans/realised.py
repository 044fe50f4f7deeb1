"""Sum up many plans: how many samples they change, their label weights and changed pixels."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from mixbench.augmentations.plans.base import Plan

UNIT = 2**24
"""Sums are whole numbers of 1 / UNIT."""


def sum_realised(plans: Sequence[Plan]) -> Tensor:
    """Count the samples that the plans change, and sum their label weights and changed areas.

    Sums are whole numbers in units of 1 / `UNIT`, so that the sum over many plans does not depend
    on their grouping. Many small plans of one kind and batch size cost about as much as one.

    Args:
        plans: At least one, all on one device.

    Returns:
        (3,) int64 on that device: how many samples are changed, and the sums of their `own_share`
        and `changed_area`.

    Examples:
        >>> import mixbench, torch
        >>> plan = mixbench.Blend(torch.full((2, 1, 1, 1), 0.75), partner=torch.tensor([1, 0]))
        >>> sum_realised([plan, plan]) / UNIT
        tensor([4., 3., 4.])
    """
    total = torch.zeros(3, dtype=torch.int64, device=plans[0].device)
    for plan in _merge_small(plans):
        sample = torch.ones(plan.batch, device=plan.device)
        numbers = torch.stack([sample, plan.own_share(), plan.changed_area()])
        total += ((numbers * UNIT).round_().long() * plan.changed()).sum(dim=1)
    return total


def _merge_small(plans: Sequence[Plan]) -> Iterator[Plan]:
    """Merge small plans of one kind into one each; yield all others unchanged."""
    alike: dict[Hashable, list[Plan]] = {}
    for plan in plans:
        if plan.is_small:
            kind = tuple(
                value.shape[1:] if isinstance(value, Tensor) else value
                for value in _values(plan).values()
            )
            alike.setdefault((type(plan), plan.batch, kind), []).append(plan)
        else:
            yield plan
    for group in alike.values():
        yield group[0] if len(group) == 1 else _for_one_batch(group)


def _for_one_batch(plans: Sequence[Plan]) -> Plan:
    batch = plans[0].batch
    tensors = {
        name: torch.cat([getattr(plan, name) for plan in plans])
        for name, value in _values(plans[0]).items()
        if isinstance(value, Tensor)
    }
    if "partner" in tensors:
        # Sample i of the k-th plan is now sample i + k * batch, and so is its partner.
        partner = tensors["partner"]
        sample = torch.arange(len(plans) * batch, device=partner.device)
        start = sample - sample % batch
        tensors["partner"] = partner + start.view(-1, *[1] * (partner.dim() - 1))
    return replace(plans[0], **tensors)  # type: ignore[type-var]


def _values(plan: Any) -> dict[str, Any]:
    return {field.name: getattr(plan, field.name) for field in fields(plan)}
