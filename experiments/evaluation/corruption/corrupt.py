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


def corrupt(images: Tensor, name: str, severity: int, draws: ImageRandom) -> Tensor:
    """Corrupt images; harder severities of an image use the same random numbers.

    Values are not rounded to the 256 shades that files hold.

    Args:
        images: (B,C,H,W) float32 in [0,1].
        name: One of `levels.CORRUPTIONS`.
        severity: 1 to 5.
        draws: The images' random numbers.

    Returns:
        The same shape, type and range.
    """
    levels = CORRUPTIONS[name]
    side = min(images.shape[-2:])
    large = side >= LARGE_FROM
    level = (levels.large if large else levels.small)[severity - 1]
    scale = side / (LARGE_SIDE if large else SMALL_SIDE)
    apply = getattr(_FAMILIES[levels.family], name)
    corrupted: Tensor = apply(images, level, scale, draws)
    return corrupted.clamp_(0, 1)
