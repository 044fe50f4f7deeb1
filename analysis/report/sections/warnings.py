"""Warnings about the numbers."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.text.caveats import caveats


def section(data: ReportData) -> dict[str, Any]:
    """Return the warnings, the gravest first."""
    tables = data.tables
    return {
        "list": caveats(data.comparison, tables.runs, data.spec, tables.pretraining, tables.plugins)
    }
