"""Decision boundaries: how far they are, and how sharply the prediction changes there."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class BoundarySettings(Section):
    """How many images, and how finely boundaries are looked for.

    Attributes:
        images: How many test images, each with a line to one of another class; None: all.
        points: At how many places of each line the network is asked, both ends included.
        steps: How many steps along the gradient are tried.
        seed: Which images and which lines.
    """

    images: int | None = Field(500, ge=1)
    points: int = Field(33, ge=3, le=1025)
    steps: int = Field(50, ge=1, le=1000)
    seed: int = Field(0, ge=0)


MEASUREMENT = Measurement(
    "boundary",
    "distance to the decision boundary, and how sharp it is, by gradient and between images",
    BoundarySettings,
    order=65,
    seconds=2.6,
)
