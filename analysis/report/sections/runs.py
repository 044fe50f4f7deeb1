"""The table of all runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData, with_unit
from mixbench.analysis.report.parts import Cell, Row, Table, runs_of
from mixbench.analysis.statistics.metrics import GAP
from mixbench.analysis.text import formatting
from mixbench.experiments.store.states import RunState

MOST_RUNS = 2000
"""Of more runs a page would be too large to be opened: it has a row per configuration."""


def section(data: ReportData) -> dict[str, Any]:
    """Return the rows, cell by cell, how many runs are done, and where MLflow has them.

    A row comes with the id of its cell, whether it is the first of that cell, the folder of the
    run as the page can reach it, and the address of the run in MLflow.
    """
    found = _by_cell(data) if len(data.tables.runs) > MOST_RUNS else _by_run(data)
    known = data.tracked
    return {
        **found,
        "dashboard": _dashboard(data),
        "tracked": known is not None,
        "experiment": "" if known is None else known.experiment_page,
    }


def _dashboard(data: ReportData) -> str:
    """Return the command that opens the store that is known to have the sweep."""
    command = f"mixbench dashboard {shlex.quote(data.folder.name)}"
    usual = f"sqlite:///{data.folder.path.parent.absolute() / 'mlflow.db'}"
    if data.tracked is None or data.tracked.uri == usual:
        return command
    return f"{command} --uri {shlex.quote(data.tracked.uri)}"


def _by_run(data: ReportData) -> dict[str, Any]:
    """Return a row per run."""
    table = _table(data)
    place = {str(key): number for number, key in enumerate(data.comparison.cells["cell_key"])}
    keys = [(str(cell), str(run)) for cell, run in _keys(data)]
    order = sorted(range(len(keys)), key=lambda index: place.get(keys[index][0], len(place)))
    seen: set[str] = set()
    rows = []
    for index in order:
        cell, run = keys[index]
        address = data.tracked.run_page(run) if data.tracked else ""
        links = (data.run_link(run), address)
        rows.append((table.rows[index], runs_of(cell), cell not in seen, *links))
        seen.add(cell)
    shown = Table(table.columns, [row for row, *_ in rows])
    done, planned = len(data.done), len(data.tables.runs)
    return {"table": shown, "rows": rows, "done": done, "planned": planned}


def _by_cell(data: ReportData) -> dict[str, Any]:
    """Return a row per configuration, which leads to its first run; runs.csv has all."""
    metric = data.advice.metric
    found = {str(key): rows for key, rows in data.tables.runs.groupby("cell_key", sort=False)}
    labels = dict(
        zip(data.comparison.cells["cell_key"], data.comparison.cells["label"], strict=True)
    )
    rows = []
    for cell, label in labels.items():
        of_cell = found[str(cell)]
        first = str(of_cell["run_key"].iloc[0])
        done = int((of_cell["state"] == RunState.DONE).sum())
        estimate = data.comparison.estimates[str(cell), metric.key]
        cells = (
            Cell(first),
            Cell(formatting.seeds(map(int, of_cell["seed"]))),
            Cell(f"{done} of {len(of_cell)} done"),
            Cell(formatting.number(estimate.mean, metric.percent, 2 if metric.percent else 3)),
        )
        address = data.tracked.cell_page(str(cell)) if data.tracked else ""
        links = (data.run_link(first), address)
        rows.append((Row(str(label), cells), runs_of(str(cell)), True, *links))
    columns = ["First run", "Seeds", "State", f"{with_unit(metric)}, mean"]
    shown = Table(columns, [row for row, *_ in rows])
    done, planned = len(data.done), len(data.tables.runs)
    return {"table": shown, "rows": rows, "done": done, "planned": planned}


def _keys(data: ReportData) -> Iterable[tuple[Any, Any]]:
    return data.tables.runs[["cell_key", "run_key"]].itertuples(index=False, name=None)


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
