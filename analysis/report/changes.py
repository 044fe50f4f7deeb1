"""Compare two sources and write what changed: changes.md, changes.csv and changes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report.files import write_pages
from mixbench.analysis.report.page import markdown
from mixbench.analysis.statistics.changes import Change, Match, changes, match
from mixbench.analysis.statistics.metrics import TARGET_SD, Metric, metrics_of
from mixbench.analysis.tables.from_csv import is_accuracy, is_lower_better
from mixbench.analysis.tables.sources import Source
from mixbench.analysis.text import changes as words
from mixbench.analysis.text.formatting import short_hash
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

COMMIT = "provenance.commit"


@dataclass(frozen=True)
class Compared:
    """Two sources, side by side. names: what they are called; notes: commits, failed runs."""

    names: tuple[str, str]
    matched: Match
    found: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def is_broken(self) -> bool:
        """Whether any declared tolerance is."""
        return any(change.is_broken for change in self.found)

    @property
    def headline(self) -> str:
        """The first sentence."""
        return words.headline(self.found, self.names)

    @property
    def basis(self) -> list[str]:
        """What was compared."""
        lines = words.basis(self.matched, self.names, self.notes)
        return [*lines, *words.tolerances(self.found)]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "before": self.names[0],
            "after": self.names[1],
            "headline": self.headline,
            "broken": self.is_broken,
            "basis": self.basis,
            "changes": [words.record(change) for change in self.found],
        }


def compare_sources(
    before: Source, after: Source, tolerances: Mapping[str, float] | None = None
) -> Compared:
    """Compare two sweeps, cell by cell.

    Raises:
        UserError: No cell is in both, no run of one has finished, or a tolerance names a metric
            that neither has.
    """
    names = _names(before, after)
    for name, source in zip(names, (before, after), strict=True):
        if not (source.runs["state"] == RunState.DONE).any():
            raise UserError(f"{name}: none of its {len(source.runs)} runs has finished")
    metrics = _metrics(before, after, tolerances or {})
    fields = tuple(dict.fromkeys((*before.config_columns, *after.config_columns)))
    matched = match(before.cells, after.cells, fields)
    if not matched.pairs:
        raise UserError(
            f"{names[0]} and {names[1]} share nothing to compare: no cell of one "
            f"({_few(before.cells['label'])}) has its settings in the other "
            f"({_few(after.cells['label'])})"
        )
    found = changes(matched, before.runs, after.runs, metrics, tolerances)
    return Compared(names, matched, tuple(found), tuple(_notes(before, after, names)))


def write_changes(compared: Compared, out: Path) -> Path:
    """Write the page and the tables; return the path of the page."""
    records = [words.record(change) for change in compared.found]
    write_pages(
        out,
        {
            "changes.csv": pd.DataFrame(records).to_csv(index=False),
            "changes.json": json.dumps(compared.as_json(), indent=1, ensure_ascii=False) + "\n",
            "changes.md": _page(compared),
        },
    )
    return out / "changes.md"


def _page(compared: Compared) -> str:
    lines = [f"# {markdown(' → '.join(compared.names))}", "", f"**{markdown(compared.headline)}**"]
    lines += ["", *(f"- {markdown(line)}" for line in compared.basis)]
    for group in words.by_metric(compared.found):
        heads = words.columns(group[0], compared.names)
        lines += ["", _row(heads), _row(["---"] * len(heads)), *map(_row, words.table(group))]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(str(markdown(cell)) for cell in cells)} |"


def _names(before: Source, after: Source) -> tuple[str, str]:
    if before.name != after.name:
        return before.name, after.name
    commits = [_commits(source.runs) for source in (before, after)]
    if all(len(found) == 1 for found in commits) and commits[0] != commits[1]:
        return (
            f"{before.name} at {short_hash(commits[0][0])}",
            f"{after.name} at {short_hash(commits[1][0])}",
        )
    return f"{before.name} (before)", f"{after.name} (after)"


def _commits(runs: pd.DataFrame) -> list[str]:
    return [str(value) for value in runs[COMMIT].dropna().unique()] if COMMIT in runs else []


def _notes(before: Source, after: Source, names: tuple[str, str]) -> list[str]:
    notes = []
    commits = [_commits(source.runs) for source in (before, after)]
    if any(commits) and commits[0] != commits[1]:
        shown = [", ".join(map(short_hash, found)) or "unknown" for found in commits]
        notes.append(f"commits: {shown[0]} -> {shown[1]}")
    for name, source in zip(names, (before, after), strict=True):
        missing = int((source.runs["state"] != RunState.DONE).sum())
        if missing:
            notes.append(f"{name}: {plural(missing, 'run')} of {len(source.runs)} not done")
    return notes


def _metrics(before: Source, after: Source, tolerances: Mapping[str, float]) -> list[Metric]:
    runs = before.runs
    shared = [name for name in before.metric_columns if name in after.metric_columns]
    # Which task it is says which metric leads; the data say some margins.
    facts = [name for name in ("task.name", TARGET_SD) if name in runs]
    metrics = list(metrics_of(runs[[*shared, *facts]]))
    known = {metric.key for metric in metrics}
    for name in tolerances:
        if name not in before.metric_columns and name not in after.metric_columns:
            raise unknown("metric in --tolerance", name, before.metric_columns)
        if name not in shared:
            where = "second" if name in before.metric_columns else "first"
            raise UserError(f"--tolerance {name}: the {where} sweep has no such metric")
        if name not in known:
            better = -1 if is_lower_better(name) else 1 if is_accuracy(name) else 0
            metrics.append(Metric(name, name, False, better))
    return metrics


def _few(labels: pd.Series) -> str:
    listed = list(labels)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if listed[3:] else "")
