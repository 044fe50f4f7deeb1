"""Paint scenes: each item turned, scaled and put over those before it, with its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from mixbench.experiments.data.object_masks import object_masks
from mixbench.experiments.data.scenes.draw import MOST, Layouts

SEAM = 255
"""The class of pixels that are part object and part something else, as in Pascal VOC."""
NOISE = 0.05
_INSIDE, _OUTSIDE = 0.75, 0.25
_PART = 128


@dataclass(frozen=True)
class Scenes:
    """Images with their class maps, instance maps and boxes.

    Attributes:
        images: (N,1,S,S) uint8.
        classes: (N,S,S) uint8: 0 is background, then the groups of items from 1; 255 at seams.
        instances: (N,S,S) uint8: 0 is background, then the items of the scene from 1.
        boxes: (N,4,4) int64: left, top, right and bottom of what is seen of each item, in pixels,
            the right and bottom ones not included.
        labels: (N,4) int64: the group of each item from 0, -1 for none: the scene has fewer items,
            or nothing is seen of it.
        items: (N,4) int64: the class of each item in Fashion-MNIST, -1 for none.
        visible: (N,4) float32: which share of each item is not hidden by others.
    """

    images: NDArray[np.uint8]
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    boxes: NDArray[np.int64]
    labels: NDArray[np.int64]
    items: NDArray[np.int64]
    visible: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class Painter:
    """What items look like, and where their middles are.

    Attributes:
        images: (n,h,h) uint8 on black.
        middles: (n,2) float64, column and row of the middles of their boxes.
        groups: (n,) int64.
        labels: (n,) int64.
    """

    images: NDArray[np.uint8]
    middles: NDArray[np.float64]
    groups: NDArray[np.int64]
    labels: NDArray[np.int64]

    def paint(self, layouts: Layouts, size: int) -> Scenes:
        """Paint the scenes, part by part: a thousand take the memory of a hundred."""
        parts = [
            self._part(_rows(layouts, slice(start, start + _PART)), size)
            for start in range(0, len(layouts), _PART)
        ]
        names = Scenes.__dataclass_fields__
        return Scenes(**{name: np.concatenate([part[name] for part in parts]) for name in names})

    def _part(self, layouts: Layouts, size: int) -> dict[str, NDArray[np.generic]]:
        canvas = _grounds(layouts.grounds, size)
        instances = torch.zeros(canvas.shape, dtype=torch.uint8)
        covered = torch.zeros_like(canvas)
        whole = []
        for item in range(MOST):
            shown, opacity = self._warped(layouts, item, size)
            # What is sampled outside of the object is black, so `shown` is weighted already.
            canvas = canvas * (1 - opacity) + shown
            inside = opacity >= 0.5
            instances = torch.where(inside, item + 1, instances).to(torch.uint8)
            # An object over another hides its seam.
            covered = torch.where(opacity > _OUTSIDE, (opacity < _INSIDE).double(), covered)
            whole.append(inside.sum((1, 2)))
        seen = torch.stack([(instances == item + 1).sum((1, 2)) for item in range(MOST)], dim=1)
        there = (seen > 0).numpy()
        items = np.maximum(layouts.items, 0)
        labels = np.where(there, self.groups[items], -1)
        table = torch.from_numpy(np.pad(labels + 1, ((0, 0), (1, 0)))).to(torch.uint8)
        classes = table.gather(1, instances.flatten(1).long()).view(instances.shape)
        noise = [
            np.random.RandomState(seed).normal(0, NOISE, (size, size)) for seed in layouts.seeds
        ]
        pixels = (canvas + torch.from_numpy(np.stack(noise))).clamp(0, 1) * 255
        share = seen / torch.stack(whole, dim=1).clamp(min=1)
        return {
            "images": pixels.round().to(torch.uint8).unsqueeze(1).numpy(),
            "classes": classes.masked_fill(covered > 0, SEAM).numpy(),
            "instances": instances.numpy(),
            "boxes": boxes_of(instances).numpy(),
            "labels": labels,
            "items": np.where(there, self.labels[items], -1),
            "visible": share.float().numpy(),
        }

    def _warped(self, layouts: Layouts, item: int, size: int) -> tuple[Tensor, Tensor]:
        """One item of each scene on an empty canvas, and its opacity: (N,S,S) float64 in [0,1]."""
        index = np.maximum(layouts.items[:, item], 0)
        side = self.images.shape[-1]
        # In float64, so that where pixels are rounded does not depend on the machine.
        images = torch.from_numpy(self.images[index])
        masks = object_masks(images.unsqueeze(1)).double()
        masks *= torch.from_numpy(layouts.items[:, item] >= 0).view(-1, 1, 1)
        pictures = images / 255.0 * masks
        scale = layouts.scales[:, item, None]
        cosine = np.cos(layouts.radians[:, item, None]) / scale
        sine = np.sin(layouts.radians[:, item, None]) / scale
        at = np.arange(size) + 0.5
        column = (at[None] - layouts.centres[:, item, :1])[:, None, :]
        row = (at[None] - layouts.centres[:, item, 1:])[:, :, None]
        x = column * cosine[..., None] - row * sine[..., None] + self.middles[index, 0, None, None]
        y = column * sine[..., None] + row * cosine[..., None] + self.middles[index, 1, None, None]
        grid = torch.from_numpy(np.stack([x, y], axis=-1)) * (2 / side) - 1
        both = torch.stack([pictures, masks], dim=1)
        shown, opacity = F.grid_sample(both, grid, align_corners=False).unbind(1)
        return shown * (opacity > 0), opacity


def boxes_of(instances: Tensor) -> Tensor:
    """The boxes (N,4,4) int64 around the pixels of items 1 to 4 in maps (N,H,W); 0 for none.

    Examples:
        >>> boxes_of(torch.tensor([[[0, 2, 2], [0, 2, 0]]]))[0, :2].tolist()
        [[0, 0, 0, 0], [1, 0, 3, 2]]
    """
    sides = []
    for dim, length in ((1, instances.shape[2]), (2, instances.shape[1])):
        at = torch.arange(length)
        there = torch.stack([(instances == n + 1).any(dim) for n in range(MOST)], dim=1)
        low = torch.where(there, at, length).amin(-1)
        high = torch.where(there, at + 1, 0).amax(-1)
        sides.append((torch.minimum(low, high), high))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=-1)


def _grounds(greys: NDArray[np.float64], size: int) -> Tensor:
    corners = torch.from_numpy(greys).unsqueeze(1)
    return F.interpolate(corners, (size, size), mode="bicubic", align_corners=True)[:, 0]


def _rows(layouts: Layouts, rows: slice) -> Layouts:
    return Layouts(**{name: getattr(layouts, name)[rows] for name in Layouts.__dataclass_fields__})
