"""Calibration: errors of many kinds, as trained and after temperature and vector scaling."""

from __future__ import annotations

from pydantic import Field

from mixbench.experiments.evaluation.declaration import Measurement
from mixbench.experiments.section import Number, Section


class CalibrationSettings(Section):
    """Bins of the reliability data, and the bounds of the temperature.

    Attributes:
        bins: Their number; None: that of the run (`evaluation.ece_bins`), so that `calibration/ece`
            is `test/ece`.
        lowest_temperature: Lower bound of the fit.
        highest_temperature: Upper bound of the fit.
    """

    bins: int | None = Field(None, ge=1, le=1000)
    lowest_temperature: Number = Field(0.05, gt=0, le=1)
    highest_temperature: Number = Field(20.0, ge=1)


MEASUREMENT = Measurement(
    "calibration",
    "calibration errors with intervals, as trained and after temperature and vector scaling",
    CalibrationSettings,
    order=10,
    seconds=1.0,
)
