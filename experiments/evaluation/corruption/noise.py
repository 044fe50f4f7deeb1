"""Noise: every value of an image is disturbed independently.

The functions of a family have the same parameters:

    images  (B,C,H,W) float32 in [0,1]
    level   the constants of a severity, see `levels`
    scale   the images' side over the side that the constants are for
    draws   the images' random numbers

They return (B,C,H,W) float32, not yet clipped to [0,1].
"""

# All have the same parameters, whether they need them or not.
# ruff: noqa: ARG001

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom

SHADES = 256


def gaussian_noise(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Add Gaussian noise."""
    return images + level * draws.normal("noise", *images.shape[1:])


def shot_noise(images: Tensor, level: int, scale: float, draws: ImageRandom) -> Tensor:
    """Count photons: Poisson noise, by its quantiles; images are taken in 256 shades, as stored."""
    table = _poisson(level, images.device)
    shade = (images * (SHADES - 1)).round().long()
    wanted = shade + draws.uniform("noise", *images.shape[1:]).double()
    # The table is one rising list: of shade s, s + the share of counts that are at most k.
    index = torch.searchsorted(table.view(-1), wanted, right=True)
    counts = index - shade * table.shape[1]
    return counts.clamp(max=table.shape[1] - 1) / float(level)


def impulse_noise(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Make single values black or white."""
    hit = draws.uniform("hit", *images.shape[1:]) < level
    white = draws.uniform("white", *images.shape[1:]) < 0.5
    return torch.where(hit, white.to(images.dtype), images)


def speckle_noise(images: Tensor, level: float, scale: float, draws: ImageRandom) -> Tensor:
    """Add Gaussian noise in proportion to each value."""
    return images + images * level * draws.normal("noise", *images.shape[1:])


@lru_cache(maxsize=16)
def _poisson(photons: int, device: torch.device) -> Tensor:
    """At [s, k]: s + P(count <= k), where white has `photons` and s of 255 has its share."""
    rates = torch.arange(SHADES, dtype=torch.float64) * (photons / (SHADES - 1))
    counts = torch.arange(int(photons + 10 * photons**0.5 + 20), dtype=torch.float64)
    log = torch.special.xlogy(counts, rates.unsqueeze(1)) - rates.unsqueeze(1)
    below: Tensor = (log - torch.lgamma(counts + 1)).exp().cumsum(dim=1).clamp(max=1)
    return (below + torch.arange(SHADES).unsqueeze(1)).to(device)
