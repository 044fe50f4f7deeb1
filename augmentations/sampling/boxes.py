"""How large a box is, and where one of a given size is placed: the rules that the papers use."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.sampling.draws import Draws


def smallest_area() -> Any:
    """The parameter `min_area` of the methods whose box `cut_out` makes."""
    return parameter(
        0.0,
        "smallest box before clipping, a fraction of the image",
        at_least=0,
        at_most=1,
        later=True,
    )


def largest_area() -> Any:
    """Their parameter `max_area`."""
    return parameter(
        1.0,
        "largest box before clipping, a fraction of the image",
        above=0,
        at_most=1,
        later=True,
    )


def check_areas(method: str, min_area: float, max_area: float) -> None:
    """Raise ValueError unless the bounds of a box's area are in order."""
    if min_area > max_area:
        raise ValueError(
            f"{method}.min_area: got {min_area:g}, expected at most max_area ({max_area:g})"
        )


def cut_out(
    draws: Draws, alpha: float, min_area: float, max_area: float
) -> tuple[Tensor | int, Tensor | int]:
    """Height and width of boxes: (rows,) int64, or numbers where the draws are `on_host`.

    √(1 - λ) of each side with λ ~ Beta(alpha, alpha), cut off to whole pixels, as in CutMix; the
    area 1 - λ is scaled to the bounds.
    """
    bounded = (min_area, max_area) != (0.0, 1.0)
    if draws.on_host:
        part = 1.0 - draws.beta_number(alpha)
        if bounded:
            part = part * (max_area - min_area) + min_area
        side = math.sqrt(part)
        return int(draws.height * side), int(draws.width * side)
    area = 1.0 - draws.beta(alpha)
    if bounded:
        area = area.mul_(max_area - min_area).add_(min_area)
    cut = area.sqrt_()
    height = (draws.height * cut).long()
    return height, height if draws.width == draws.height else (draws.width * cut).long()


def centred_box(draws: Draws, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Boxes around a uniform centre pixel, clipped at the border.

    height, width: (rows,) int64, or a number for all. Returns (rows, 4) int64: top, left, bottom,
    right, half open. The box reaches side // 2 to both sides of the centre, so an odd side loses a
    pixel, as in the CutMix and Cutout authors' code.
    """
    if draws.on_host:
        # A few numbers: a tenth of what as many small tensors cost.
        down, across = int(height) >> 1, int(width) >> 1
        y, x = draws.places(draws.height, draws.width)
        bottom, right = min(y + down, draws.height), min(x + across, draws.width)
        return _row(max(y - down, 0), max(x - across, 0), bottom, right)
    row = draws.integers(draws.height)
    column = draws.integers(draws.width)
    return clipped_around(row, column, height, width, (draws.height, draws.width))


def inside_box(draws: Draws, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Boxes placed uniformly among the positions where they fit; arguments and result as above."""
    if draws.on_host:
        down, across = int(height), int(width)
        y, x = draws.places(draws.height - down + 1, draws.width - across + 1)
        return _row(y, x, y + down, x + across)
    if draws.at_hand:
        import numpy as np
        import torch

        # Numpy takes half of torch's time for so few numbers.
        sides = np.empty((2, draws.rows), dtype=np.int64)
        sides[0], sides[1] = height, width
        free = np.array([[draws.height], [draws.width]]) - sides + 1
        corner = (draws.uniforms(2).numpy() * free).astype(np.int64)
        return torch.from_numpy(np.concatenate((corner, corner + sides)).T.copy())
    top = draws.integers(draws.height - height + 1)
    left = draws.integers(draws.width - width + 1)
    return _stack(top, left, height + top, width + left)


def pushed_box(draws: Draws, height: Tensor, width: Tensor) -> Tensor:
    """Boxes around a uniform centre pixel, moved inside where they overhang; as above.

    All of the box is kept; positions at the border are more likely than others.
    """
    row = draws.integers(draws.height)
    column = draws.integers(draws.width)
    return pushed_around(row, column, height, width, (draws.height, draws.width))


def quadrants(draws: Draws, row: Tensor, column: Tensor) -> Tensor:
    """The four boxes of a cut before `row` and `column` ((rows,) int64): (rows, 4, 4), as above.

    Upper left, upper right, lower left, lower right; together they are the image.
    """
    import torch

    zero = torch.zeros_like(row)
    bottom, right = zero + draws.height, zero + draws.width
    edges = (
        (zero, zero, row, column),
        (zero, column, row, right),
        (row, zero, bottom, column),
        (row, column, bottom, right),
    )
    return torch.stack([edge for box in edges for edge in box], dim=1).view(-1, 4, 4)


def clipped_around(
    row: Tensor, column: Tensor, height: Tensor | int, width: Tensor | int, size: tuple[int, int]
) -> Tensor:
    """Boxes around given centres, clipped to an image of `size` (H, W).

    row, column: (rows,) int64; height, width: also numbers. Returns (rows, 4) as `centred_box`.
    """
    down = height >> 1
    across = down if width is height else width >> 1
    box = _stack(row - down, column - across, row + down, column + across).clamp_(min=0)
    if size[0] == size[1]:
        return box.clamp_(max=size[0])
    box[..., 2].clamp_(max=size[0])
    box[..., 3].clamp_(max=size[1])
    return box


def pushed_around(
    row: Tensor, column: Tensor, height: Tensor | int, width: Tensor | int, size: tuple[int, int]
) -> Tensor:
    """Boxes around given centres, moved inside an image of `size` (H, W); they must fit in it."""
    top = (row - height // 2).clamp(min=0).clamp(max=size[0] - height)
    left = (column - width // 2).clamp(min=0).clamp(max=size[1] - width)
    return _stack(top, left, top + height, left + width)


def _row(*edges: int) -> Tensor:
    import torch

    return torch.tensor([edges], dtype=torch.int64)


def _stack(*columns: Tensor) -> Tensor:
    import torch

    return torch.stack(columns, dim=-1)
