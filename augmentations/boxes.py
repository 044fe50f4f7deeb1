"""Where a rectangle of a given size is placed: the two rules that the papers use."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from augmentations.draws import Draws


def centred_box(draws: Draws, height: Tensor, width: Tensor) -> Tensor:
    """Boxes around a uniform centre pixel, clipped at the border.

    height, width: (rows,) int64. Returns (rows, 4) int64: top, left, bottom, right, half open.
    The box reaches side // 2 to both sides of the centre, so an odd side loses a pixel, as in the
    CutMix and Cutout authors' code.
    """
    row = draws.integers(draws.height)
    column = draws.integers(draws.width)
    return _stack(
        (row - height // 2).clamp(0, draws.height),
        (column - width // 2).clamp(0, draws.width),
        (row + height // 2).clamp(0, draws.height),
        (column + width // 2).clamp(0, draws.width),
    )


def inside_box(draws: Draws, height: Tensor, width: Tensor) -> Tensor:
    """Boxes placed uniformly among the positions where they fit; arguments and result as above."""
    top = draws.integers(draws.height - height + 1)
    left = draws.integers(draws.width - width + 1)
    return _stack(top, left, top + height, left + width)


def _stack(*columns: Tensor) -> Tensor:
    import torch

    return torch.stack(columns, dim=-1)
