"""Calibration in full: errors of many kinds, before and after temperature scaling."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Number, Section


class CalibrationSettings(Section):
    """Bins of the reliability data, and where a fitted temperature may lie.

    bins: None takes those of the run (`evaluation.ece_bins`), so that `calibration/ece` is
    `test/ece`. lowest_temperature, highest_temperature: the bounds of the fit.
    """

    bins: int | None = Field(None, ge=1, le=1000)
    lowest_temperature: Number = Field(0.05, gt=0, le=1)
    highest_temperature: Number = Field(20.0, ge=1)


MEASUREMENT = Measurement(
    "calibration",
    "calibration errors of many kinds, before and after temperature scaling",
    CalibrationSettings,
    order=10,
)
