"""Bias and variance of the error over the runs of a cell, from their saved predictions."""

from __future__ import annotations

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Section


class BiasVarianceSettings(Section):
    """There is nothing to set: all test images, all finished runs of a cell."""


MEASUREMENT = Measurement(
    "bias_variance",
    "bias and variance of the error over the runs of a cell: 0/1 loss, NLL, Brier score",
    BiasVarianceSettings,
    order=25,
    seconds=0.02,
    of_cell=True,
)
