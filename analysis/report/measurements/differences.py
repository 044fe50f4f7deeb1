"""The paired differences of a measurement's metrics, as its forest plots draw them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mixbench.analysis.figures.forest import ForestPanel, ForestRow
from mixbench.analysis.figures.methods import MetricPanel
from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.measurements.curves import Curves
from mixbench.analysis.report.parts import TONES
from mixbench.analysis.statistics.comparison import compare_metric, seed_values
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.units import unit_of

Values = Mapping[tuple[str, str], Mapping[int, float | None]]


def metric_panels(curves: Curves, metrics: Sequence[Metric]) -> list[MetricPanel]:
    """Return a panel per metric with the cells that differ from their baseline in any of them.

    Empty where no cell has a baseline with which it shares a replicate.
    """
    runs = curves.measured_runs
    values = seed_values(runs, [metric.key for metric in metrics])
    contrasts = {
        (contrast.cell, metric.key): contrast
        for metric in metrics
        for contrast in compare_metric(curves.cells, values, metric, unit_of(runs))
        if contrast.difference is not None
    }
    compared = {cell for cell, _ in contrasts}
    names = {
        str(key): str(label)
        for key, label in curves.cells[["cell_key", "label"]].itertuples(index=False)
        if str(key) in compared
    }
    panels = []
    for metric in metrics if names else ():
        factor = 100 if metric.percent else 1
        rows = [
            _row(name, contrasts.get((cell, metric.key)), values, metric, factor)
            for cell, name in names.items()
        ]
        margin = None if metric.margin is None else metric.margin * factor
        unit = "points" if metric.percent else ""
        panels.append(MetricPanel(ForestPanel(metric.title, rows), unit, metric.better, margin))
    return panels


def _row(
    name: str, contrast: Contrast | None, values: Values, metric: Metric, factor: float
) -> ForestRow:
    if contrast is None or contrast.difference is None:
        return ForestRow(name, None, None, None, "")
    low, high = (None if end is None else end * factor for end in (contrast.low, contrast.high))
    tone = TONES.get(contrast.verdict, "")
    if not metric.better and contrast.is_clear:
        tone = "same"
    own, base = (values[cell, metric.key] for cell in (contrast.cell, contrast.against))
    dots = tuple(
        (float(one) - float(other)) * factor
        for one, other in ((own.get(n), base.get(n)) for n in contrast.replicates)
        if is_number(one) and is_number(other) and one is not None and other is not None
    )
    dots = tuple(dot for dot in dots if math.isfinite(dot))
    return ForestRow(name, contrast.difference * factor, low, high, tone, dots)
