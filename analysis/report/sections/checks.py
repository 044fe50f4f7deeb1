"""TODO."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.data import ReportData


def section(data: ReportData) -> dict[str, Any]:
    return {"figures": [], "sentences": [], "table": None, "note": ""}
