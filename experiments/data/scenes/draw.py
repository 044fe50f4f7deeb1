"""What is where in a scene: items, sizes, angles and places, drawn for many scenes at once.

Scene `i` of a seed is the same however many scenes are asked for: they are drawn in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

MOST = 4
"""The most items of a scene; the fewest are 2."""
SCALES = (0.6, 0.9)
DEGREES = 15.0
CELLS = 5
"""Corners along a side of the grid of random greys that a background runs through."""
LARGE = 64
"""Up to this side of a canvas items keep their size; on larger ones they grow with it."""
_BLOCK = 64
_TRIES = 10
_OVERLAP = 0.2
_BRIGHTEST = 0.5

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Layouts:
    """What is drawn of N scenes of one side.

    Attributes:
        items: (N,4) int64, indices of source images; -1 where a scene has fewer items.
        scales: (N,4), pixels of the canvas per pixel of the source.
        radians: (N,4), anticlockwise.
        centres: (N,4,2), column and row on the canvas, in pixels, of the middle of the item's box.
        grounds: (N,5,5), greys from 0 to 1 at the corners of the background's grid.
        seeds: (N,) int64, of the noise.
    """

    items: NDArray[np.int64]
    scales: Floats
    radians: Floats
    centres: Floats
    grounds: Floats
    seeds: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Source:
    """The images that scenes are made of.

    Attributes:
        groups: (n,) int64, the group of each image, 0, 1, ...; groups come equally often.
        boxes: (n,4), left, top, right and bottom of each object in pixels of the image.
    """

    groups: NDArray[np.int64]
    boxes: Floats


def draw(source: Source, *, count: int, size: int, seed: int) -> Layouts:
    """Draw the first `count` scenes of a seed, with a side of `size` pixels."""
    blocks = [_block(source, size, seed, number) for number in range(-(-count // _BLOCK))]
    joined = {
        field.name: np.concatenate([getattr(block, field.name) for block in blocks])[:count]
        for field in fields(Layouts)
    }
    return Layouts(**joined)


def _block(source: Source, size: int, seed: int, number: int) -> Layouts:
    # RandomState's streams are frozen: every release of numpy gives the same scenes.
    random = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, number))))
    count = random.randint(2, MOST + 1, size=_BLOCK)
    items = _items(source.groups, random)
    scales = random.uniform(*SCALES, size=items.shape) * max(1.0, size / LARGE)
    radians = np.deg2rad(random.uniform(-DEGREES, DEGREES, size=items.shape))
    places = random.uniform(size=(*items.shape, _TRIES, 2))
    grounds = random.uniform(0, _BRIGHTEST, size=(_BLOCK, CELLS, CELLS))
    seeds = random.randint(0, 2**31 - 1, size=_BLOCK).astype(np.int64)
    present = np.arange(MOST) < count[:, None]
    halves = _half_sides(source.boxes[items], scales, radians)
    centres = _centres(places, halves, present, size)
    return Layouts(np.where(present, items, -1), scales, radians, centres, grounds, seeds)


def _items(groups: NDArray[np.int64], random: np.random.RandomState) -> NDArray[np.int64]:
    """Images of groups that are equally likely, and within a group each image is."""
    order = np.argsort(groups, kind="stable")
    counts = np.bincount(groups)
    first = np.cumsum(counts) - counts
    group = random.randint(len(counts), size=(_BLOCK, MOST))
    within = (random.uniform(size=group.shape) * counts[group]).astype(np.int64)
    return np.asarray(order[first[group] + within])


def _half_sides(boxes: Floats, scales: Floats, radians: Floats) -> Floats:
    """Half the sides (N,4,2) of the upright boxes around the turned boxes of items."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    cosine, sine = np.abs(np.cos(radians)), np.abs(np.sin(radians))
    sides = np.stack([width * cosine + height * sine, width * sine + height * cosine], axis=-1)
    return np.asarray(sides * scales[..., None] / 2)


def _centres(places: Floats, halves: Floats, present: NDArray[np.bool_], size: int) -> Floats:
    """Centres (N,4,2) with the items within the canvas, and little over those before them.

    Of ten places the first with at most a fifth of an item's box over another's; else the best.
    """
    room = np.maximum(size - 2 * halves, 0)[:, :, None]
    tried = np.where(room > 0, halves[:, :, None] + places * room, size / 2)
    chosen = np.empty((*places.shape[:2], 2))
    scene = np.arange(len(places))
    for item in range(MOST):
        overlap = np.zeros((len(places), _TRIES))
        for before in range(item):
            near = np.abs(tried[:, item] - chosen[:, None, before])
            both = halves[:, None, item] + halves[:, None, before]
            least = 2 * np.minimum(halves[:, None, item], halves[:, None, before])
            shared = np.clip(both - near, 0, least).prod(axis=-1)
            smaller = np.minimum(halves[:, item].prod(-1), halves[:, before].prod(-1))
            share = shared / (4 * smaller[:, None])
            overlap = np.maximum(overlap, np.where(present[:, before, None], share, 0))
        best = np.argmin(np.maximum(overlap, _OVERLAP), axis=1)
        chosen[:, item] = tried[scene, item, best]
    return chosen
