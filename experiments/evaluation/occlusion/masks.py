"""Which pixels of an image are hidden, at growing fractions of it.

A shape is a map of levels, uint8 (B,H,W) or (1,H,W): how many of the ascending fractions leave a
pixel in sight. At fraction number i those are hidden whose level is at most i, so that what is
hidden once stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import Draws
from mixbench.experiments.evaluation.occlusion import basic

DECAY = 3.0
"""Of the blobs' spectrum, 1/frequency^3, as in FMix (Harris et al. 2020)."""

Shape = Callable[[Draws, int, int, Sequence[float]], Tensor]


def levels(shape: str, draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The map of a shape for each image of the draws, (1,H,W) where all have the same.

    fractions: ascending, above 0 and below 1.
    """
    return SHAPES[shape](draws, height, width, fractions)


def centre(draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """A centred rectangle with the image's aspect; sides rounded to whole pixels."""
    hidden = (basic.centre_square(height, width, fraction) for fraction in fractions)
    return _counted(hidden).unsqueeze(0).to(draws.places.device)


def boundary(draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """All but the centred rectangle that has the rest of the area."""
    hidden = (~basic.centre_square(height, width, 1 - fraction) for fraction in fractions)
    return _counted(hidden).unsqueeze(0).to(draws.places.device)


def square(draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The centre's rectangle at a place of each image's own, fully inside, all equally likely.

    A share of the room decides the place at every size: as the rectangle gains a row the room loses
    one, so its first row moves up by at most 1, and the larger covers the smaller.
    """
    # 24 bits times a side are exact in double precision.
    share = draws.uniform("square", 2).double()
    device = draws.places.device

    def hidden(fraction: float) -> Tensor:
        whole = basic.centre_square(height, width, fraction)
        inside = []
        for axis, side in enumerate((height, width)):
            length = int(whole.any(dim=1 - axis).sum())
            first = (share[:, axis] * (side - length + 1)).long().unsqueeze(1)
            along = torch.arange(side, device=device)
            inside.append((along >= first) & (along < first + length))
        return inside[0].unsqueeze(2) & inside[1].unsqueeze(1)

    return _counted(hidden(fraction) for fraction in fractions)


def patches(draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """Patches of a grid in a random order (Naseer et al. 2021): `occlusion.patch_grid`."""
    patch, rows, columns = basic.patch_grid(height, width)
    order = draws.uniform("patches", rows * columns).argsort(dim=1, stable=True)
    grid = _in_order(order, fractions).view(-1, rows, columns)
    full = grid.repeat_interleave(patch, dim=1).repeat_interleave(patch, dim=2)
    return full[:, :height, :width].contiguous()


def blobs(draws: Draws, height: int, width: int, fractions: Sequence[float]) -> Tensor:
    """The brightest pixels of a random image of low frequencies, as FMix has them.

    Section 3 of Harris et al. 2020: real white noise filtered by 1/frequency^3, frequencies below
    1/max(H, W) held at that value. Their number is exact but for rounding.
    """
    device = draws.places.device
    vertical = torch.fft.fftfreq(height, device=device).unsqueeze(1)
    horizontal = torch.fft.rfftfreq(width, device=device).unsqueeze(0)
    frequency = (vertical.square() + horizontal.square()).sqrt().clamp(min=1 / max(height, width))
    noise = torch.fft.rfft2(draws.normal("blobs", height, width))
    image = torch.fft.irfft2(noise * frequency.pow(-DECAY), s=(height, width))
    order = image.flatten(1).argsort(dim=1, descending=True, stable=True)
    return _in_order(order, fractions).view(-1, height, width)


def _counted(masks: Iterable[Tensor]) -> Tensor:
    """Levels from what is hidden (bool) at each fraction."""
    return torch.stack([~hidden for hidden in masks]).sum(dim=0, dtype=torch.uint8)


def _in_order(order: Tensor, fractions: Sequence[float]) -> Tensor:
    """Levels (B,N) of what is hidden in the order (B,N), at least one at every fraction."""
    length = order.shape[1]
    counts = [max(1, round(fraction * length)) for fraction in fractions]
    rank = torch.arange(length, device=order.device)
    by_rank = torch.stack([rank >= count for count in counts]).sum(dim=0, dtype=torch.uint8)
    found = torch.empty(order.shape, dtype=torch.uint8, device=order.device)
    return found.scatter_(1, order, by_rank.expand_as(order))


SHAPES: dict[str, Shape] = {
    "centre": centre,
    "boundary": boundary,
    "square": square,
    "patches": patches,
    "blobs": blobs,
}
