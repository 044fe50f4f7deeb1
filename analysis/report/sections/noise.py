"""Draw gradient noise by epoch, of the runs that measured it while they trained."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.measurements.curves import Curves
from mixbench.analysis.report.measurements.drawing import accuracy_figure

PANELS = {"mix": "By mixing", "batch": "By batch", "signal": "In common"}


def section(data: ReportData) -> dict[str, Any]:
    """Return the figure, where a run has `training.gradient_noise`."""
    return {"figures": _figures(data)}


def _figures(data: ReportData) -> list[ReportFigure]:
    noise = data.tables.noise
    if noise.empty:
        return []
    points = pd.concat(
        [
            noise[["cell_key", "run_key", "seed"]].assign(
                panel=panel,
                point=noise["epoch"],
                x=noise["epoch"].astype(float),
                value=noise[name].astype(float),
            )
            for name, panel in PANELS.items()
        ],
        ignore_index=True,
    )
    cells = data.comparison.cells
    curves = Curves("gradient_noise", {}, data.tables.runs, cells, classes=0)
    return accuracy_figure(
        curves,
        points,
        "Gradient noise by epoch",
        "What makes the gradient of a training step after each epoch, as shares of its mean "
        "squared norm: the draw of the mixing for the same images, which images are in the "
        "batch, and what all steps have in common.",
        "Epoch",
        part="-epochs",
        y_label="Of the squared gradient, %",
        summary=PANELS["mix"],
    )
