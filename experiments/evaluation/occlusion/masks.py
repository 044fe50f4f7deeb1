"""Which pixels of an image are hidden, at growing fractions of it.

A shape is a map of levels, uint8 (B,H,W) or (1,H,W): how many of the ascending fractions leave a
pixel visible. Fraction number i hides the pixels whose level is at most i: what is hidden at one
fraction stays hidden at all larger ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom

DECAY = 3.0
"""Of the blobs' spectrum, 1/frequency^3, as in FMix (Harris et al. 2020)."""

Shape = Callable[[ImageRandom, int, int, Sequence[float]], Tensor]


def rectangle_sides(height: int, width: int, fraction: float) -> tuple[int, int]:
    """Rows and columns of a rectangle with the image's aspect that has `fraction` of its area.

    By area and not by side, as in CutMix (Yun et al. 2019, appendix E.1).

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        fraction: Of the image's area, from 0 to 1.

    Returns:
        Sides rounded to whole pixels, at least 1.

    Examples:
        >>> rectangle_sides(28, 28, 0.25)
        (14, 14)
    """
    rows, columns = (max(1, round(side * math.sqrt(fraction))) for side in (height, width))
    return rows, columns


def centre_square(height: int, width: int, fraction: float) -> Tensor:
    """The hidden pixels where a centred rectangle has `fraction` of the image's area.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.
        fraction: As in `rectangle_sides`.

    Returns:
        (H, W) bool.

    Examples:
        >>> centre_square(4, 4, 0.25).int()
        tensor([[0, 0, 0, 0],
                [0, 1, 1, 0],
                [0, 1, 1, 0],
                [0, 0, 0, 0]], dtype=torch.int32)
    """
    rows, columns = rectangle_sides(height, width, fraction)
    top, left = (height - rows) // 2, (width - columns) // 2
    hidden = torch.zeros(height, width, dtype=torch.bool)
    hidden[top : top + rows, left : left + columns] = True
    return hidden


def patch_grid(height: int, width: int) -> tuple[int, int, int]:
    """The grid of patches of an image.

    Args:
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        The patches' side in pixels, rows and columns: 14 x 14 patches from 112 pixels on (PatchDrop
        in Naseer et al. 2021), else about 7 x 7.

    Examples:
        >>> patch_grid(28, 28), patch_grid(224, 224)
        ((4, 7, 7), (16, 14, 14))
    """
    side = min(height, width)
    patch = max(1, round(side / (14 if side >= 112 else 7)))
    return patch, math.ceil(height / patch), math.ceil(width / patch)


def patch_order(count: int, patches: int, seed: int) -> Tensor:
    """The order in which the patches of each image are hidden.

    Growing fractions hide growing sets of patches, so a curve is about one image at a time.

    Args:
        count: Images.
        patches: Of each image.
        seed: Which order.

    Returns:
        (count, patches) int64.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, patches, generator=generator).argsort(dim=1)


def random_patches(order: Tensor, height: int, width: int, fraction: float) -> Tensor:
    """The hidden pixels where the first patches of each image's order have `fraction` of them.

    Args:
        order: (B, patches) int64, as of `patch_order`.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        fraction: Of the patches, at least one of which is hidden.

    Returns:
        (B, H, W) bool.
    """
    _, rows, columns = patch_grid(height, width)
    hidden = torch.zeros(order.shape[0], rows * columns, dtype=torch.bool, device=order.device)
    hidden.scatter_(1, order[:, : max(1, round(fraction * rows * columns))], True)
    return _patches_to_pixels(hidden, height, width)


def levels(
    shape: str, draws: ImageRandom, height: int, width: int, fractions: Sequence[float]
) -> Tensor:
    """The levels of a shape for each image of `draws`.

    Args:
        shape: One of `occlusion.SHAPES`.
        draws: The images' random numbers.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        fractions: Ascending, above 0 and below 1.

    Returns:
        (B,H,W) uint8, or (1,H,W) where all images have the same.
    """
    return SHAPE_LEVELS[shape](draws, height, width, fractions)


def centre(draws: ImageRandom, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """A centred rectangle with the image's aspect; sides rounded to whole pixels."""
    hidden = (centre_square(height, width, fraction) for fraction in fractions)
    return _levels_of(hidden).unsqueeze(0).to(draws.indices.device)


def boundary(draws: ImageRandom, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """All but the centred rectangle that has the rest of the area."""
    hidden = (~centre_square(height, width, 1 - fraction) for fraction in fractions)
    return _levels_of(hidden).unsqueeze(0).to(draws.indices.device)


def square(draws: ImageRandom, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The centre's rectangle anywhere in the image, fully inside, all positions equally likely.

    One share of the room decides the position at every size: as the rectangle gains a row the room
    loses one, so its first row moves up by at most 1, and the larger covers the smaller.
    """
    # 24 bits times a side are exact in double precision.
    share = draws.uniform("square", 2).double()
    device = draws.indices.device

    def hidden(fraction: float) -> Tensor:
        inside = []
        sides = zip((height, width), rectangle_sides(height, width, fraction), strict=True)
        for axis, (side, length) in enumerate(sides):
            first = (share[:, axis] * (side - length + 1)).long().unsqueeze(1)
            along = torch.arange(side, device=device)
            inside.append((along >= first) & (along < first + length))
        return inside[0].unsqueeze(2) & inside[1].unsqueeze(1)

    return _levels_of(hidden(fraction) for fraction in fractions)


def patches(draws: ImageRandom, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The patches of `patch_grid` in a random order (Naseer et al. 2021)."""
    _, rows, columns = patch_grid(height, width)
    order = draws.uniform("patches", rows * columns).argsort(dim=1, stable=True)
    return _patches_to_pixels(_in_order(order, fractions), height, width).contiguous()


def blobs(draws: ImageRandom, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The brightest pixels of a random image of low frequencies, as FMix has them.

    Section 3 of Harris et al. 2020: real white noise filtered by 1/frequency^3, frequencies below
    1/max(H, W) held at that value. Their number is exact but for rounding.
    """
    device = draws.indices.device
    vertical = torch.fft.fftfreq(height, device=device).unsqueeze(1)
    horizontal = torch.fft.rfftfreq(width, device=device).unsqueeze(0)
    frequency = (vertical.square() + horizontal.square()).sqrt().clamp(min=1 / max(height, width))
    noise = torch.fft.rfft2(draws.normal("blobs", height, width))
    image = torch.fft.irfft2(noise * frequency.pow(-DECAY), s=(height, width))
    order = image.flatten(1).argsort(dim=1, descending=True, stable=True)
    return _in_order(order, fractions).view(-1, height, width)


def _patches_to_pixels(values: Tensor, height: int, width: int) -> Tensor:
    """What each patch has (B, rows * columns), for each pixel: (B,H,W)."""
    patch, rows, columns = patch_grid(height, width)
    grid = values.view(-1, rows, columns)
    pixels = grid.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)
    return pixels[:, :height, :width]


def _levels_of(masks: Iterable[Tensor]) -> Tensor:
    """Levels from what is hidden (bool) at each fraction."""
    return torch.stack([~hidden for hidden in masks]).sum(dim=0, dtype=torch.uint8)


def _in_order(order: Tensor, fractions: Sequence[float]) -> Tensor:
    """Levels (B,N) of what is hidden in the order (B,N), at least one at every fraction."""
    length = order.shape[1]
    counts = [max(1, round(fraction * length)) for fraction in fractions]
    rank = torch.arange(length, device=order.device)
    by_rank = torch.stack([rank >= count for count in counts]).sum(dim=0, dtype=torch.uint8)
    levels = torch.empty(order.shape, dtype=torch.uint8, device=order.device)
    return levels.scatter_(1, order, by_rank.expand_as(order))


SHAPE_LEVELS: dict[str, Shape] = {
    "centre": centre,
    "boundary": boundary,
    "square": square,
    "patches": patches,
    "blobs": blobs,
}
