"""Further measurements of finished runs (`mixbench evaluate`): a table and notes for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.measurements import catalogue
from mixbench.analysis.report.measurements.curves import Curves
from mixbench.analysis.report.measurements.figures import figures_of
from mixbench.analysis.report.measurements.load import Measured
from mixbench.analysis.report.measurements.notes import notes_of
from mixbench.analysis.report.measurements.table import Numbers, compare_measurement
from mixbench.analysis.report.parts import Table

MOST_COLUMNS = 8
"""With more metrics than that, they become the rows."""


@dataclass(frozen=True)
class Part:
    """A measurement as the pages show it.

    comparisons: how many were tested. has_neutral: clear differences where neither direction is
    better are marked by a star.
    """

    title: str
    meaning: str
    notes: tuple[str, ...]
    table: Table
    comparisons: int
    has_differences: bool
    has_direction: bool
    has_neutral: bool
    figures: tuple[ReportFigure, ...]


def section(data: ReportData) -> dict[str, Any]:
    """Return a part for each measurement of the sweep, and all their figures."""
    parts = [part_of(measured, data) for measured in data.measured]
    return {"parts": parts, "figures": [figure for part in parts for figure in part.figures]}


def part_of(measured: Measured, data: ReportData) -> Part:
    """Compare, draw and explain one measurement."""
    name, classes = measured.name, len(data.tables.classes)
    runs, cells = data.tables.runs, data.comparison.cells
    shown = catalogue.shown_metrics(name, measured.keys)
    numbers = Numbers(cells, shown, *compare_measurement(data.comparison, runs, shown))
    is_wide = len(shown) > MOST_COLUMNS and not catalogue.is_known(name)
    differences = numbers.differences
    return Part(
        title=catalogue.title(name),
        meaning=catalogue.meaning(name, classes),
        notes=tuple(notes_of(measured, shown, data.folder.name, runs)),
        table=numbers.by_metric() if is_wide else numbers.by_cell(),
        comparisons=sum(difference.p is not None for difference in differences.values()),
        has_differences=bool(differences),
        has_direction=any(one.metric.better for one in shown),
        has_neutral=bool(differences)
        and any(one.is_compared and not one.metric.better for one in shown),
        figures=tuple(figures_of(Curves(name, measured.results, runs, cells, classes))),
    )
