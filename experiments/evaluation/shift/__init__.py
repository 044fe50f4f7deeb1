"""Shift: whether images of other data sets get less confidence."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from mixbench.experiments.config import datasets
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section

NONE = "none"


class ShiftSettings(Section):
    """Which images of which other data sets to compare with.

    Attributes:
        dataset: The far data set; None: see `shift.measure.DEFAULTS`.
        near: The near data set, "none" for none; None: see `shift.measure.NEAR`.
        images: How many of the test images of each; None: all. All test images of the run are used.
        seed: Which images.
    """

    dataset: str | None = None
    near: str | None = None
    images: int | None = Field(2000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("dataset", "near")
    @classmethod
    def _exists(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name == NONE and info.field_name == "near":
            return NONE
        try:
            return None if name is None else datasets.info(name).name
        except UserError as error:
            raise ValueError(str(error)) from None


MEASUREMENT = Measurement(
    "shift",
    "whether images of other data sets, near and far, and of classes left out get less confidence",
    ShiftSettings,
    order=70,
    seconds=0.7,
)
