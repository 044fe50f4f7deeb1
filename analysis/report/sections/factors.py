"""Tables of the effect of each factor of staging and transfer, in each setting."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.parts import TONES, Cell, Row, Table
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.contrasts import Contrast, Verdict
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.pivot import Pivot, pivots
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.names import method_name


def section(data: ReportData) -> dict[str, Any]:
    """Return the tables, with a sentence for each row."""
    tables = data.tables
    factors = pivots(tables.cells, tables.runs, tables.origins, data.comparison.headline)
    shared = [_with_one_test(pivot, data.comparison) for pivot in factors]
    return {"tables": [_factor(pivot, data.comparison) for pivot in shared]}


def _with_one_test(pivot: Pivot, compared: Comparison) -> Pivot:
    """Take the test of a contrast that is declared, or in the main table, from there."""
    known = {
        (cell, contrast.against): contrast
        for cell, contrast in compared.of_metric(compared.headline.key).items()
    }
    if compared.declared is not None and compared.declared.metric.key == compared.headline.key:
        known |= compared.declared.by_cells
    differences = {
        cell: known.get((cell, contrast.against), contrast)
        for cell, contrast in pivot.differences.items()
    }
    return replace(pivot, differences=differences)


def _factor(pivot: Pivot, compared: Comparison) -> dict[str, Any]:
    differences, percent = pivot.differences.values(), compared.headline.percent
    decimals = formatting.digits([d.half_width for d in differences], percent)
    decimals = formatting.difference_digits(differences, percent, decimals)
    rows = [
        Row(
            method_name(name),
            tuple(_entry(pivot, compared, name, column, decimals) for column in pivot.columns),
        )
        for name in pivot.rows
    ]
    return {
        "title": f"By {pivot.title}",
        "table": Table(pivot.columns, rows),
        "reference": pivot.reference if pivot.differences else "",
        "status": _status(differences, compared),
        "comparisons": sum(difference.p is not None for difference in differences),
        "sentences": [
            text for name in pivot.rows if (text := _sentence(pivot, name, decimals, percent))
        ],
        "metric": _beginning(compared.headline),
        "points": ", in points" if percent else "",
    }


def _beginning(metric: Metric) -> str:
    """Return a metric with its unit, at the beginning of a sentence: "Test accuracy, %"."""
    words = metric_in_words(metric)
    return f"{words[0].upper()}{words[1:]}{', %' if metric.percent else ''}"


def _status(differences: Iterable[Contrast], compared: Comparison) -> str:
    if compared.declared is None:
        return ""
    if any(compared.is_declared(one, compared.headline.key) for one in differences):
        return " (those that the question declares as declared, others exploratory)"
    return " (exploratory)"


def _entry(pivot: Pivot, compared: Comparison, name: str, column: str, decimals: int) -> Cell:
    key = pivot.cells.get((name, column))
    if key is None:
        return Cell("")
    score = compared.estimates.get((key, compared.headline.key))
    percent = compared.headline.percent
    digits = 1 if percent else 3
    mean = formatting.number(score.mean if score is not None else None, percent, digits)
    difference = pivot.differences.get(key)
    if difference is None:
        is_reference = column == pivot.reference and pivot.differences
        return Cell(mean, "compared with" if is_reference else "")
    shown = formatting.number(difference.mean, percent, decimals, sign=True)
    return Cell(mean, shown, TONES.get(difference.verdict, ""))


def _sentence(pivot: Pivot, name: str, decimals: int, percent: bool) -> str:
    """Say whether the factor matters in this row."""
    differences = {
        column: difference
        for column in pivot.columns
        if (key := pivot.cells.get((name, column))) is not None
        and (difference := pivot.differences.get(key)) is not None
    }
    if not differences:
        return ""
    parts = []
    for kind in (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT):
        columns = [column for column, value in differences.items() if value.verdict == kind]
        columns.sort(key=lambda column: -abs(differences[column].mean or 0))
        if columns:
            shown = (
                f"{column} {formatting.difference(differences[column], percent, decimals)}"
                for column in columns
            )
            parts.append(f"{kind} {'is' if len(columns) == 1 else 'are'} {', '.join(shown)}")
    if not parts:
        return f"{method_name(name)}: nothing is decided against {pivot.reference}."
    if rest := sum(value.verdict == Verdict.UNDECIDED for value in differences.values()):
        parts.append(f"{rest} more undecided")
    return f"{method_name(name)}, against {pivot.reference}: {'; '.join(parts)}."
