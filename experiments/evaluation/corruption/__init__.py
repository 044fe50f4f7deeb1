"""Corruption: noise, blur, weather and digital faults, each at five severities."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from mixbench.experiments.errors import unknown
from mixbench.experiments.evaluation.corruption.levels import CORRUPTIONS, FAMILIES
from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class CorruptionSettings(Section):
    """Which corruptions are measured, on how many images.

    Attributes:
        corruptions: Names of corruptions or families.
        images: How many test images; None: all.
        seed: Which images, and what is random in a corruption.
    """

    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("corruptions", mode="before")
    @classmethod
    def _known(cls, wanted: Any) -> Any:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"got {wanted!r}, expected a list of corruptions or families")
        selected: dict[str, None] = {}
        for name in names:
            members = [one for one, levels in CORRUPTIONS.items() if levels.family == name]
            if not members and name not in CORRUPTIONS:
                raise unknown("corruption", name, [*FAMILIES, *CORRUPTIONS])
            selected |= dict.fromkeys(members or [name])
        return tuple(selected)


MEASUREMENT = Measurement(
    "corruption",
    "accuracy under common corruptions at five severities",
    CorruptionSettings,
    order=40,
)
