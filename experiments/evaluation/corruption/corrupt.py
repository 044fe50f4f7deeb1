"""Corrupt a batch of images: `corrupt(images, "fog", 3, draws)`."""

from __future__ import annotations

from torch import Tensor

from mixbench.experiments.evaluation.corruption import blur, digital, noise, weather
from mixbench.experiments.evaluation.corruption.levels import (
    CORRUPTIONS,
    LARGE_FROM,
    LARGE_SIDE,
    SMALL_SIDE,
)
from mixbench.experiments.evaluation.corruption.noise import SHADES
from mixbench.experiments.evaluation.image_random import ImageRandom

_FAMILIES = {"noise": noise, "blur": blur, "weather": weather, "digital": digital}


def applies(name: str, channels: int) -> bool:
    """Whether images with that many channels can have the corruption.

    Args:
        name: One of `levels.CORRUPTIONS`.
        channels: Of the images.

    Examples:
        >>> applies("saturate", 3), applies("saturate", 1)
        (True, False)
    """
    return channels == 3 or not CORRUPTIONS[name].colour


def corrupt(
    images: Tensor, name: str, severity: int, draws: ImageRandom, preset: str = "monotone"
) -> Tensor:
    """Corrupt images; harder severities of an image use the same random numbers.

    Values are not rounded to the 256 shades that files hold, but by the preset `published`: down,
    as the published files are.

    Args:
        images: (B,C,H,W) float32 in [0,1].
        name: One of `levels.CORRUPTIONS`.
        severity: 1 to 5.
        draws: The images' random numbers.
        preset: "monotone" or "published".

    Returns:
        The same shape, type and range.
    """
    levels = CORRUPTIONS[name]
    side = min(images.shape[-2:])
    large = side >= LARGE_FROM
    level = levels.of(severity, preset, is_large=large)
    scale = side / (LARGE_SIDE if large else SMALL_SIDE)
    apply = getattr(_FAMILIES[levels.family], name)
    corrupted: Tensor = apply(images, level, scale, draws)
    corrupted = corrupted.clamp_(0, 1)
    if preset == "published":
        # A shade's own value must stay, whatever side of it single precision is on.
        corrupted = corrupted.mul_(SHADES - 1).add_(1e-3).floor_().div_(SHADES - 1)
    return corrupted
