"""Composed scenes: a square of images, one of which is the object that is looked for.

All scenes have the object in a box that is known exactly, at any place with equal chances, among
objects of other classes: a map that shows objects, whatever their class, scores as by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.image_random import ImageRandom


@dataclass(frozen=True)
class Layout:
    """Which image is where: `sources` (N, grid * grid), by row; `cells` (N,) has the object's."""

    sources: Tensor
    cells: Tensor
    grid: int

    def boxes(self) -> Tensor:
        """The cells of the objects (N,1,4): left, top, right, bottom in fractions, float64."""
        row, column = self.cells // self.grid, self.cells % self.grid
        corner = torch.stack([column, row], dim=1)
        return torch.cat([corner, corner + 1], dim=1).double().unsqueeze(1) / self.grid

    def compose(self, images: Tensor, part: slice) -> Tensor:
        """The scenes of that part, from all images (N,C,H,W): (n, C, grid * H, grid * W)."""
        grid, (channels, height, width) = self.grid, images.shape[1:]
        cells = images[self.sources[part]].view(-1, grid, grid, channels, height, width)
        return cells.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, grid * height, grid * width)


def layout(labels: Tensor, grid: int, seed: int) -> Layout:
    """One scene for each image with a label (N,), which is the object; drawn with `seed`.

    The other cells have images of other classes, each of which is equally likely. UserError where
    all images are of one class.
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
