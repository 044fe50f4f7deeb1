"""Further measurements of finished runs (`mixbench evaluate`): a table and notes for each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.measurements import catalogue, home
from mixbench.analysis.report.measurements.curves import Curves
from mixbench.analysis.report.measurements.figures import figures_of, object_share_gains
from mixbench.analysis.report.measurements.load import Measured
from mixbench.analysis.report.measurements.notes import notes_of
from mixbench.analysis.report.measurements.table import Numbers, compare_measurement
from mixbench.analysis.report.parts import Table

MOST_COLUMNS = 8
MOST_KNOWN_COLUMNS = 12
"""With more metrics than that, they become the rows; of a known measurement more are shown."""


@dataclass(frozen=True)
class Part:
    """A measurement as the pages show it.

    comparisons: how many were tested. has_neutral: clear differences where neither direction is
    better are marked by a star. more: further tables, each with its title.
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
    more: tuple[tuple[str, Table], ...] = ()


def section(data: ReportData) -> dict[str, Any]:
    """Return a part for each measurement of the sweep, and all their figures."""
    parts = [part_of(measured, data) for measured in data.measured]
    return {"parts": parts, "figures": [figure for part in parts for figure in part.figures]}


def part_of(measured: Measured, data: ReportData) -> Part:
    """Compare, draw and explain one measurement."""
    name, classes = measured.name, len(data.tables.classes)
    runs, cells = data.tables.runs, data.comparison.cells
    shown = catalogue.shown_metrics(name, measured.keys)
    estimates, differences = compare_measurement(data.comparison, runs, shown)
    drawn = figures_of(Curves(name, measured.results, runs, cells, classes))
    more: tuple[tuple[str, Table], ...] = ()
    if name == home.NAME:
        homes = home.homes_of(measured, runs)
        differences = {
            entry: one for entry, one in differences.items() if entry[1] != home.AWAY.key
        }
        for one in home.away_differences(data.comparison, runs, measured.keys, homes):
            differences[one.cell, home.AWAY.key] = one
        grid = home.grid_metrics(measured.keys)
        by_pair = Numbers(cells, grid, *compare_measurement(data.comparison, runs, grid))
        if grid:
            more = (("Area by shape and fill", by_pair.by_metric()),)
        drawn = [*home.gain_maps(cells, by_pair.differences, homes), *drawn]
    if name == "object_share":
        drawn = [*drawn, *object_share_gains(cells, differences)]
    numbers = Numbers(cells, shown, estimates, differences)
    is_wide = len(shown) > (MOST_KNOWN_COLUMNS if catalogue.is_known(name) else MOST_COLUMNS)
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
        figures=tuple(drawn),
        more=more,
    )
