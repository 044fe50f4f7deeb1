"""Warnings about the numbers."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.text.caveats import caveats
from mixbench.analysis.text.plugin_warnings import promises_warnings


def section(data: ReportData) -> dict[str, Any]:
    """Return the warnings, the gravest first."""
    tables = data.tables
    found = caveats(data.comparison, tables.runs, data.spec, tables.pretraining, tables.plugins)
    return {"list": [*_of_question(data), *promises_warnings(data.folder.path), *found]}


def _of_question(data: ReportData) -> list[str]:
    if data.problem:
        return [f"The sweep's question can't be read, so nothing is declared: {data.problem}."]
    declared = data.comparison.declared
    if declared is None:
        return []
    warnings = [f"The declared question has no answer here: {note}." for note in declared.notes]
    if data.folder.first_spec.get("question") != data.spec.get("question"):
        warnings.append(
            "The question was declared or changed after the sweep began: its contrasts may have "
            "been chosen with results at hand."
        )
    return warnings
