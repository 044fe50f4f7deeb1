"""Drawings that several measurements share: accuracy along an axis, and paired differences."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pandas as pd

from mixbench.analysis.figures.accuracy_curves import curves_figure
from mixbench.analysis.figures.canvas import BAND_SEEDS, ReportFigure, on_both_papers
from mixbench.analysis.figures.methods import methods_figure
from mixbench.analysis.report.measurements.curves import Curves
from mixbench.analysis.report.measurements.differences import metric_panels
from mixbench.analysis.statistics.curves import mean_curves
from mixbench.analysis.statistics.metrics import Metric

Draw = Callable[[Curves], list[ReportFigure]]


def accuracy_figure(
    curves: Curves,
    points: pd.DataFrame,
    title: str,
    caption: str,
    x_label: str,
    columns: int = 3,
    part: str = "",
    is_doubling: bool = False,
) -> list[ReportFigure]:
    """Draw accuracy along an axis: a panel per name in `points`, a line per cell."""
    if points.empty:
        return []
    lines = mean_curves(points, "panel", "x", "value")
    has_bands = lines["n"].max() >= BAND_SEEDS
    bands = " The bands are 95% t intervals over seeds." if has_bands else ""
    return [
        on_both_papers(
            f"measured-{curves.name}{part}.png",
            title,
            f"{caption}{bands} Dotted: guessing." if curves.chance else f"{caption}{bands}",
            f"Curves of accuracy over {x_label.lower()}, one line per method",
            partial(
                curves_figure,
                curves.cells_with(lines["cell_key"]),
                lines,
                x_label=x_label,
                chance=curves.chance,
                columns=columns,
                is_doubling=is_doubling,
            ),
        )
    ]


def differences(title: str, *metrics: Metric, part: str = "") -> Draw:
    """Return a function that draws paired differences of these metrics by method.

    A key ending in "/" is a prefix. part: of the file's name, where a measurement has several
    drawings.
    """

    def draw(curves: Curves) -> list[ReportFigure]:
        wanted = [one for metric in metrics for one in with_values(metric, curves.measured_runs)]
        panels = metric_panels(curves, wanted)
        if not panels:
            return []
        return [
            on_both_papers(
                f"measured-{curves.name}{part}.png",
                title,
                "Differences to the baseline, paired by replicate, with simultaneous 95% "
                "intervals; the small dots are single replicates. Filled where the interval "
                "excludes 0.",
                f"Forest plots of differences in {', '.join(one.title for one in wanted)}",
                partial(methods_figure, panels),
            )
        ]

    return draw


def with_values(metric: Metric, runs: pd.DataFrame) -> list[Metric]:
    """Return a metric, or the last of those that begin with its key, where it has a value."""
    is_beginning = metric.key.endswith("/")
    keys = [
        str(key)
        for key in runs
        if key == metric.key or (is_beginning and str(key).startswith(metric.key))
    ]
    return [
        Metric(
            key,
            f"{metric.title} {key.removeprefix(metric.key)}" if is_beginning else metric.title,
            metric.percent,
            metric.better,
        )
        for key in [key for key in keys if runs[key].notna().any()][-1:]
    ]
