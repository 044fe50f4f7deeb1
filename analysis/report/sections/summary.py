"""The top of the page: what was run, and the verdict."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.data import ReportData, short_dataset
from mixbench.analysis.tables.skipped import skipped
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import summarise
from mixbench.experiments.text import plural


def section(data: ReportData) -> dict[str, Any]:
    """Return the sweep's name, description and size, and what the statistics say."""
    setting = _setting(data)
    runs, unit = data.tables.runs, data.comparison.unit
    drawn = runs[unit].unique()
    parts = [
        setting,
        plural(len(data.tables.cells), "configuration"),
        f"{plural(len(drawn), unit)} ({formatting.seeds(map(int, drawn))})",
        f"{len(data.done)} of {len(runs)} runs done",
    ]
    if files := skipped(runs):
        parts.append(f"{plural(len(files), 'image file')} skipped")
    return {
        "name": data.folder.name,
        "description": data.folder.description,
        "line": " · ".join(parts),
        "verdict": summarise(data.comparison, setting, data.advice),
    }


def _setting(data: ReportData) -> str:
    """Return data set, size, model and regime, as far as they are the same in all runs."""
    runs = data.tables.runs
    parts = [formatting.joined(short_dataset(name) for name in runs["dataset.name"].unique())]
    if (train := data.only_value("data.train")) is not None:
        parts.append(f"{int(train):,} training images")
    parts.append(formatting.joined(map(str, runs["model.name"].unique())))
    if (epochs := data.fixed.get("training.epochs")) is not None:
        parts.append(plural(int(epochs), "epoch"))
    return ", ".join(parts)
