"""Draw paired differences to the baseline by method: a panel per metric, each with its own axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from mixbench.analysis.figures.canvas import WIDTH, png, rows_of, settings
from mixbench.analysis.figures.forest import ForestPanel, draw_panel, limits_of
from mixbench.analysis.figures.palette import LIGHT, Paper

COLUMNS = 3


@dataclass(frozen=True)
class MetricPanel:
    """The differences of one metric, a row per method; all panels have the same methods.

    Attributes:
        rows: With the metric as title.
        unit: Of the differences, such as "points"; empty where there is none.
        better: 1 where higher is better, -1 where lower is, 0 where neither is.
        margin: Half the width of the band in which differences don't matter.
    """

    rows: ForestPanel
    unit: str
    better: int
    margin: float | None = None


def methods_figure(panels: Sequence[MetricPanel], paper: Paper = LIGHT) -> bytes:
    """Draw the differences with their intervals; small dots are single replicates."""
    columns = 2 if len(panels) == 4 else min(COLUMNS, len(panels))
    rows = rows_of(len(panels), columns)
    height = 0.42 * max(len(panel.rows.rows) for panel in panels) + 1.05
    with settings(paper):
        figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for number, axis in enumerate(grid.flat):
            if number >= len(panels):
                axis.set_axis_off()
                continue
            panel = panels[number]
            limits = limits_of(panel.rows.rows, panel.margin)
            draw_panel(axis, panel.rows, paper, panel.margin, limits)
            axis.tick_params(labelleft=number % columns == 0)
            arrow = {1: "better →", -1: "← better"}.get(panel.better, "")
            axis.set_xlabel("; ".join(part for part in (panel.unit, arrow) if part), size=8.5)
        return png(figure)
