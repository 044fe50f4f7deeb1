"""What can be set of each measurement, without torch; one class each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from mixbench.experiments.config import datasets
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.evaluation.corruption.levels import CORRUPTIONS, FAMILIES
from mixbench.experiments.evaluation.localisation.boxes import read
from mixbench.experiments.section import Number, Section


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | int | float) else value


One = TypeVar("One")
Listed = Annotated[tuple[One, ...], BeforeValidator(_listed)]
"""Many of a kind; one alone is taken for a list of one."""


class CalibrationSettings(Section):
    """Bins of the reliability data, and where a fitted temperature may lie.

    bins: None takes those of the run (`evaluation.ece_bins`), so that `calibration/ece` is
    `test/ece`. lowest_temperature, highest_temperature: the bounds of the fit.
    """

    bins: int | None = Field(None, ge=1, le=1000)
    lowest_temperature: Number = Field(0.05, gt=0, le=1)
    highest_temperature: Number = Field(20.0, ge=1)


class OverfittingSettings(Section):
    """images: how many clean training images (None: all), drawn with `seed`, for every model.

    With all of them `overfitting/train/accuracy` is the `train/accuracy` of the run.
    """

    images: int | None = Field(10_000, ge=1)
    seed: int = Field(0, ge=0)


class CorruptionSettings(Section):
    """corruptions: which, or whose families; images: how many test images, drawn with `seed`."""

    corruptions: tuple[str, ...] = tuple(CORRUPTIONS)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("corruptions", mode="before")
    @classmethod
    def _known(cls, wanted: Any) -> Any:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple) or not names:
            raise ValueError(f"got {wanted!r}, expected a list of corruptions or families")
        found: dict[str, None] = {}
        for name in names:
            members = [one for one, levels in CORRUPTIONS.items() if levels.family == name]
            if not members and name not in CORRUPTIONS:
                raise unknown("corruption", name, [*FAMILIES, *CORRUPTIONS])
            found |= dict.fromkeys(members or [name])
        return tuple(found)


def _epsilon(value: Any) -> Any:
    """A number, also written as a fraction, such as 8/255."""
    number: Any = value
    if isinstance(value, str) and value.count("/") == 1:
        over, under = (_as_number(part) for part in value.split("/"))
        number = over / under if over is not None and under else value
    elif isinstance(value, str):
        number = _as_number(value)
    if isinstance(number, bool) or not isinstance(number, int | float) or not 0 < number <= 1:
        raise ValueError(
            f"got {value!r}, expected above 0 and at most 1, in pixels from 0 to 1, such as 8/255"
        )
    return float(number)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


Epsilon = Annotated[float, BeforeValidator(_epsilon)]


class AttackSettings(Section):
    """How far, and how hard, images are changed to mislead a network.

    epsilons: largest change of a value, in pixels from 0 to 1. steps: of PGD, each of size
    `stride * epsilon / steps`: 2.5 reaches every place of the ball from every other (Madry et al.
    2018). images: how many test images, drawn with `seed`.
    """

    epsilons: Listed[Epsilon] = Field((2 / 255, 8 / 255), min_length=1)
    steps: int = Field(10, ge=1, le=1000)
    stride: Number = Field(2.5, gt=0, le=1000)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("epsilons")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(values)))

    def step_size(self, epsilon: float) -> float:
        """Of PGD, in pixels from 0 to 1."""
        return self.stride * epsilon / self.steps


class SmoothnessSettings(Section):
    """sigmas: deviations of the noise, in pixels from 0 to 1, drawn `draws` times for each image.

    images: how many test images, drawn with `seed`, for gradients and flips.
    """

    sigmas: Listed[Annotated[Number, Field(gt=0, le=1)]] = Field((0.02, 0.05), min_length=1)
    draws: int = Field(4, ge=1, le=1000)
    images: int | None = Field(2000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("sigmas")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(values)))


HIDING_SHAPES = ("centre", "boundary", "square", "patches", "blobs")
HIDING_FILLS = ("black", "mean", "noise", "image")


class HidingSettings(Section):
    """shapes and fills: what is hidden, and by what; each with each.

    fractions: how much of an image, besides nothing; the largest ends the areas. images: how many
    test images, drawn with `seed`.
    """

    shapes: tuple[str, ...] = Field(HIDING_SHAPES, min_length=1)
    fills: tuple[str, ...] = Field(HIDING_FILLS, min_length=1)
    fractions: Listed[Annotated[Number, Field(gt=0, lt=1)]] = (0.1, 0.25, 0.5, 0.75, 0.9)
    images: int | None = Field(1000, ge=1)
    seed: int = Field(0, ge=0)

    @field_validator("shapes", "fills", mode="before")
    @classmethod
    def _known(cls, wanted: Any, info: ValidationInfo) -> Any:
        names = [wanted] if isinstance(wanted, str) else wanted
        if not isinstance(names, list | tuple):
            raise ValueError(f"got {wanted!r}, expected a list of {info.field_name}")
        known = HIDING_SHAPES if info.field_name == "shapes" else HIDING_FILLS
        for name in names:
            if name not in known:
                raise unknown(f"value of hiding.{info.field_name}", name, known)
        return tuple(dict.fromkeys(names))

    @field_validator("fractions")
    @classmethod
    def _rising(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if not 1 <= len(values) <= 100:
            raise ValueError(f"got {len(values)} fractions, expected from 1 to 100")
        return tuple(sorted(set(values)))


class ShiftSettings(Section):
    """dataset: whose test images are the foreign ones (None: see `shift.DEFAULTS`).

    images: how many of them, drawn with `seed`; of its own test images the network sees all.
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


class LocalisationSettings(Section):
    """images: how many test images, drawn with `seed`, are the objects of composed scenes.

    All of them are held in memory. grid: cells of a scene along a side. threshold: the share of the
    maximum above which a map's part gets a box. boxes: a CSV file with boxes in own images (see
    `boxes`), for runs on an image folder.
    """

    images: int = Field(500, ge=1, le=10_000)
    seed: int = Field(0, ge=0)
    grid: int = Field(2, ge=2, le=8)
    threshold: Number = Field(0.2, ge=0, lt=1)
    boxes: str | None = None

    @field_validator("boxes")
    @classmethod
    def _readable(cls, given: str | None) -> str | None:
        if given is None:
            return None
        # Processes that measure may start elsewhere.
        path = Path(given).expanduser().resolve()
        read(path)
        return str(path)
