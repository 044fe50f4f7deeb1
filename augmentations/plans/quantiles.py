"""How the label weights of a batch are distributed, on their device."""

from __future__ import annotations

import torch
from torch import Tensor

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of the samples' own label weights in `Plan.statistics`."""


def comes_from_itself(index: Tensor) -> Tensor:
    """Tell which sources are the sample itself: (B, K) bool, of the indices (B, K)."""
    return index == torch.arange(index.shape[0], device=index.device).unsqueeze(1)


def distribution(share: Tensor) -> dict[str, Tensor]:
    """Return mean, deviation, extremes and quantiles of the samples' own label weights (B,)."""
    numbers = {"own_mean": share.mean(), "own_std": share.std(correction=0)}
    ordered = share.sort().values
    last = ordered.shape[0] - 1
    numbers["own_min"] = ordered[0]
    for quantile in QUANTILES:
        position = quantile * last
        low = int(position)
        between = torch.lerp(ordered[low], ordered[min(low + 1, last)], position - low)
        numbers[f"own_q{100 * quantile:02.0f}"] = between
    numbers["own_max"] = ordered[-1]
    return numbers
