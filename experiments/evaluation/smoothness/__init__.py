"""Smoothness: how fast a network's answer changes around an image."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from mixbench.experiments.evaluation.declaration import Listed, Measurement, ascending
from mixbench.experiments.section import Number, Section


class SmoothnessSettings(Section):
    """Which noise is added, and to how many images.

    Attributes:
        sigmas: Standard deviations of the noise, in pixels from 0 to 1; ascending, each once.
        draws: How often noise is drawn for each image.
        images: How many test images for gradients and flips; None: all.
        seed: Which images and which noise.
    """

    sigmas: Listed[Annotated[Number, Field(gt=0, le=1)]] = Field((0.02, 0.05), min_length=1)
    draws: int = Field(4, ge=1, le=1000)
    images: int | None = Field(2000, ge=1)
    seed: int = Field(0, ge=0)

    _ascending = field_validator("sigmas")(ascending)


MEASUREMENT = Measurement(
    "smoothness",
    "input gradients, flips under noise, entropy of predictions",
    SmoothnessSettings,
    order=60,
    seconds=1.8,
)
