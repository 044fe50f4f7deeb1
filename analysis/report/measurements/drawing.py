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
from mixbench.analysis.report.multiples import are_needed, multiples
from mixbench.analysis.statistics.curves import mean_curves
from mixbench.analysis.statistics.metrics import Metric

ACCURACY = "Accuracy, %"
Draw = Callable[[Curves], list[ReportFigure]]


def accuracy_figure(
    curves: Curves,
    points: pd.DataFrame,
    title: str,
    caption: str,
    x_label: str,
    columns: int = 3,
    part: str = "",
    y_label: str = ACCURACY,
    summary: str = "",
    is_doubling: bool = False,
) -> list[ReportFigure]:
    """Draw accuracy along an axis: a panel per name in `points`, a line per cell.

    Of more cells than lines can be told apart: a panel per cell, a line per name, or where these
    are too many the one called `summary`, else their mean.
    """
    if points.empty:
        return []
    name = f"measured-{curves.name}{part}.png"
    what = y_label.partition(",")[0]
    cells = curves.cells_with(points["cell_key"])
    if are_needed(cells):
        named = points.assign(line=points["panel"], row="")
        found = multiples(cells, named, curves.runs, x_label, y_label, summary)
        if found is None:
            return []
        alt = f"Curves of differences over {x_label.lower()}, a panel per configuration"
        return [
            on_both_papers(
                name, title, f"{caption} {found.words}", alt, found.draw, found.draw_narrow
            )
        ]
    lines = mean_curves(points, "panel", "x", "value")
    has_bands = lines["n"].max() >= BAND_SEEDS
    caption += " The bands are 95% t intervals over seeds." if has_bands else ""
    chance = curves.chance if y_label == ACCURACY else None
    return [
        on_both_papers(
            name,
            title,
            f"{caption} Dotted: guessing." if chance else caption,
            f"Curves of {what.lower()} over {x_label.lower()}, one line per method",
            partial(
                curves_figure,
                cells,
                lines,
                x_label=x_label,
                y_label=y_label,
                chance=chance,
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
