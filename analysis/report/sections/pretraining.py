"""The table of pretraining runs, whose weights other runs start from."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.metrics import headline_of
from mixbench.analysis.text import formatting
from mixbench.experiments.store.states import RunState


def section(data: ReportData) -> dict[str, Any]:
    """Return a table with a row per cell; None where there are no such runs."""
    pretraining = data.tables.pretraining
    if pretraining.empty:
        return {"table": None}
    metric = headline_of(pretraining)
    rows = []
    for key, runs in pretraining.groupby("cell_key", sort=False):
        done = runs[runs["state"] == RunState.DONE]
        values = [v for v in done.get(metric.key, pd.Series(dtype=float)) if is_number(v)]
        mean = sum(values) / len(values) if values else None
        first = runs.iloc[0]
        entries = (
            str(first["model.name"]),
            str(first["training.epochs"]),
            f"{len(done)} of {len(runs)}",
            formatting.number(mean, metric.percent, 1 if metric.percent else 3),
        )
        origin = data.tables.origins.get(str(key), "").removeprefix("on ")
        rows.append(Row(origin or str(first["dataset.name"]), tuple(map(Cell, entries))))
    there = f"{metric.title} there{', %' if metric.percent else ''}"
    columns = ["Network", "Epochs", "Runs done", there]
    return {"table": Table(columns, rows, first="Trained on")}
