"""The section `staging`: a schedule by its name, its phases, or a dose and a shape.

`mixbench.experiments.staging.phases` says what phases may hold.
"""

from __future__ import annotations

from typing import Any

from pydantic import (
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mixbench.experiments.errors import unknown
from mixbench.experiments.section import Number, Section
from mixbench.experiments.staging.doses import CONSTANT, DOSE_SHAPES, Dose
from mixbench.experiments.staging.named import NAMED


class StagingConfig(Section):
    """The phases in which images are mixed; outside of them none are.

    A resolved one has its phases, with the name and the dose that they come from.
    """

    name: str | None = None
    match_dose: Number | None = None
    shape: str | None = None
    phases: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_to_section(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("match_dose")
    @classmethod
    def _check_dose(cls, dose: float | None) -> float | None:
        if dose is not None and not 0 < dose <= 1:
            none = " (for none: staging: never)" if dose == 0 else ""
            raise ValueError(
                f"got {dose:g}, expected a number above 0 and at most 1, the share of what the "
                f"method does when it mixes in every step{none}"
            )
        return dose

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, shape: str | None) -> str | None:
        if shape is not None and shape not in DOSE_SHAPES:
            raise ValueError(str(unknown("shape of a dose", shape, DOSE_SHAPES)))
        return shape

    @model_validator(mode="after")
    def _check_one_of_three(self) -> StagingConfig:
        dose = self.dose
        if dose is None and self.shape is not None:
            raise ValueError(
                f"got shape {self.shape!r} without match_dose, expected both, such as "
                f"{{match_dose: 0.5, shape: {self.shape}}}"
            )
        if dose is not None and self.name not in (None, dose.name):
            raise ValueError(
                f"got match_dose beside the name {self.name!r}, expected one of the two"
            )
        if dose is None and self.name is not None and self.name not in NAMED:
            raise ValueError(str(unknown("schedule", self.name, NAMED)))
        if dose is None and self.name is None and self.written is None:
            raise ValueError(
                f"expected the name of a schedule ({', '.join(NAMED)}), phases or match_dose, got "
                "neither"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_unset_dose(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As it was stored before there were doses.
        stored: dict[str, Any] = handler(self)
        unset = ("match_dose", "shape") if self.match_dose is None else ()
        return {key: value for key, value in stored.items() if key not in unset}

    @property
    def dose(self) -> Dose | None:
        """The dose and its shape, if one was given."""
        return None if self.match_dose is None else Dose(self.match_dose, self.shape or CONSTANT)

    @property
    def written(self) -> tuple[dict[str, Any], ...] | None:
        """The phases, if they were given."""
        return self.phases if "phases" in self.model_fields_set else None
