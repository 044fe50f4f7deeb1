"""Draw the size and the position of boxes, by the rules of the papers.

A box is (top, left, bottom, right) in whole pixels, half open: bottom and right are outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mixbench.augmentations.parameters import parameter

if TYPE_CHECKING:
    from torch import Tensor

    from mixbench.augmentations.sampling.draws import Draws


def smallest_area() -> Any:
    """Declare the parameter `min_area` of a method that draws its boxes by `cut_area`."""
    return parameter(
        0.0,
        "smallest box before clipping, a fraction of the image",
        at_least=0,
        at_most=1,
        later=True,
    )


def largest_area() -> Any:
    """Declare the parameter `max_area` of a method that draws its boxes by `cut_area`."""
    return parameter(
        1.0,
        "largest box before clipping, a fraction of the image",
        above=0,
        at_most=1,
        later=True,
    )


def check_areas(method: str, min_area: float, max_area: float) -> None:
    """Check that the bounds of a box's area are in order.

    Args:
        method: The method's name, for the message.
        min_area: Smallest area, a fraction of the image.
        max_area: Largest area, a fraction of the image.

    Raises:
        ValueError: `min_area` is above `max_area`.
    """
    if min_area > max_area:
        raise ValueError(
            f"{method}.min_area: got {min_area:g}, expected at most max_area ({max_area:g})"
        )


def cut_area(draws: Draws, alpha: float, min_area: float = 0.0, max_area: float = 1.0) -> Tensor:
    """Draw the area of boxes, before sides are rounded: 1 - λ with λ ~ Beta(alpha, alpha).

    Source: CutMix (Yun et al. 2019), equation 2. The bounds, to which the area is scaled, are not
    in the paper.

    Args:
        draws: Random numbers for one batch.
        alpha: Both parameters of the Beta distribution, above 0.
        min_area: Smallest area, a fraction of the image.
        max_area: Largest area, a fraction of the image.

    Returns:
        Fractions of the image: (rows,) float64, on the device of `draws`.
    """
    area = 1.0 - draws.beta(alpha)
    if (min_area, max_area) != (0.0, 1.0):
        area = area.mul_(max_area - min_area).add_(min_area)
    return area


def cutting_along() -> Any:
    """Declare the parameter `axis` of a method that draws its boxes by `cut_sides`."""
    return parameter(
        "both",
        "which sides of the image are cut; a box is as long as the other one",
        choices=("both", "width", "height"),
        later=True,
    )


def cut_sides(draws: Draws, area: Tensor, axis: str = "both") -> tuple[Tensor, Tensor]:
    """Return height and width of boxes of this area, with the image's aspect.

    Source: the CutMix authors' code: sides are rounded down to whole pixels.

    Args:
        draws: Has the image's height and width.
        area: Fractions of the image: (rows,) floating point.
        axis: "both", or the one side that is cut, "width" or "height".

    Returns:
        Heights and widths in pixels: (rows,) int64 each.

    Examples:
        >>> import torch
        >>> from mixbench.augmentations import Draws
        >>> draws = Draws(2, 2, 32, 16, "cpu", None)
        >>> cut_sides(draws, torch.tensor([0.25, 1.0]))
        (tensor([16, 32]), tensor([ 8, 16]))
    """
    if axis == "width":
        width = (draws.width * area).long()
        return width.new_full(width.shape, draws.height), width
    if axis == "height":
        height = (draws.height * area).long()
        return height, height.new_full(height.shape, draws.width)
    cut = area.sqrt()
    height = (draws.height * cut).long()
    return height, height if draws.width == draws.height else (draws.width * cut).long()


def centred_box(draws: Draws, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Place boxes around a uniform centre pixel, clipped at the border.

    Source: the CutMix and Cutout authors' code. A box reaches side // 2 to both sides of its
    centre, so an odd side loses a pixel.

    Args:
        draws: Random numbers for one batch.
        height: Heights in pixels: (rows,) int64, or a number for all.
        width: Widths in pixels, likewise.

    Returns:
        Boxes: (rows, 4) int64.
    """
    row = draws.integers(draws.height)
    column = draws.integers(draws.width)
    return clipped_around(row, column, height, width, (draws.height, draws.width))


def full_length(box: Tensor, axis: str, draws: Draws) -> Tensor:
    """Return boxes as long as the image along the side that isn't cut, wherever they were placed.

    Args:
        box: Boxes: (rows, 4) int64.
        axis: "both", or the one side that is cut, "width" or "height".
        draws: Has the image's height and width.

    Returns:
        Boxes: (rows, 4) int64.

    Examples:
        >>> import torch
        >>> from mixbench.augmentations import Draws
        >>> draws = Draws(1, 1, 32, 16, "cpu", None)
        >>> full_length(torch.tensor([[8, 2, 32, 6]]), "width", draws)
        tensor([[ 0,  2, 32,  6]])
    """
    if axis == "both":
        return box
    first, last, length = (0, 2, draws.height) if axis == "width" else (1, 3, draws.width)
    box = box.clone()
    box[:, first], box[:, last] = 0, length
    return box


def inside_box(draws: Draws, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Place boxes uniformly among the positions where they fit.

    Args:
        draws: Random numbers for one batch.
        height: Heights in pixels, at most the image's: (rows,) int64, or a number for all.
        width: Widths in pixels, likewise.

    Returns:
        Boxes: (rows, 4) int64.
    """
    top = draws.integers(draws.height - height + 1)
    left = draws.integers(draws.width - width + 1)
    return _stack(top, left, height + top, width + left)


def pushed_box(draws: Draws, height: Tensor | int, width: Tensor | int) -> Tensor:
    """Place boxes around a uniform centre pixel, moved inside where they reach over the border.

    Boxes are never clipped; positions at the border are more likely than others.

    Args:
        draws: Random numbers for one batch.
        height: Heights in pixels, at most the image's: (rows,) int64, or a number for all.
        width: Widths in pixels, likewise.

    Returns:
        Boxes: (rows, 4) int64.
    """
    row = draws.integers(draws.height)
    column = draws.integers(draws.width)
    return pushed_around(row, column, height, width, (draws.height, draws.width))


def quadrants(draws: Draws, row: Tensor, column: Tensor) -> Tensor:
    """Cut the image into four boxes that cover it.

    Args:
        draws: Has the image's height and width.
        row: The cut lies before this row: (rows,) int64.
        column: The cut lies before this column: (rows,) int64.

    Returns:
        (rows, 4, 4) int64: the boxes upper left, upper right, lower left and lower right.
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
    """Place boxes around given centres, clipped to the image.

    Args:
        row: The centres' rows: (rows,) int64.
        column: The centres' columns: (rows,) int64.
        height: Heights in pixels: (rows,) int64, or a number for all.
        width: Widths in pixels, likewise.
        size: The image's height and width.

    Returns:
        Boxes: (rows, 4) int64.

    Examples:
        >>> import torch
        >>> clipped_around(torch.tensor([1]), torch.tensor([4]), 4, 5, (8, 8))
        tensor([[0, 2, 3, 6]])
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
    """Place boxes around given centres, moved inside where they reach over the border.

    Args:
        row: The centres' rows: (rows,) int64.
        column: The centres' columns: (rows,) int64.
        height: Heights in pixels, at most the image's: (rows,) int64, or a number for all.
        width: Widths in pixels, likewise.
        size: The image's height and width.

    Returns:
        Boxes: (rows, 4) int64.
    """
    top = (row - height // 2).clamp(min=0).clamp(max=size[0] - height)
    left = (column - width // 2).clamp(min=0).clamp(max=size[1] - width)
    return _stack(top, left, top + height, left + width)


def _stack(*columns: Tensor) -> Tensor:
    import torch

    return torch.stack(columns, dim=-1)
