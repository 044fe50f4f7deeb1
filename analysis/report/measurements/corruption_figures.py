"""The figures of corruptions: accuracy and calibration by severity, computed and published."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.report.measurements.curves import (
    POINTS,
    Curves,
    accuracy_points,
    points_of,
)
from mixbench.analysis.report.measurements.drawing import accuracy_figure

FILES = "files"
"""The part of the curves that is of published files."""
_FAMILIES = ("noise", "blur", "weather", "digital")
_ERRORS = {"debiased": "As trained", "scaled/debiased": "With a temperature"}


def corruption(curves: Curves) -> list[ReportFigure]:
    """Draw accuracy and calibration by severity, and the same on published files."""
    return [*_of(curves), *_of(curves, FILES)]


def _of(curves: Curves, within: str = "") -> list[ReportFigure]:
    panels = {"mean": "All corruptions"} | {name: name.capitalize() for name in _FAMILIES}
    where = f" on published files ({_sets(curves)})" if within else ""
    part = f"-{within}" if within else ""
    return [
        *accuracy_figure(
            curves,
            accuracy_points(curves, "severity", panels, within),
            f"Accuracy by severity{where}",
            "Mean over the corruptions of a family; 0 is the images as they are.",
            "Severity",
            part=part,
            summary=panels["mean"],
        ),
        *accuracy_figure(
            curves,
            _errors(curves, within),
            f"Calibration by severity{where}",
            "The debiased calibration error, over all corruptions the root of its mean square, "
            "with logits as trained and divided by the temperature that clean validation images "
            "speak for; 0 is the images as they are.",
            "Severity",
            part=f"{part}-calibration",
            y_label="Calibration error, %",
            summary=_ERRORS["debiased"],
        ),
    ]


def _errors(curves: Curves, within: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for keys, whole in curves.each():
        run = (whole.get(within) or {}) if within else whole
        for name, panel in _ERRORS.items():
            values = (run.get("calibration") or {}).get(name)
            rows += points_of(keys, panel, run.get("severity"), values)
    return pd.DataFrame(rows, columns=POINTS)


def _sets(curves: Curves) -> str:
    """The names of the folders that were measured."""
    names = dict.fromkeys(
        str(run[FILES]["set"]) for _, run in curves.each() if (run.get(FILES) or {}).get("set")
    )
    return ", ".join(names)
