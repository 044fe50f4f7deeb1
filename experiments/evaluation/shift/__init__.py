"""Shift: whether images of another data set get less confidence."""

from __future__ import annotations

from pydantic import Field, field_validator

from mixbench.experiments.config import datasets
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class ShiftSettings(Section):
    """Which images of which other data set to compare with.

    Attributes:
        dataset: The other data set; None: see `shift.measure.DEFAULTS`.
        images: How many of its test images; None: all. All test images of the run are used.
        seed: Which images.
    """

    dataset: str | None = None
    images: int | None = Field(2000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("dataset")
    @classmethod
    def _exists(cls, name: str | None) -> str | None:
        try:
            return None if name is None else datasets.info(name).name
        except UserError as error:
            raise ValueError(str(error)) from None


MEASUREMENT = Measurement(
    "shift",
    "whether images of another data set get less confidence",
    ShiftSettings,
    order=70,
)
