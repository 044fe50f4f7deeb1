"""Occlusion: accuracy where a part of each image is hidden.

`basic` is what every run measures after its training. The measurement here, by many shapes and
fills, is stored as `hiding`: `occlusion/...` are the names of the basic one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from mixbench.experiments.errors import unknown
from mixbench.experiments.evaluation.declaration import Listed, Measurement, ascending
from mixbench.experiments.section import Number, Section

SHAPES = ("centre", "boundary", "square", "patches", "blobs")
FILLS = ("black", "mean", "noise", "image")


class OcclusionSettings(Section):
    """Which parts of images are hidden, and by what; every shape with every fill.

    Attributes:
        shapes: Of what is hidden.
        fills: What hidden pixels become.
        fractions: Of the image's area, besides 0; ascending, each once.
        images: How many test images; None: all.
        seed: Which images, and what is random in shapes and fills.
    """

    shapes: tuple[str, ...] = Field(SHAPES, min_length=1)
    fills: tuple[str, ...] = Field(FILLS, min_length=1)
    fractions: Listed[Annotated[Number, Field(gt=0, lt=1)]] = (0.1, 0.25, 0.5, 0.75, 0.9)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("shapes", "fills", mode="before")
    @classmethod
    def _known(cls, wanted: Any, info: ValidationInfo) -> Any:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple):
            raise ValueError(f"got {wanted!r}, expected a list of {info.field_name}")
        known = SHAPES if info.field_name == "shapes" else FILLS
        for name in names:
            if name not in known:
                raise unknown(f"value of hiding.{info.field_name}", name, known)
        return tuple(dict.fromkeys(names))

    @field_validator("fractions")
    @classmethod
    def _count_and_sort(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(values) <= 100:
            raise ValueError(f"got {len(values)} fractions, expected from 1 to 100")
        return ascending(values)


MEASUREMENT = Measurement(
    "hiding",
    "accuracy where a growing part is hidden, by five shapes and four fills",
    OcclusionSettings,
    aliases=("occlusion",),
    order=30,
    seconds=5.7,
)
