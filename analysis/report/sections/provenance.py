"""Where the results come from: data, versions, machines and times."""

from __future__ import annotations

import time
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.text import formatting

_COLUMNS = {
    "Data found at": "data.source",
    "Data digest": "data.digest",
    "mixbench": "provenance.mixbench",
    "Commit": "provenance.commit",
    "Python": "provenance.python",
    "torch": "provenance.torch",
    "Device": "provenance.device",
    "Threads per run": "provenance.threads",
    "Hosts": "provenance.host",
}
_MOST_VALUES = 6


def section(data: ReportData) -> dict[str, Any]:
    """Return (term, text) of everything that is known."""
    done = data.done
    rows = [(title, text) for title, column in _COLUMNS.items() if (text := _values(done, column))]
    if data.folder.commit and not any(title == "Commit" for title, _ in rows):
        rows.append(("Commit", data.folder.commit))
    if "origin.sweep" in done:
        counts = done["origin.sweep"].value_counts()
        taken = ", ".join(f"{count} from {sweep}" for sweep, count in counts.items())
        rows.append(("Runs taken over from other sweeps", taken))
    started, finished = _numbers(done, "provenance.started"), _numbers(done, "provenance.finished")
    if started and finished:
        rows.append(("Runs", f"{_date(min(started))} to {_date(max(finished))} UTC"))
    parts = ("setup", "train", "evaluate")
    seconds = [value for part in parts for value in _numbers(done, f"timing.{part}_seconds")]
    if seconds:
        rows.append(("Time in all runs", formatting.duration(sum(seconds))))
    rows.append(("Run folders", f"{data.folder.name}/runs/<run key>"))
    return {"rows": rows}


def _values(done: pd.DataFrame, column: str) -> str:
    values = list(dict.fromkeys(map(str, done[column].dropna()))) if column in done else []
    more = f" and {len(values) - _MOST_VALUES} more" if len(values) > _MOST_VALUES else ""
    return ", ".join(values[:_MOST_VALUES]) + more


def _numbers(done: pd.DataFrame, column: str) -> list[float]:
    return [float(value) for value in done[column] if is_number(value)] if column in done else []


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
