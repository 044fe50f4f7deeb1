"""Further measurements of finished runs (`mixbench evaluate`): a table and notes for each."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixbench.analysis.figures.curves import Curves, drawn
from mixbench.analysis.report import headlines, measured_notes
from mixbench.analysis.report.headlines import Shown
from mixbench.analysis.report.parts import Cell, Figure, Row
from mixbench.analysis.statistics import tests
from mixbench.analysis.statistics.comparison import Comparison, Metric, blocks
from mixbench.analysis.statistics.tests import Difference, Estimate
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import standing
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line

MOST_COLUMNS = 8
"""With more metrics than that, they become the rows."""


@dataclass(frozen=True)
class Measured:
    """One measurement. found: run_key -> its file; failed: run_key -> error.

    left_out: run_key -> why it can't be made of that run's network.
    """

    name: str
    found: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """All its metrics that have a value in any run."""
        rows = [made.get("metrics") or {} for made in self.found.values()]
        return list(
            dict.fromkeys(
                key for row in rows for key, value in row.items() if tests.is_number(value)
            )
        )

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that were no defaults, as `--set` takes them: those of the last made."""
        made = max(
            self.found.values(),
            key=lambda one: (one.get("provenance") or {}).get("finished", 0.0),
            default={},
        )
        return {f"{self.name}.{key}": value for key, value in (made.get("changed") or {}).items()}


@dataclass(frozen=True)
class Part:
    """A measurement as the pages show it.

    changed: its settings that were no defaults, by the keys that `--set` takes. first: heading of
    the rows. comparisons: how many were tested. has_neutral: clear differences where neither
    direction is better are marked by a star.
    """

    name: str
    changed: dict[str, Any]
    title: str
    meaning: str
    notes: tuple[str, ...]
    first: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    comparisons: int
    has_differences: bool
    has_direction: bool
    has_neutral: bool
    figures: tuple[Figure, ...]


def load(folder: SweepFolder, runs: pd.DataFrame) -> list[Measured]:
    """What was measured of the finished ones of `runs`; empty where nothing was."""
    done = set(runs.loc[runs["state"] == RunState.DONE, "run_key"])
    measured: dict[str, Measured] = {}
    for run in folder.plan():
        if run.run_key in done:
            for name, made in evaluations.read(run.folder).items():
                measured.setdefault(name, Measured(name)).found[run.run_key] = made
            for name, error in evaluations.failures(run.folder).items():
                measured.setdefault(name, Measured(name)).failed[run.run_key] = error
            for name, why in evaluations.left_out(run.folder).items():
                measured.setdefault(name, Measured(name)).left_out[run.run_key] = why
    return [measured[name] for name in sorted(measured, key=_order)]


def parts(folder: SweepFolder, tables: Tables, compared: Comparison) -> list[Part]:
    """A part of the report for each measurement of the sweep."""
    return [
        _part(measured, folder.name, tables, compared) for measured in load(folder, tables.runs)
    ]


def statistics_of(
    compared: Comparison, runs: pd.DataFrame, shown: Sequence[Shown]
) -> tuple[dict[tuple[str, str], Estimate], dict[tuple[str, str], Difference]]:
    """Estimates and differences to the baseline by (cell_key, metric key).

    All differences together are the family of Holm's correction.
    """
    keys = [one.metric.key for one in shown]
    values = {
        (str(cell), key): dict(zip(rows["seed"], rows[key], strict=True))
        for cell, rows in runs[runs["state"] == RunState.DONE].groupby("cell_key")
        for key in keys
    }
    estimates = {place: tests.estimate(list(own.values())) for place, own in values.items()}
    pairs = zip(compared.cells["cell_key"], compared.cells["baseline_key"], strict=True)
    family = {
        (cell, one.metric.key): (
            values.get((cell, one.metric.key), {}),
            values.get((base, one.metric.key), {}),
        )
        for cell, base in pairs
        if isinstance(base, str) and base != cell
        for one in shown
        if one.is_compared
    }
    found = tests.family(family)
    return estimates, {place: found for place, found in found.items() if found.n}


def _order(name: str) -> tuple[int, str]:
    known = headlines.names()
    return (known.index(name) if name in known else len(known), name)


def _part(measured: Measured, sweep: str, tables: Tables, compared: Comparison) -> Part:
    shown = headlines.shown(measured.name, measured.keys)
    estimates, differences = statistics_of(compared, tables.runs, shown)
    table = _Table(compared, shown, estimates, differences)
    is_wide = len(shown) > MOST_COLUMNS and not headlines.is_known(measured.name)
    columns, rows = table.by_metric() if is_wide else table.by_cell()
    curves = Curves(measured.name, measured.found, tables.runs, compared.cells, len(tables.classes))
    return Part(
        measured.name,
        measured.changed,
        headlines.title(measured.name),
        headlines.meaning(measured.name, len(tables.classes)),
        tuple(_notes(measured, shown, sweep, tables.runs)),
        "Metric" if is_wide else "Method",
        tuple(columns),
        tuple(rows),
        sum(difference.p is not None for difference in differences.values()),
        bool(differences),
        any(one.metric.better for one in shown),
        any(one.is_compared and not one.metric.better for one in shown) and bool(differences),
        tuple(drawn(curves)),
    )


class _Table:
    """Cells by metrics, or the other way round."""

    def __init__(
        self,
        compared: Comparison,
        shown: Sequence[Shown],
        estimates: Mapping[tuple[str, str], Estimate],
        differences: Mapping[tuple[str, str], Difference],
    ) -> None:
        self.compared, self.shown = compared, shown
        self.estimates, self.differences = estimates, differences
        self.bases = set(compared.cells["baseline_key"].dropna()) if differences else set()
        self.decimals = {one.metric.key: self._decimals(one.metric) for one in shown}

    def by_cell(self) -> tuple[list[str], list[Row]]:
        rows = []
        for heading, members in blocks(self.compared.cells):
            if heading:
                rows.append(Row(heading, heading=True))
            for cell in members.itertuples():
                key, name = str(cell.cell_key), str(cell.series)
                if not self._has_values(key):
                    rows.append(Row(name, note="not measured"))
                    continue
                entries = tuple(self._entry(key, one.metric) for one in self.shown)
                rows.append(Row(name, entries, is_baseline=key in self.bases))
        return [_heading(one.metric) for one in self.shown], rows

    def by_metric(self) -> tuple[list[str], list[Row]]:
        cells = [
            (str(key), str(label))
            for key, label in self.compared.cells[["cell_key", "label"]].itertuples(index=False)
            if self._has_values(str(key))
        ]
        rows = [
            Row(_heading(one.metric), tuple(self._entry(key, one.metric) for key, _ in cells))
            for one in self.shown
        ]
        return [label for _, label in cells], rows

    def _has_values(self, cell: str) -> bool:
        found = (self.estimates.get((cell, one.metric.key)) for one in self.shown)
        return any(estimate is not None and estimate.n for estimate in found)

    def _entry(self, cell: str, metric: Metric) -> Cell:
        estimate = self.estimates.get((cell, metric.key), Estimate(0, None, None))
        text = formatting.estimate(estimate, metric.percent, self.decimals[metric.key])
        difference = self.differences.get((cell, metric.key))
        if difference is None:
            return Cell(text)
        own = [d for (_, key), d in self.differences.items() if key == metric.key]
        decimals = formatting.difference_digits(own, metric.percent, self.decimals[metric.key])
        minor = formatting.difference(difference, metric.percent, decimals)
        if not metric.better:
            is_clear = standing(difference, 1) in ("ahead", "behind")
            return Cell(text, f"{minor} *" if is_clear else minor)
        kind = standing(difference, metric.better)
        return Cell(text, minor, {"ahead": "good", "behind": "bad"}.get(kind, ""))

    def _decimals(self, metric: Metric) -> int:
        own = [one for (_, key), one in self.estimates.items() if key == metric.key]
        if metric.percent:
            return formatting.digits([one.half_width for one in own], percent=True)
        return significant([one.mean for one in own])


def significant(values: Sequence[float | None]) -> int:
    """Decimals that show three digits of the largest of the values; at most 6."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if not largest:
        return 3
    place = math.floor(math.log10(largest))
    return min(6, max(0, 2 - place))


def _heading(metric: Metric) -> str:
    # A difference of percentages is in points.
    is_difference = metric.key.endswith(("/gap", "/favour"))
    unit = (", points" if is_difference else ", %") if metric.percent else ""
    return f"{metric.title}{unit}{ {1: ' ↑', -1: ' ↓'}.get(metric.better, '') }"


def _notes(measured: Measured, shown: Sequence[Shown], sweep: str, runs: pd.DataFrame) -> list[str]:
    done = int((runs["state"] == RunState.DONE).sum())
    command = f"mixbench evaluate {sweep} --only {measured.name}"
    notes = []
    failed = {key: error for key, error in measured.failed.items() if key not in measured.found}
    left_out = {key: why for key, why in measured.left_out.items() if key not in measured.found}
    if len(measured.found) < done:
        rest = len(measured.found) + len(left_out) < done
        notes.append(
            f"Measured for {len(measured.found)} of {formatting.count(done, 'finished run')}"
            f"{f'; {command} measures the others' if rest else ''}."
        )
    if left_out:
        first = first_line(next(iter(left_out.values())))
        notes.append(f"Left out for {formatting.count(len(left_out), 'run')}: {first}.")
    if failed:
        first = first_line(next(iter(failed.values())))
        notes.append(f"It failed in {formatting.count(len(failed), 'run')}: {first}")
    settings = Counter(
        json.dumps(made.get("settings"), sort_keys=True) for made in measured.found.values()
    )
    if len(settings) > 1:
        notes.append(
            f"The runs were measured with {len(settings)} different settings: don't compare them. "
            f"{command} takes all with the same."
        )
    for one in shown:
        lacking = sum(
            not tests.is_number((made.get("metrics") or {}).get(one.metric.key))
            for made in measured.found.values()
        )
        if lacking:
            notes.append(
                f"{one.metric.title} has no value in {formatting.count(lacking, 'measured run')}."
            )
    return [*notes, *measured_notes.of(measured.name, measured.found, runs)]
