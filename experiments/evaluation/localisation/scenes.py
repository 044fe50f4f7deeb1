"""Composed scenes: a square of images, one of which is the object to be located.

The object's box is known exactly. It is in any cell with equal probability, among objects of other
classes: a map that shows objects, whatever their class, scores as by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.image_random import ImageRandom


@dataclass(frozen=True)
class Layout:
    """Which image is in which cell of which scene.

    Attributes:
        sources: (N, grid * grid) int64, indices of images, row by row.
        cells: (N,) int64, the cells with the objects.
        grid: Cells along a side.
    """

    sources: Tensor
    cells: Tensor
    grid: int

    def boxes(self) -> Tensor:
        """The cells of the objects.

        Returns:
            (N,1,4) float64: left, top, right, bottom as fractions of the scene.
        """
        row, column = self.cells // self.grid, self.cells % self.grid
        corner = torch.stack([column, row], dim=1)
        return torch.cat([corner, corner + 1], dim=1).double().unsqueeze(1) / self.grid

    def compose(self, images: Tensor, part: slice) -> Tensor:
        """Compose some of the scenes.

        Args:
            images: All images, (N,C,H,W).
            part: Which scenes.

        Returns:
            (n, C, grid * H, grid * W).
        """
        grid, (channels, height, width) = self.grid, images.shape[1:]
        cells = images[self.sources[part]].view(-1, grid, grid, channels, height, width)
        return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, grid * height, grid * width)


def layout(labels: Tensor, grid: int, seed: int) -> Layout:
    """Draw one scene for each image, which is its object.

    The other cells have images of other classes, each equally likely.

    Args:
        labels: (N,) int64, the classes of the images.
        grid: Cells along a side.
        seed: Which scenes.

    Raises:
        UserError: All images are of one class.
    """
    count, cells = len(labels), grid * grid
    draws = ImageRandom(torch.arange(count, device=labels.device), seed, "localisation")
    order = labels.argsort(stable=True)
    ordered = labels[order].contiguous()
    begin = torch.searchsorted(ordered, labels)
    same = torch.searchsorted(ordered, labels, right=True) - begin
    if count == 0 or int(same.max()) == count:
        raise UserError("localisation: expected test images of at least two classes, got one")
    others = (count - same).unsqueeze(1)
    # A place among those of other classes; one behind the object's class is as much further.
    drawn = (draws.uniform("others", cells).double() * others).long()
    drawn = torch.minimum(drawn, others - 1)
    drawn += (drawn >= begin.unsqueeze(1)) * same.unsqueeze(1)
    object_cell = (draws.uniform("cell", 1).squeeze(1) * cells).long().clamp(max=cells - 1)
    sources = order[drawn].scatter(
        1, object_cell.unsqueeze(1), torch.arange(count, device=labels.device).unsqueeze(1)
    )
    return Layout(sources, object_cell, grid)
