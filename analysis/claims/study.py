"""What claims are judged by: the runs of a sweep, or of a report that was published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.claims.formula import parse_metric
from mixbench.analysis.statistics.comparison import (
    Comparison,
    compare,
    compare_metric,
    seed_values,
)
from mixbench.analysis.statistics.contrasts import Contrast, Values
from mixbench.analysis.statistics.declared import declare
from mixbench.analysis.statistics.metrics import Metric, metric_of
from mixbench.analysis.tables.sources import CSV as RUNS
from mixbench.analysis.tables.sources import open_source
from mixbench.experiments.design import question as questions
from mixbench.experiments.design.question import Flat
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.provenance import CHANGED
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line

VERDICTS = "verdicts.json"
COMMIT = "provenance.commit"

ByCells = Mapping[tuple[str, str], Contrast]


@dataclass(frozen=True)
class Study:
    """The runs of a sweep, with what its report compares.

    Attributes:
        name: The sweep's name, or the folder of a published report.
        comparison: Its cells, compared.
        runs: One row per run: run_key, cell_key, (replicate,) seed, state, metrics.
    """

    name: str
    comparison: Comparison
    runs: pd.DataFrame

    @cached_property
    def rows(self) -> dict[str, Flat]:
        """cell_key -> its configuration with dotted keys."""
        cells = self.comparison.cells
        columns = [column for column in cells.columns if "." in column]
        records = cells[columns].to_dict("records")
        return {
            str(cell): {str(key): value for key, value in row.items()}
            for cell, row in zip(cells["cell_key"], records, strict=True)
        }

    @property
    def unit(self) -> str:
        """What is paired between cells: "seed" or "replicate"."""
        return self.comparison.unit

    @cached_property
    def done(self) -> pd.DataFrame:
        """The rows of the finished runs."""
        return self.runs[self.runs["state"] == RunState.DONE]

    @cached_property
    def run_keys(self) -> Mapping[str, list[tuple[int, str]]]:
        """cell_key -> (replicate, run_key) of its finished runs."""
        found: dict[str, list[tuple[int, str]]] = {}
        columns = (self.done[name] for name in ("cell_key", self.unit, "run_key"))
        for cell, replicate, run_key in zip(*columns, strict=True):
            found.setdefault(str(cell), []).append((int(replicate), str(run_key)))
        return found

    @cached_property
    def training_images(self) -> Mapping[str, int]:
        """cell_key -> how many images its runs trained on, where that is known."""
        if "data.train" not in self.done:
            return {}
        known = self.done.dropna(subset=["data.train"]).drop_duplicates("cell_key")
        pairs = zip(known["cell_key"], known["data.train"], strict=True)
        return {str(cell): int(float(number)) for cell, number in pairs}

    def has(self, metric: str) -> bool:
        """Tell whether a run has a metric, or all of those that are added and subtracted."""
        names = parse_metric(metric)
        return all(name in self.done and self.done[name].notna().any() for name in names)

    def values(self, metric: str) -> Mapping[str, Values]:
        """Return cell_key -> replicate -> value of a metric, or of a sum or difference of some."""
        if metric not in self._values:
            total = sum(self.runs[name] * sign for name, sign in parse_metric(metric).items())
            columns = ["cell_key", "seed", "state", *{self.unit} - {"seed"}]
            runs = self.runs[columns].assign(**{metric: total})
            found = seed_values(runs, [metric])
            self._values[metric] = {cell: values for (cell, _), values in found.items()}
        return self._values[metric]

    def of_report(self, metric: str, margin: float) -> ByCells:
        """Return the contrasts of the sweep's report in a metric, judged at a margin.

        (cell, against) -> its one test: in the family of what the sweep declared, else in that of
        all cells with their baselines.
        """
        if (metric, margin) not in self._tests:
            found = self._tested(metric, margin)
            self._tests[metric, margin] = found or self._tested_anew(metric, margin)
        return self._tests[metric, margin]

    def _tested(self, metric: str, margin: float) -> ByCells:
        """Return what the comparison has of a metric at this margin."""
        known = [
            one for one in self.comparison.metrics if (one.key, one.margin) == (metric, margin)
        ]
        if not known:
            return {}
        found = self.comparison.of_metric(metric).values()
        declared = self.comparison.declared
        of_question = declared.by_cells if declared and declared.metric.key == metric else {}
        return {**{(one.cell, one.against): one for one in found}, **of_question}

    def _tested_anew(self, metric: str, margin: float) -> ByCells:
        """Judge the same contrasts at another margin, or in a metric that the tables don't have."""
        compared = self.comparison
        values = {(cell, metric): of for cell, of in self.values(metric).items()}
        tested = Metric(metric, metric, percent=True, better=1, margin=margin)
        declared = compared.declared
        if declared is not None and declared.metric.key == metric:
            asked = metric_of(metric, {metric: margin})
            declared = declare(declared.question, compared.cells, values, asked, self.unit)
        found = compare_metric(compared.cells, values, tested, self.unit, declared)
        return {(one.cell, one.against): one for one in found}

    @cached_property
    def _values(self) -> dict[str, Mapping[str, Values]]:
        return {}

    @cached_property
    def _tests(self) -> dict[tuple[str, float], ByCells]:
        return {}


def published(folder: Path) -> list[Path]:
    """Return the published reports in a folder: itself, or those right below it.

    Below it those are left out that uncommitted code made, as nobody can make them again:
    `irreproducible` names them.

    Raises:
        UserError: There is none.
    """
    if (folder / RUNS).is_file():
        return [folder]
    left_out = irreproducible(folder)
    found = [one for one in _below(folder) if one not in left_out]
    if not found:
        raise UserError(f"{str(folder)!r}: expected a folder with {RUNS}, or a folder of such")
    return found


def irreproducible(folder: Path) -> list[Path]:
    """Return the reports right below a folder that were made from uncommitted code."""
    return [one for one in _below(folder) if _is_of_uncommitted_code(one / RUNS)]


def _below(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob(f"*/{RUNS}")) if folder.is_dir() else []


def _is_of_uncommitted_code(path: Path) -> bool:
    try:
        runs = pd.read_csv(path, usecols=lambda name: name == COMMIT, dtype=str)
    except (OSError, ValueError):
        return False  # reading it says what is wrong with it
    return COMMIT in runs and bool(runs[COMMIT].str.endswith(CHANGED, na=False).any())


def of_published(folder: Path) -> Study:
    """Read a published report: the runs in runs.csv, and what was declared in verdicts.json."""
    source = open_source(folder / RUNS)
    asked = _asked(folder / VERDICTS)
    try:
        question = questions.read(asked)
    except UserError as error:
        raise UserError(f"{folder / VERDICTS}: {error}") from None
    comparison = compare(source.cells, source.runs, asked.get("baseline"), question=question)
    return Study(folder.name, comparison, source.runs)


def _asked(path: Path) -> Mapping[str, Any]:
    """Return the question and the baseline of a published report, as far as it says."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON: {first_line(error)}") from None
    return content if isinstance(content, dict) else {}
