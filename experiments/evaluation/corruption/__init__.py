"""Corruption: noise, blur, weather and digital faults, each at five severities."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from mixbench.experiments.errors import unknown
from mixbench.experiments.evaluation.corruption.levels import CORRUPTIONS, FAMILIES, USUAL
from mixbench.experiments.evaluation.declaration import Measurement, MeasurementSettings


class CorruptionSettings(MeasurementSettings):
    """Which corruptions are measured, on how many images.

    Attributes:
        preset: `monotone`: constants with which a higher severity always changes images more;
            `published`: those of CIFAR-10-C and ImageNet-C, rounded to 256 shades as these are,
            and means over the fifteen corruptions of the publications.
        corruptions: Names of corruptions or families. Where none are named: with `monotone` all
            but `frost` and `spatter`, with `published` all.
        images: How many test images; None: all.
        seed: Which images, and what is random in a corruption.
        files: The folder of CIFAR-10-C, CIFAR-100-C, Tiny-ImageNet-C, ImageNet-C or of another
            set in one of their two layouts (see `corruption/files.py`), measured on top.
        reference: What the errors on these files are divided by, for the mCE: `alexnet`, or a
            CSV file with the columns `corruption` and `error`. None: `alexnet` on ImageNet-C, else
            there is no mCE.
    """

    later: ClassVar[frozenset[str]] = frozenset({"preset", "files", "reference"})

    preset: Literal["monotone", "published"] = "monotone"
    corruptions: tuple[str, ...] = Field(USUAL, validate_default=True)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)
    files: str | None = None
    reference: str | None = None

    @field_validator("corruptions", mode="before")
    @classmethod
    def _known(cls, wanted: Any, info: ValidationInfo) -> Any:
        is_published = info.data.get("preset") == "published"
        usual = tuple(CORRUPTIONS) if is_published else USUAL
        if wanted is USUAL:
            return usual
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"got {wanted!r}, expected a list of corruptions or families")
        selected: dict[str, None] = {}
        for name in names:
            members = [one for one in usual if CORRUPTIONS[one].family == name]
            if not members and name not in CORRUPTIONS:
                raise unknown("corruption", name, [*FAMILIES, *CORRUPTIONS])
            selected |= dict.fromkeys(members or [name])
        return tuple(selected)

    @field_validator("files", "reference")
    @classmethod
    def _absolute(cls, given: str | None, info: ValidationInfo) -> str | None:
        if given is None or (info.field_name == "reference" and given == "alexnet"):
            return given
        # Processes that measure may start elsewhere.
        path = Path(given).expanduser().resolve()
        is_there = path.is_dir() if info.field_name == "files" else path.is_file()
        if not is_there:
            kind = "folder" if info.field_name == "files" else "file; alexnet, or a CSV file,"
            raise ValueError(f"got {given!r}, which is no {kind} that is there")
        return str(path)


MEASUREMENT = Measurement(
    "corruption",
    "accuracy and calibration under common corruptions at five severities",
    CorruptionSettings,
    order=40,
    seconds=6.3,
)
