"""Linear maps of whole rows and columns of images, as two matrices: blurs, resizing, zooming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

DENSE = 1200
"""Up to so many pixels, more than three pairs are made one matrix (H'W', HW)."""


@dataclass(frozen=True, eq=False)
class Maps:
    """A sum of maps: pairs of matrices float64, (H',H) for rows and (W',W) for columns."""

    pairs: Sequence[tuple[Tensor, Tensor]]

    @cached_property
    def dense(self) -> Tensor | None:
        """All in one matrix, where that is less work."""
        rows, columns = self.pairs[0]
        if len(self.pairs) <= 3 or rows.shape[1] * columns.shape[1] > DENSE:
            return None
        return torch.stack([torch.kron(*pair) for pair in self.pairs]).sum(dim=0)


def apply(images: Tensor, maps: Maps) -> Tensor:
    """The sum over pairs of rows @ image @ columns transposed.

    In double precision, so that what depends on the order of the sums, which differs with the batch
    size, is rounded away.

    Args:
        images: (B,C,H,W).
        maps: Pairs of matrices (H',H) and (W',W).

    Returns:
        (B,C,H',W') float32.
    """
    wide = images.double()
    if maps.dense is not None:
        shape = (*images.shape[:2], *(matrix.shape[0] for matrix in maps.pairs[0]))
        return (wide.flatten(2) @ maps.dense.to(images.device).T).view(shape).float()
    total = _one(wide, *maps.pairs[0])
    for rows, columns in maps.pairs[1:]:
        total = total.add_(_one(wide, rows, columns))
    return total.float()


def _one(wide: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    # The image comes first in both products, so that each is one large product and not many.
    across = (wide @ columns.to(wide.device).T).transpose(-1, -2)
    return (across @ rows.to(wide.device).T).transpose(-1, -2)


def gaussian(side: int, sigma: float, *, truncate: float = 4.0, mirrored: bool = False) -> Tensor:
    """Blur with a Gaussian sampled at pixels and cut off at `truncate` deviations.

    Args:
        side: Of the image, in pixels.
        sigma: Standard deviation, in pixels.
        truncate: In deviations.
        mirrored: As in `convolution`.

    Returns:
        (side, side) float64.
    """
    reach = int(truncate * sigma + 0.5)
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / max(sigma, 1e-6)) ** 2)
    return convolution(side, weights / weights.sum(), mirrored=mirrored)


def convolution(side: int, weights: Tensor, *, mirrored: bool = False) -> Tensor:
    """Replace each pixel by a weighted sum of its neighbours.

    Args:
        side: Of the image, in pixels.
        weights: (K,) float64, K odd.
        mirrored: Outside of the image take its reflection; else its nearest pixel.

    Returns:
        (side, side) float64.
    """
    reach = len(weights) // 2
    source = torch.arange(side).unsqueeze(1) + torch.arange(-reach, reach + 1)
    if mirrored:
        source = source % (2 * side)
        source = torch.minimum(source, 2 * side - 1 - source)
    else:
        source = source.clamp(0, side - 1)
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, source, weights.expand(side, -1).contiguous())


def zoom(side: int, factor: float) -> Tensor:
    """Enlarge the middle, interpolating linearly.

    Args:
        side: Of the image, in pixels.
        factor: 1 or more.

    Returns:
        (side, side) float64.
    """
    centre = (side - 1) / 2
    position = centre + (torch.arange(side, dtype=torch.float64) - centre) / factor
    low = position.floor().clamp(0, max(side - 2, 0))
    matrix = torch.zeros(side, side, dtype=torch.float64)
    rows = torch.arange(side)
    matrix[rows, low.long()] = 1 - (position - low)
    if side > 1:
        matrix[rows, low.long() + 1] = position - low
    return matrix


def pixelate(side: int, share: float) -> Tensor:
    """Shrink by averaging areas, then enlarge by repeating.

    Args:
        side: Of the image, in pixels.
        share: The shrunk side over the side, above 0 and at most 1.

    Returns:
        (side, side) float64.
    """
    few = max(1, round(side * share))
    edges = torch.arange(few + 1, dtype=torch.float64) * (side / few)
    pixels = torch.arange(side, dtype=torch.float64)
    # How much of each pixel lies in each of the areas.
    start, end = edges[:-1].unsqueeze(1), edges[1:].unsqueeze(1)
    overlap = (torch.minimum(end, pixels + 1) - torch.maximum(start, pixels)).clamp(min=0)
    shrunk = overlap / overlap.sum(dim=1, keepdim=True)
    return shrunk[((pixels + 0.5) * (few / side)).long()]
