"""Which part of a picture an image shows, and how large pictures must be kept for random crops."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Fit = Literal["crop", "pad", "stretch"]
Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of a picture; may reach beyond it."""


@dataclass(frozen=True)
class Shape:
    """Height and width of images, and how pictures of another shape get them."""

    height: int
    width: int
    fit: Fit = "crop"

    @property
    def aspect(self) -> float:
        """Width / height."""
        return self.width / self.height


def window(width: float, height: float, shape: Shape) -> Box:
    """The part of a picture of width x height that an image of this shape shows whole.

    The largest part in the middle (crop), all of it with a border (pad), all of it (stretch).
    """
    if shape.fit == "stretch":
        return 0.0, 0.0, float(width), float(height)
    choose = min if shape.fit == "crop" else max
    w = choose(float(width), height * shape.aspect)
    h = choose(float(height), width / shape.aspect)
    return (width - w) / 2, (height - h) / 2, w, h


def lost(width: int, height: int, shape: Shape) -> float:
    """The share of a picture's area that an image of this shape does not show."""
    _, _, w, h = window(width, height, shape)
    return max(0.0, 1 - w * h / (width * height))


def crop_area(width: int, height: int, shape: Shape) -> tuple[Box, float]:
    """The part of a picture that random crops are cut from, and the aspect to count it with.

    All of it, with the border of `pad`. A crop has about the shape of an image; where pictures are
    stretched, about the shape that a stretched image's part has.
    """
    if shape.fit == "stretch":
        return (0.0, 0.0, float(width), float(height)), 1.0
    box = (0.0, 0.0, float(width), float(height))
    if shape.fit == "pad":
        box = window(width, height, shape)
    return box, box[2] / box[3] / shape.aspect


def kept_size(width: int, height: int, shape: Shape, least: float) -> tuple[int, int]:
    """(width, height) to keep a picture at, so that its smallest crop has an image's pixels.

    least: the smallest crop's share of the area. Never more than the picture has.
    """
    factor = math.sqrt(shape.height * shape.width / (least * width * height))
    if factor >= 1:
        return width, height
    return max(1, round(width * factor)), max(1, round(height * factor))
