"""Quantiles of symmetric Beta distributions, on any device; torch has none."""

from __future__ import annotations

import torch
from torch import Tensor

POINTS = 512
REACH = 36.0
"""Where the tables end, in scales: exp(-36) is below what float64 adds to 1/2."""


def beta_quantile(unit: Tensor, shape: Tensor) -> Tensor:
    """Return the quantiles of Beta(τ, τ), right to 1e-4.

    The distribution of the logit has tails exp(-τ s), and near 0 the width √(2 / τ). Its density is
    added up on points that are dense where it is large, and the sum is inverted by interpolation.

    Args:
        unit: (N,) from 0 to 1.
        shape: τ, (N,), above 0.

    Returns:
        (N,) of the dtype of `unit`.

    Examples:
        >>> unit = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
        >>> beta_quantile(unit, torch.tensor([1.0, 1.0, 1e6])).round(decimals=3)
        tensor([0.2500, 0.5000, 0.5000], dtype=torch.float64)
    """
    tau = shape.to(unit).clamp(1e-6, 1e6).unsqueeze(1)
    # The upper half; the lower one is its mirror image.
    upper = (unit - 0.5).abs().clamp(max=0.5).unsqueeze(1)
    step = torch.linspace(0, 1, POINTS, dtype=unit.dtype, device=unit.device)
    logit = REACH * step.square() * (1 / tau + (2 / tau).sqrt())
    log_density = -tau * (2 * torch.log1p(torch.exp(-logit)) + logit)
    density = (log_density - log_density[:, :1]).exp()
    part = (density[:, 1:] + density[:, :-1]) / 2 * logit.diff(dim=1)
    total = torch.cat([torch.zeros_like(tau), part.cumsum(dim=1)], dim=1)
    total = total / (2 * total[:, -1:])
    after = torch.searchsorted(total, upper).clamp(1, POINTS - 1)
    low, high = total.gather(1, after - 1), total.gather(1, after)
    share = ((upper - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
    start, end = logit.gather(1, after - 1), logit.gather(1, after)
    far = (start + share * (end - start)).masked_fill(upper >= 0.5, torch.inf).squeeze(1)
    return torch.sigmoid(torch.where(unit >= 0.5, far, -far))
