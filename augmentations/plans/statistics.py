"""What a plan realised: how much of each sample is its own, who met itself, who was changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.plans.base import Plan

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def statistics(plan: Plan) -> dict[str, Tensor]:
    """Numbers (0-dimensional float32 tensors on the plan's device) over the samples of a batch.

    own_mean, own_std (with n in the denominator), own_min, own_q05, own_q25, own_q50, own_q75,
    own_q95, own_max: the label weight of each sample itself, the realised λ; quantiles interpolate
    linearly. self_pair: of the visible parts behind the first of `Plan.sources`, the share that
    comes from the sample itself; 0 where there are none. changed: share of samples whose image
    changes.
    """
    own = plan.own_share().float()
    result = {"own_mean": own.mean(), "own_std": own.std(correction=0)}
    ordered = own.sort().values
    result["own_min"] = ordered[0]
    for quantile in QUANTILES:
        position = quantile * (ordered.shape[0] - 1)
        low = int(position)
        high = min(low + 1, ordered.shape[0] - 1)
        between = torch.lerp(ordered[low], ordered[high], position - low)
        result[f"own_q{100 * quantile:02.0f}"] = between
    result["own_max"] = ordered[-1]
    index, share = plan.sources()
    self_index = torch.arange(index.shape[0], device=index.device).unsqueeze(1)
    visible = share[:, 1:] > 0
    met_itself = visible & (index[:, 1:] == self_index)
    result["self_pair"] = met_itself.sum() / visible.sum().clamp(min=1)
    result["changed"] = plan.changed().float().mean()
    return result
