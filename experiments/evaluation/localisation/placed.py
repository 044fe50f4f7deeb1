"""Scenes that line up with nothing: whole images at random places of a larger canvas.

A square of `grid` x `grid` images coincides with the quadrants that many networks pool into. Here
`ITEMS` images lie anywhere on a canvas `SIDE` times as large, none over another. All are placed
alike and one of them is the object: a map that shows objects, whatever their class, scores as by
chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.localisation.scenes import layout

SIDE = 3
"""Sides of the canvas, in sides of an image."""
ITEMS = 3
_TRIES = 64


@dataclass(frozen=True)
class Placed:
    """Which images lie where.

    Attributes:
        sources: (N, ITEMS) int64, indices of images; the first is the object.
        corners: (N, ITEMS, 2) int64, top and left of each on the canvas, in pixels.
        size: Height and width of an image.
        ground: (C,) of the canvas, in the images' values.
    """

    sources: Tensor
    corners: Tensor
    size: tuple[int, int]
    ground: Tensor

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of a scene."""
        return SIDE * self.size[0], SIDE * self.size[1]

    def boxes(self) -> Tensor:
        """The boxes of the objects.

        Returns:
            (N,1,4) float64: left, top, right, bottom as fractions of the scene.
        """
        top, left = self.corners[:, 0, 0], self.corners[:, 0, 1]
        height, width = self.size
        edges = torch.stack([left, top, left + width, top + height], dim=1).double()
        down, across = self.canvas
        return (edges / edges.new_tensor([across, down, across, down])).unsqueeze(1)

    def compose(self, images: Tensor, part: slice) -> Tensor:
        """Compose some of the scenes.

        Args:
            images: All images, (N,C,H,W).
            part: Which scenes.

        Returns:
            (n,C, SIDE * H, SIDE * W).
        """
        sources, corners = self.sources[part], self.corners[part]
        scenes = self.ground.to(images).view(1, -1, 1, 1)
        scenes = scenes.repeat(len(sources), 1, *self.canvas)
        return self._put(scenes, images, sources, corners)

    def masks(self, objects: Tensor, part: slice) -> Tensor:
        """Where the objects are.

        Args:
            objects: (N,H,W) bool, the masks of all images.
            part: Which scenes.

        Returns:
            (n, SIDE * H, SIDE * W) bool.
        """
        sources, corners = self.sources[part, :1], self.corners[part, :1]
        empty = torch.zeros(len(sources), 1, *self.canvas, dtype=torch.bool, device=objects.device)
        return self._put(empty, objects.unsqueeze(1), sources, corners).squeeze(1)

    def _put(self, scenes: Tensor, images: Tensor, sources: Tensor, corners: Tensor) -> Tensor:
        height, width = self.size
        for number, (indices, places) in enumerate(zip(sources, corners.tolist(), strict=True)):
            for index, (top, left) in zip(indices, places, strict=True):
                scenes[number, :, top : top + height, left : left + width] = images[index]
        return scenes


def place(images: Tensor, labels: Tensor, seed: int) -> Placed:
    """Draw one scene for each image, which is its object; the others are of other classes.

    Places are drawn again until no image lies over another, which keeps all of them alike; in the
    rare case that none of many draws will do, they lie on a diagonal.

    Args:
        images: (N,C,H,W), any type.
        labels: (N,) int64, their classes.
        seed: Which scenes.

    Raises:
        UserError: All images are of one class.
    """
    count, (height, width) = len(labels), images.shape[2:]
    draws = ImageRandom(torch.arange(count, device=labels.device), seed, "placed")
    free = labels.new_tensor([(SIDE - 1) * height + 1, (SIDE - 1) * width + 1])
    corners = (draws.uniform("corners", _TRIES, ITEMS, 2).double() * free).long()
    apart = torch.ones(corners.shape[:2], dtype=torch.bool, device=labels.device)
    sides = labels.new_tensor([height, width])
    for one in range(ITEMS):
        for other in range(one):
            distance = (corners[:, :, one] - corners[:, :, other]).abs()
            apart &= (distance >= sides).any(dim=-1)
    first = apart.long().argmax(dim=1)
    chosen = corners[torch.arange(count, device=labels.device), first]
    diagonal = torch.arange(ITEMS, device=labels.device).unsqueeze(1) * sides
    chosen = torch.where(apart.any(dim=1).view(-1, 1, 1), chosen, diagonal)
    # Partners as for the other scenes: each image of another class is equally likely.
    squares = layout(labels, 2, seed)
    cells = torch.arange(4, device=labels.device).expand(count, 4)
    others = squares.sources[cells != squares.cells.unsqueeze(1)].view(count, 3)[:, : ITEMS - 1]
    sources = torch.cat([torch.arange(count, device=labels.device).unsqueeze(1), others], dim=1)
    return Placed(sources, chosen, (height, width), ground_of(images))


def ground_of(images: Tensor) -> Tensor:
    """What surrounds the objects: the median of the pixels at the border, by channel.

    Args:
        images: (N,C,H,W).

    Returns:
        (C,) of the same type; black for Fashion-MNIST.
    """
    rows = torch.cat([images[:, :, 0], images[:, :, -1]], dim=2)
    columns = torch.cat([images[..., 0], images[..., -1]], dim=2)
    border = torch.cat([rows, columns], dim=2).transpose(0, 1).flatten(1)
    return border.median(dim=1).values
