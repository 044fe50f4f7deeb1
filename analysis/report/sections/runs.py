"""The table of all runs."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData, with_unit
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.metrics import GAP
from mixbench.analysis.text import formatting
from mixbench.experiments.store.states import RunState


def section(data: ReportData) -> dict[str, Any]:
    """Return the table, and how many runs are done."""
    return {"table": _table(data), "done": len(data.done), "planned": len(data.tables.runs)}


def _table(data: ReportData) -> Table:
    metrics = data.comparison.metrics
    rows = []
    for run in data.tables.runs.to_dict("records"):
        head = (Cell(run["run_key"]), Cell(str(run["seed"])), Cell(run["state"]))
        if run["state"] != RunState.DONE:
            rows.append(Row(run["label"], head, note=run["failure"] or run["progress"]))
            continue
        values = [
            formatting.number(run[m.key], m.percent, 2 if m.percent else 3, sign=m.key == GAP)
            for m in metrics
        ]
        seconds = run.get("timing.train_seconds")
        time_text = formatting.duration(seconds if is_number(seconds) else None)
        rows.append(Row(run["label"], (*head, *map(Cell, values), Cell(time_text))))
    return Table(["Run", "Seed", "State", *map(with_unit, metrics), "Training"], rows)
