"""Draw AugMix's chains of operations, and what share each has."""

from __future__ import annotations

import torch
from torch import Tensor

from mixbench.augmentations.pixels.operations import AT
from mixbench.augmentations.sampling.draws import Draws

MOVES = 5
"""The first of the nine operations; the other four are at the end of `OPERATIONS`."""
LONGEST = 3


def draw_chains(
    draws: Draws, views: int, width: int, depth: int, severity: float
) -> tuple[Tensor, Tensor]:
    """Draw the operations of all chains, and their strengths.

    Args:
        draws: Random numbers.
        views: How many views each image has.
        width: How many chains a view has.
        depth: How many operations a chain has; 0 draws 1 to 3.
        severity: Levels are uniform from 0.1 to this, in tenths of the strongest.

    Returns:
        (rows, views, width, depth) int64, and as many float32.
    """
    longest = depth or LONGEST
    count = views * width * longest
    shape = (3, draws.rows, views, width, longest)
    numbers = draws.uniforms(3 * count).view(3, count, -1).transpose(1, 2).reshape(shape)
    which, level, way = numbers
    place = (which * 9).long()
    operation = torch.where(place < MOVES, place + 1, place - MOVES + AT["posterize"])
    strength = _strengths(draws, operation, 0.1 + level * (severity - 0.1), way > 0.5)
    if not depth:
        length = draws.uniforms(views * width).t().reshape(-1, views, width, 1) * LONGEST
        step = torch.arange(longest, device=operation.device)
        operation = torch.where(step <= length.long(), operation, 0)
    return operation, strength


def _strengths(draws: Draws, operation: Tensor, level: Tensor, negative: Tensor) -> Tensor:
    """Return strengths as `apply_operation` takes them, by the authors' formulas."""
    shear = level * 0.3 / 10
    both_ways = {
        "shear_x": shear,
        "shear_y": shear,
        "translate_x": (level * (draws.width / 3) / 10).trunc(),
        "translate_y": (level * (draws.height / 3) / 10).trunc(),
        "rotate": (level * 30 / 10).trunc(),
    }
    strength = torch.zeros_like(level)
    for name, values in both_ways.items():
        signed = torch.where(negative, -values, values)
        strength = torch.where(operation == AT[name], signed, strength)
    bits, threshold = 4 - (level * 4 / 10).trunc(), 256 - (level * 256 / 10).trunc()
    strength = torch.where(operation == AT["posterize"], bits, strength)
    return torch.where(operation == AT["solarize"], threshold, strength).float()


def draw_shares(draws: Draws, views: int, width: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Draw the share of the image itself, and of each chain.

    Returns:
        (rows, views) and (rows, views, width) float32; they sum to 1.
    """
    mixed = torch.stack([draws.beta(alpha) for _ in range(views)], dim=1)
    weights = torch.stack([draws.dirichlet(alpha, width) for _ in range(views)], dim=1)
    return (1 - mixed).float(), (mixed.unsqueeze(2) * weights).float()
