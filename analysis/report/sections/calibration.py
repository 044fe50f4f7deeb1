"""Reliability diagrams of the networks as trained."""

from __future__ import annotations

from functools import partial
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.reliability import THIN_BIN, calibration_note, reliability_figure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.curves import pool_reliability
from mixbench.analysis.statistics.metrics import GAP

PANELS = 12
"""Diagrams in one figure; a larger sweep gets several figures."""
MOST_PANELS = 24
"""Where there are more, one figure shows the first."""


def section(data: ReportData) -> dict[str, Any]:
    """Return the figures."""
    return {"figures": _figures(data)}


def _figures(data: ReportData) -> list[ReportFigure]:
    compared = data.comparison
    found = data.tables.reliability
    keys = compared.cells["cell_key"]
    keys = keys[keys.isin(found["cell_key"].unique())]
    total = len(keys)
    keys = keys.iloc[: MOST_PANELS if total <= MOST_PANELS else PANELS]
    bins = pool_reliability(found[found["cell_key"].isin(keys)])
    if bins.empty:
        return []
    count = -(-len(keys) // PANELS)
    size = -(-len(keys) // count)
    left_out = (
        f" The first {len(keys)} of {total} configurations are shown."
        if total > MOST_PANELS
        else ""
    )
    notes = {key: _note(compared, key) for key in keys}
    figures = []
    for number in range(count):
        shown = bins[bins["cell_key"].isin(keys.iloc[number * size : (number + 1) * size])]
        figures.append(
            on_both_papers(
                "reliability.png" if count == 1 else f"reliability-{number + 1}.png",
                "Reliability" if count == 1 else f"Reliability, {number + 1} of {count}",
                "Accuracy over confidence, test images of all seeds pooled, with the share of "
                "images in each bin below. Below the diagonal a model is over-confident. Hollow "
                f"points have fewer than {THIN_BIN} images. ECE and the signed gap "
                f"(confidence − accuracy, in points) are means over seeds.{left_out}",
                "Reliability diagrams, one per method",
                partial(reliability_figure, compared.cells, shown, notes),
            )
        )
    return figures


def _note(compared: Comparison, key: str) -> str:
    estimates = (compared.estimates.get((key, metric)) for metric in ("test/ece", GAP))
    ece, gap = (value.mean if value is not None else None for value in estimates)
    return calibration_note(ece, gap)
