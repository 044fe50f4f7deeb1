"""The objects of images as rows of one tensor, so that they travel as all other targets do.

A row is float32: how many objects it has room for, six numbers an object (left, top, right, bottom
in pixels, label, visible share; label -1 for none), then the map of the objects of an image of
H x W, 0 for background, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.data.crops import Moves

FIELDS = 6
LEAST = 0.1
"""An object of which a crop leaves less than this share of its box is gone."""


@dataclass(frozen=True)
class Objects:
    """The objects of B images.

    Attributes:
        boxes: (B,M,4) float32: left, top, right, bottom in pixels.
        labels: (B,M) int64, -1 for none.
        visible: (B,M) float32, which share of each object other objects don't hide.
        maps: (B,H,W) uint8, a number from 1 on for each object in its order; None without.
    """

    boxes: Tensor
    labels: Tensor
    visible: Tensor
    maps: Tensor | None

    @classmethod
    def of(cls, rows: Tensor, size: tuple[int, int]) -> Objects:
        """Read rows (B,L) of images of `size`, height and width."""
        room = int(rows[0, 0]) if len(rows) else 0
        numbers = rows[:, 1 : 1 + FIELDS * room].reshape(len(rows), room, FIELDS)
        maps = rows[:, 1 + FIELDS * room :]
        return cls(
            numbers[..., :4],
            numbers[..., 4].long(),
            numbers[..., 5],
            maps.to(torch.uint8).view(len(rows), *size) if maps.numel() else None,
        )

    def rows(self) -> Tensor:
        """Return the rows (B,L) float32."""
        batch, room = self.labels.shape
        first = self.boxes.new_full((batch, 1), float(room))
        numbers = torch.cat(
            [self.boxes, self.labels.unsqueeze(-1).float(), self.visible.unsqueeze(-1)], dim=-1
        )
        parts = [first, numbers.reshape(batch, -1)]
        if self.maps is not None:
            parts.append(self.maps.reshape(batch, -1).float())
        return torch.cat(parts, dim=1)

    @property
    def there(self) -> Tensor:
        """Which objects there are: (B,M) bool."""
        return self.labels >= 0

    def with_maps(self, maps: Tensor) -> Objects:
        """Return the objects with these maps; those of which no pixel is left have -1."""
        batch, room = self.labels.shape
        numbers = torch.arange(1, room + 1, device=maps.device).view(1, room, 1)
        left = (maps.flatten(1).unsqueeze(1) == numbers).any(-1).view(batch, room)
        return replace(self, maps=maps, labels=self.labels.masked_fill(~left, -1))

    def moved(self, moves: Moves, size: tuple[int, int]) -> Objects:
        """Return the boxes after crops and flips, cut at the border; those that are gone have -1.

        moves: of images of `size`, height and width. The maps stay as they are.
        """
        height, width = size
        before = self.boxes
        boxes = before.clone()
        if moves.offsets is not None:
            down, right = (moves.padding - moves.offsets).unsqueeze(-1).unsqueeze(-1)
            boxes[..., 0::2] += right
            boxes[..., 1::2] += down
        if moves.mirrored is not None:
            flipped = boxes.clone()
            flipped[..., 0], flipped[..., 2] = width - boxes[..., 2], width - boxes[..., 0]
            boxes = torch.where(moves.mirrored.bool().view(-1, 1, 1), flipped, boxes)
        limits = boxes.new_tensor([width, height, width, height])
        boxes = torch.minimum(boxes.clamp(min=0), limits)
        # A box that was there before any move stays, however it lies.
        gone = areas(boxes) < LEAST * areas(before)
        return replace(self, boxes=boxes, labels=self.labels.masked_fill(gone, -1))


def areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes (...,4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def object_rows(
    boxes: NDArray[np.floating] | NDArray[np.int64],
    labels: NDArray[np.int64],
    visible: NDArray[np.float32],
    maps: NDArray[np.uint8] | None = None,
) -> NDArray[np.float32]:
    """Return rows (N,L) of arrays as the fields of `Objects`."""
    objects = Objects(
        torch.from_numpy(np.asarray(boxes, dtype=np.float32)),
        torch.from_numpy(labels),
        torch.from_numpy(visible),
        None if maps is None else torch.from_numpy(maps),
    )
    rows: NDArray[np.float32] = objects.rows().numpy()
    return rows
