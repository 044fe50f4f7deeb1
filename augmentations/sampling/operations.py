"""Draw which operation each image gets, and how strong it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.augmentations.checks import readable
from mixbench.augmentations.pixels.operations import AT, OPERATIONS
from mixbench.augmentations.sampling.draws import Draws

Normalisation = tuple[Tensor | float | Sequence[float], Tensor | float | Sequence[float]]
"""Mean and standard deviation, each a number or one for each channel."""


@dataclass(frozen=True)
class Space:
    """The strongest that operations can be; at level 0 they change nothing, or the least.

    Attributes:
        shear: The tangent of the angle.
        translate: Pixels down and across; drawn ones are cut to whole pixels.
        rotate: Degrees.
        factor: By how much brightness, colour, contrast and sharpness differ from 1.
        bits: How many posterize leaves of 8.
    """

    shear: float
    translate: tuple[float, float]
    rotate: float
    factor: float
    bits: int

    def strengths(self, operation: Tensor, level: Tensor, negative: Tensor, bins: int) -> Tensor:
        """Return the strengths of operations, as `apply_operation` takes them: float32.

        They are torchvision's to the last bit: 16 pixels are 15.999999, and so 15.

        Args:
            operation: Places in `OPERATIONS`, of any shape.
            level: From 0, the least, to bins - 1, the strongest: int64, likewise.
            negative: Whether those with two directions go the other way, bool.
            bins: How many levels there are.
        """

        def at(first: float, last: float) -> Tensor:
            scale = torch.linspace(first, last, bins, dtype=torch.float32, device=level.device)
            return scale[level]

        down, across = self.translate
        factor, shear = at(0, self.factor), at(0, self.shear)
        one_way = {
            "posterize": (8 - level / ((bins - 1) / (8 - self.bits))).round(),
            "solarize": 255 * at(1, 0),
        }
        both_ways = {
            "shear_x": shear,
            "shear_y": shear,
            "translate_x": at(0, across).trunc(),
            "translate_y": at(0, down).trunc(),
            "rotate": at(0, self.rotate),
            **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), factor),
        }
        strength = torch.zeros_like(factor)
        for name, values in one_way.items():
            strength = torch.where(operation == AT[name], values.float(), strength)
        for name, values in both_ways.items():
            signed = torch.where(negative, -values, values)
            strength = torch.where(operation == AT[name], signed, strength)
        return strength


def draw_operations(
    draws: Draws, space: Space, count: int, bins: int, chosen: int | None = None
) -> tuple[Tensor, Tensor]:
    """Draw operations, all alike, to be applied one after another, and their strengths.

    Args:
        draws: Random numbers.
        space: How strong they can be.
        count: How many for each row.
        bins: How many levels there are to draw from, from the least to the strongest.
        chosen: The level of all, from 0 to `bins` - 1; None to draw one for each.

    Returns:
        Operations (rows, count) int64, and strengths (rows, count) float32.
    """
    which, way, bin_ = draws.uniforms(3 * count).view(3, count, -1).transpose(1, 2)
    operation = (which * len(OPERATIONS)).long()
    level = (bin_ * bins).long() if chosen is None else torch.full_like(operation, chosen)
    return operation, space.strengths(operation, level, way < 0.5, bins)


def normalisation_of(draws: Draws) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of the images' normalisation, on the device.

    Raises:
        ValueError: They are not two numbers, or lists of numbers, or a deviation is not above 0.
    """
    given = draws.normalisation
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise ValueError(f"normalisation: expected (mean, std), got {given!r}")
    mean, std = (
        _numbers(name, value, draws) for name, value in zip(("mean", "std"), given, strict=True)
    )
    if readable(std) and not bool((std > 0).all()):
        raise ValueError(f"normalisation: expected a std above 0, got {std.tolist()}")
    return mean, std


def _numbers(name: str, value: object, draws: Draws) -> Tensor:
    try:
        numbers = torch.as_tensor(value, dtype=torch.float32, device=draws.device)
    except (TypeError, ValueError, RuntimeError):
        numbers = None
    if numbers is None or numbers.dim() > 1 or not numbers.numel():
        raise ValueError(
            f"normalisation: expected a number as its {name}, or one for each channel, got "
            f"{value!r}"
        )
    return numbers.reshape(-1)
