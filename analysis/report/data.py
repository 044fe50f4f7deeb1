"""The data of a report's sections."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd

from mixbench.analysis.report.looks import looks_of
from mixbench.analysis.report.measurements.load import Measured, load_measured
from mixbench.analysis.statistics.baselines import Baseline
from mixbench.analysis.statistics.comparison import Comparison, compare
from mixbench.analysis.statistics.looks import with_looks
from mixbench.analysis.statistics.metrics import GAP, Metric
from mixbench.analysis.statistics.recommendation import Advice, recommend
from mixbench.analysis.tables import cache, predictions
from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.tables.predictions import Predicted
from mixbench.analysis.text import formatting
from mixbench.experiments.design import decide
from mixbench.experiments.design import question as questions
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import tracked
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.tracked import Tracked


@dataclass(frozen=True)
class ReportData:
    """A sweep's tables and statistics. baseline: the one that the user asked for, if any.

    problem: why the question of the sweep can't be read, empty otherwise. out: the folder of the
    page, from which links lead to run folders; None for a page without such links. judged: the
    comparison with the names of methods in configurations, which `worded` replaces.
    """

    folder: SweepFolder
    tables: Tables
    comparison: Comparison
    measured: tuple[Measured, ...]
    baseline: Baseline = None
    problem: str = ""
    out: Path | None = None
    judged: Comparison | None = None

    def run_link(self, run_key: str) -> str:
        """Return where the page finds the folder of a run; empty if it should not say."""
        if self.out is None:
            return ""
        folder = os.path.relpath(self.folder.path / "runs" / run_key, self.out)
        return f"{quote(Path(folder).as_posix())}/"

    @cached_property
    def tracked(self) -> Tracked | None:
        """Where MLflow has the runs; None where that is not known, or the page should not say."""
        return None if self.out is None else tracked.read(self.folder.path)

    @cached_property
    def spec(self) -> Mapping[str, Any]:
        """The sweep as it was given."""
        return self.folder.spec

    @cached_property
    def fixed(self) -> dict[str, Any]:
        """The fields of the configuration that are the same in all runs."""
        runs = self.tables.runs
        return {
            column: runs[column].iloc[0]
            for column in self.tables.config_columns
            if runs[column].map(value_text).nunique() == 1
        }

    def predicted(self, run_key: str) -> Predicted | None:
        """Return what a run named its test images; None where that is not known."""
        if run_key not in self._predicted:
            self._predicted[run_key] = predictions.read(self.folder.path / "runs" / run_key)
        return self._predicted[run_key]

    @cached_property
    def advice(self) -> Advice:
        """What to use, on the metric that the sweep was made for."""
        return recommend(self.judged or self.comparison, self.tables.runs)

    @property
    def done(self) -> pd.DataFrame:
        """The rows of the finished runs."""
        return self.tables.runs[self.tables.runs["state"] == RunState.DONE]

    def only_value(self, column: str) -> Any:
        """Return the one value of a column among the finished runs; None for more or none."""
        if column not in self.tables.runs:
            return None
        values = self.done[column].dropna().unique()
        return values[0] if len(values) == 1 else None

    def decimals(self, metric: Metric) -> int:
        """Return the decimals of a metric's means."""
        if metric.key not in self._decimals:
            estimates = self.comparison.estimates.items()
            widths = [value.half_width for (_, key), value in estimates if key == metric.key]
            self._decimals[metric.key] = formatting.digits(widths, metric.percent)
        return self._decimals[metric.key]

    def difference_decimals(self, metric: Metric) -> int:
        """Return the decimals of a metric's differences."""
        name = f"differences in {metric.key}"
        if name not in self._decimals:
            differences = self.comparison.of_metric(metric.key).values()
            own = self.decimals(metric)
            self._decimals[name] = formatting.difference_digits(differences, metric.percent, own)
        return self._decimals[name]

    @cached_property
    def _predicted(self) -> dict[str, Predicted | None]:
        """What was read before: several sections need it."""
        return {}

    @cached_property
    def _decimals(self) -> dict[str, int]:
        """What was found before: with thousands of cells it takes its time."""
        return {}


def collect(folder: SweepFolder, baseline: Baseline, out: Path | None = None) -> ReportData:
    """Read a sweep and compare its cells; UserError where no run has finished.

    out: see `ReportData`.
    """
    tables = cache.load(folder)
    if not (tables.runs["state"] == RunState.DONE).any():
        raise UserError(
            f"sweep {folder.name!r}: none of its {len(tables.runs)} runs has finished, so "
            f"there is nothing to report{_reasons(tables.runs)}"
        )
    question, looks, problem = None, None, ""
    try:
        wanted = decide.read(folder.spec)
        question = questions.read(folder.spec) if wanted is None else wanted.question
        looks = looks_of(folder, tables)
    except UserError as error:
        problem = str(error)
    spec_baseline = folder.spec.get("baseline")
    comparison = compare(tables.cells, tables.runs, spec_baseline, baseline, question)
    if looks is not None:
        comparison = with_looks(comparison, looks)
    measured = load_measured(folder, tables.runs)
    return ReportData(folder, tables, comparison, measured, baseline, problem, out)


def short_dataset(name: str) -> str:
    """Return a data set's name without the path of an image folder."""
    kind, colon, path = str(name).partition(":")
    return f"{kind}:{Path(path).name}" if colon else kind


def with_unit(metric: Metric, unit: str = "%") -> str:
    """Return a metric's title with its unit; a gap of percentages is in points."""
    unit = "points" if metric.key == GAP else unit
    return f"{metric.title}{f', {unit}' if metric.percent else ''}"


def _reasons(runs: pd.DataFrame) -> str:
    states = ", ".join(f"{n} {state}" for state, n in runs["state"].value_counts().items())
    errors = runs.loc[runs["state"] == RunState.FAILED, "failure"]
    first = f"; the first error: {errors.iloc[0]}" if len(errors) else ""
    return f" ({states}{first})"
