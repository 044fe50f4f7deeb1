"""Overfitting: how far the test set is behind the clean training images."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class OverfittingSettings(Section):
    """images: how many clean training images (None: all), drawn with `seed`, for every model.

    With all of them `overfitting/train/accuracy` is the `train/accuracy` of the run.
    """

    images: int | None = Field(10_000, ge=1)
    seed: int = Field(0, ge=0)


MEASUREMENT = Measurement(
    "overfitting",
    "clean training accuracy, and how far the test set is behind",
    OverfittingSettings,
    order=20,
)
