"""Where patches are: squares at a random place of each image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.image_random import ImageRandom


def side_of(share: float, height: int, width: int) -> int:
    """The side of a square that covers a share of the image, rounded.

    Args:
        share: From 0 to 1.
        height: Of the image.
        width: Of the image.

    Returns:
        In pixels.

    Raises:
        UserError: It is less than a pixel, or larger than the image.

    Examples:
        >>> side_of(0.1, 28, 28), side_of(1.0, 28, 28)
        (9, 28)
    """
    side = round(math.sqrt(share * height * width))
    if not 1 <= side <= min(height, width):
        what = "larger than the image" if side else "smaller than a pixel"
        low, high = 0.25 / (height * width), min(height, width) / max(height, width)
        raise UserError(
            f"patch.shares: got {share:.6g}, a square {what} of {height} x {width} pixels; "
            f"expected from {low:.2g} to {high:.2g}"
        )
    return side


class Places:
    """A square at a random place of each image.

    Args:
        draws: The images' random numbers.
        side: Of the squares, in pixels.
        height: Of the images.
        width: Of the images.
    """

    def __init__(self, draws: ImageRandom, side: int, height: int, width: int) -> None:
        chosen = draws.uniform("place", 2)
        # (B,1): how many pixels above and left of the square.
        self.top = (chosen[:, :1] * (height - side + 1)).long()
        self.left = (chosen[:, 1:] * (width - side + 1)).long()
        self.side = side
        rows, columns = (torch.arange(length, device=chosen.device) for length in (height, width))
        self._rows, self._columns = rows - self.top, columns - self.left

    @property
    def inside(self) -> Tensor:
        """(B,1,H,W) bool, what the squares cover."""
        rows, columns = ((one >= 0) & (one < self.side) for one in (self._rows, self._columns))
        return (rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1)

    def paste(self, pixels: Tensor, patch: Tensor) -> Tensor:
        """Put one patch into every image; differentiable by the patch.

        Args:
            pixels: (B,C,H,W).
            patch: (C,side,side).

        Returns:
            (B,C,H,W).
        """
        rows = self._rows.clamp(0, self.side - 1).unsqueeze(2)
        columns = self._columns.clamp(0, self.side - 1).unsqueeze(1)
        return torch.where(self.inside, patch[:, rows, columns].transpose(0, 1), pixels)
