"""The boxes of the mixed images of a batch, each with its weight and where it is from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class BoxTargets:
    """The boxes of B mixed images, one after another.

    Attributes:
        images: How many images the batch has.
        sample: (G,) int64, the mixed image that shows the box.
        source: (G,) int64, the image of the batch that the box is from.
        boxes: (G,4) float32: left, top, right, bottom, in pixels.
        labels: (G,) int64.
        weights: (G,) float32, how much of the mixed image the object is, from 0 to 1.
    """

    images: int
    sample: Tensor
    source: Tensor
    boxes: Tensor
    labels: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.sample)
