"""Gradient noise: how much of a training step's gradient is the chance of the mixing."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class GradientNoiseSettings(Section):
    """How many gradients are taken.

    Attributes:
        batches: How many batches of training images, each of the run's batch size.
        draws: How often the mixing is drawn for each batch.
        seed: Which images and which draws.
    """

    batches: int = Field(8, ge=2, le=10_000)
    draws: int = Field(8, ge=2, le=10_000)
    seed: int = Field(0, ge=0)


MEASUREMENT = Measurement(
    "gradient_noise",
    "how much of a step's gradient is the chance of the mixing, at the final weights",
    GradientNoiseSettings,
    order=85,
    seconds=1.4,
)
