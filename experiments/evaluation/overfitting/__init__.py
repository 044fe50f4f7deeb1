"""Overfitting: how much better a network is on its training images than on the test set."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class OverfittingSettings(Section):
    """How many training images to measure.

    Attributes:
        images: How many clean training images; None: all, and then `overfitting/train/accuracy` is
            the `train/accuracy` of the run.
        seed: Which images.
    """

    images: int | None = Field(10_000, ge=1)
    seed: int = Field(0, ge=0)


MEASUREMENT = Measurement(
    "overfitting",
    "clean training accuracy, and how far the test set is behind",
    OverfittingSettings,
    order=20,
    seconds=0.5,
)
