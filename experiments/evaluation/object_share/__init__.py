"""Object share: accuracy over the share of the image that the object fills, and label errors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mixbench.experiments.evaluation.declaration import Listed, Measurement, ascending
from mixbench.experiments.section import Number, Section


class ObjectShareSettings(Section):
    """How large objects are made, and how many pairs of images are mixed.

    Attributes:
        shares: Of the image's area that the object fills; ascending, each once.
        images: How many test images are padded and cropped; None: all.
        pairs: How many training images are mixed to count label errors.
        seed: Which images, and what is drawn.
    """

    shares: Listed[Annotated[Number, Field(gt=0, le=1)]] = (0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
    images: int | None = Field(2000, ge=1)
    pairs: int = Field(10_000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("shares")
    @classmethod
    def _count_and_sort(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(values) <= 100:
            raise ValueError(f"got {len(values)} shares, expected from 1 to 100")
        return ascending(values)


MEASUREMENT = Measurement(
    "object_share",
    "accuracy by how much of the image the object fills; errors of area labels",
    ObjectShareSettings,
    order=90,
    seconds=2.2,
)
