"""Draw gradient noise by epoch, of the runs that measured it while they trained."""

from __future__ import annotations

from functools import partial
from typing import Any

import pandas as pd

from mixbench.analysis.figures.accuracy_curves import curves_figure
from mixbench.analysis.figures.canvas import BAND_SEEDS, ReportFigure, on_both_papers
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.curves import mean_curves

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
    lines = mean_curves(points, "panel", "x", "value")
    cells = data.comparison.cells
    cells = cells[cells["cell_key"].isin(lines["cell_key"])]
    bands = " The bands are 95% t intervals over seeds." if lines["n"].max() >= BAND_SEEDS else ""
    return [
        on_both_papers(
            "gradient_noise.png",
            "Gradient noise by epoch",
            "What makes the gradient of a training step after each epoch, as shares of its mean "
            "squared norm: the draw of the mixing for the same images, which images are in the "
            f"batch, and what all steps have in common.{bands}",
            "Curves of the shares of gradient noise over epochs, one line per method",
            partial(
                curves_figure,
                cells,
                lines,
                x_label="Epoch",
                y_label="Of the squared gradient, %",
            ),
        )
    ]
