"""Compare the cells of a sweep with their baselines, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.baselines import Baseline, assign_baselines
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.blocks import blocks, with_blocks
from mixbench.analysis.statistics.contrasts import Contrast, Stratum
from mixbench.analysis.statistics.declared import ByMetric, Declared, declare
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.metrics import (
    ACCURACY,
    Metric,
    headline_of,
    metric_of,
    metrics_of,
)
from mixbench.analysis.statistics.units import REPLICATE, overlap_of, unit_of
from mixbench.experiments.design.question import Question
from mixbench.experiments.store.states import RunState

ALL = "all"
"""The stratum of a sweep whose cells are all compared with each other."""


@dataclass(frozen=True)
class Comparison:
    """The cells of a sweep, and how they differ from their baselines.

    Attributes:
        cells: The cells with four more columns: baseline_key (None where there is none), block
            (cells that are compared with each other share it), title (what the cells of a block
            have in common) and series (the name within the block, which figures colour by).
        metrics: Those that any run has, in the order of the tables.
        estimates: (cell_key, metric key) -> mean and interval over seeds.
        differences: (cell_key, metric key) -> paired difference to the baseline cell, with
            simultaneous intervals: a family is one metric over all comparisons of the sweep.
            What is declared is tested in the family of the declared contrasts.
        unit: What is paired between cells: "seed" or "replicate".
        best: block -> cell_keys that can't be told apart from the best in the primary metric.
        note: Why there is nothing to compare, empty otherwise.
        declared: The contrasts that the sweep's question declares; None without a question.
        headline: The metric of the sweep's task that leads where no question names another.
    """

    cells: pd.DataFrame
    metrics: tuple[Metric, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str], Contrast]
    best: Mapping[int, Sequence[str]]
    note: str
    unit: str = "seed"
    declared: Declared | None = None
    headline: Metric = ACCURACY

    @property
    def primary(self) -> Metric:
        """The metric that the sweep was made to compare: the task's own without a question."""
        return self.headline if self.declared is None else self.declared.metric

    def is_declared(self, contrast: Contrast, metric: str) -> bool:
        """Tell whether a contrast on a metric is one that the sweep was made for.

        Without a question, that is every difference to the baseline in the headline metric.
        """
        if self.declared is None:
            return metric == self.headline.key
        pair = (contrast.cell, contrast.against)
        return metric == self.declared.metric.key and pair in self.declared.by_cells

    @property
    def has_baseline(self) -> bool:
        """Tell whether any cell is compared with another."""
        return bool(self.differences)

    def of_metric(self, key: str) -> dict[str, Contrast]:
        """Return cell_key -> difference for one metric."""
        return {cell: value for (cell, name), value in self.differences.items() if name == key}


def compare(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    spec_baseline: Baseline = None,
    baseline: Baseline = None,
    question: Question | None = None,
    planned: int | None = None,
) -> Comparison:
    """Estimate every cell, and its difference to its baseline.

    Differences are paired by seed, and only cells that are alike in everything but the baseline's
    fields are compared.

    Args:
        cells: One row per cell, as `mixbench.analysis.tables.load.load` makes them.
        runs: One row per run: cell_key, seed, state, and metrics as columns.
        spec_baseline: The sweep's own baseline; without one, augmentation "none".
        baseline: Goes before `spec_baseline`. A text "none" means {"augmentation.name": "none"},
            a text "key=value,key=value" the mapping.
        question: What the sweep declared before it ran.
        planned: Give what could be detected with so many replicates, instead of those there are.

    Returns:
        The comparison of all finished runs.

    Raises:
        UserError: `baseline` fits no cell, or several that would serve one cell.
    """
    margins = question.margins if question else None
    metrics, headline = metrics_of(runs, margins), headline_of(runs, margins)
    assigned, note = assign_baselines(cells, spec_baseline, baseline)
    asked = assigned if baseline is None else assign_baselines(cells, spec_baseline, None)[0]
    of_question = with_blocks(cells, asked)
    cells = with_blocks(cells, assigned)
    values = seed_values(runs, [metric.key for metric in metrics])
    unit = unit_of(runs)
    declared = None
    if question is not None:
        metric = metric_of(question.metric, question.margins, runs)
        declared = declare(question, of_question, values, metric, unit, planned)
    estimates = {
        (cell, metric.key): estimate(
            list(values.get((cell, metric.key), {}).values()), overlap=overlap_of(unit)
        )
        for cell in cells["cell_key"]
        for metric in metrics
    }
    differences = {
        (contrast.cell, metric.key): contrast
        for metric in metrics
        for contrast in compare_metric(cells, values, metric, unit, declared)
    }
    if not differences and not note:
        note = "every cell is its own baseline; another can be named with --baseline"
    primary = declared.metric if declared else headline
    best = _best(cells, values, primary, unit)
    return Comparison(cells, metrics, estimates, differences, best, note, unit, declared, headline)


def compare_metric(
    cells: pd.DataFrame,
    values: Mapping[tuple[str, str], Mapping[int, float | None]],
    metric: Metric,
    unit: str,
    declared: Declared | None = None,
) -> list[Contrast]:
    """Compare every cell with its baseline on one metric: one family over all blocks.

    What is declared has its test already, in the family of the declared contrasts.

    Args:
        cells: Those of a `Comparison`.
        values: (cell_key, metric key) -> seed -> value.
        metric: What is compared.
        unit: What is paired, see `Comparison`.
        declared: The declared contrasts, maybe of another metric.
    """
    known = declared.by_cells if declared and declared.metric.key == metric.key else {}
    tested, strata = [], []
    for title, members in blocks(cells):
        pairs = [
            (str(cell), base)
            for cell, base in zip(members["cell_key"], members["baseline_key"], strict=True)
            if isinstance(base, str) and base != cell
        ]
        tested += [known[pair] for pair in pairs if pair in known]
        pairs = [pair for pair in pairs if pair not in known]
        of_block = {key: values.get((key, metric.key), {}) for pair in pairs for key in pair}
        strata.append(Stratum(title or ALL, of_block, pairs))
    rest = contrasts.compare(strata, better=metric.better, margin=metric.margin, unit=unit)
    return [*tested, *rest]


def _best(cells: pd.DataFrame, values: ByMetric, metric: Metric, unit: str) -> dict[int, list[str]]:
    return {
        int(str(block)): best_set(
            {str(key): values.get((str(key), metric.key), {}) for key in members["cell_key"]},
            metric.better,
            unit=unit,
        )
        for block, members in cells.groupby("block", sort=False)
    }


def seed_values(
    runs: pd.DataFrame, keys: list[str]
) -> dict[tuple[str, str], dict[int, float | None]]:
    """Return the metrics of the finished runs by cell and seed, or by cell and replicate.

    Args:
        runs: One row per run: cell_key, (replicate,) seed, state, and metrics as columns.
        keys: The metrics.

    Returns:
        (cell_key, metric) -> seed -> value (NaN where the run has none). In a sweep with
        replicates -> replicate -> mean over the seeds that all cells have in it.

    Examples:
        >>> runs = pd.DataFrame({
        ...     "cell_key": ["a", "a"], "seed": [0, 1], "state": ["done", "failed"],
        ...     "test/accuracy": [0.8, None],
        ... })
        >>> seed_values(runs, ["test/accuracy"])
        {('a', 'test/accuracy'): {0: 0.8}}
    """
    done = runs[runs["state"] == RunState.DONE]
    values: dict[tuple[str, str], dict[int, float | None]] = {
        (str(cell), key): {} for cell in done["cell_key"].unique() for key in keys
    }
    if REPLICATE not in runs:
        drawn, columns = done["seed"], done
    else:
        columns = _crossed_alike(done).groupby(["cell_key", REPLICATE])[keys].mean().reset_index()
        drawn = columns[REPLICATE]
    cells = columns["cell_key"].map(str)
    for key in keys:
        for cell, number, value in zip(cells, drawn, columns[key], strict=True):
            values[cell, key][number] = value
    return values


def crossed_values(runs: pd.DataFrame, key: str) -> dict[str, dict[tuple[int, int], float]]:
    """Return a metric of the finished runs by cell, replicate and seed.

    Args:
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.
        key: The metric.

    Returns:
        cell_key -> (replicate, seed) -> value; empty in a sweep without replicates.
    """
    values: dict[str, dict[tuple[int, int], float]] = {}
    if REPLICATE in runs and key in runs:
        done = runs[runs["state"] == RunState.DONE].dropna(subset=[key])
        columns = (done[name] for name in ("cell_key", REPLICATE, "seed", key))
        for cell, replicate, seed, value in zip(*columns, strict=True):
            values.setdefault(str(cell), {})[int(replicate), int(seed)] = float(value)
    return values


def _crossed_alike(done: pd.DataFrame) -> pd.DataFrame:
    """Keep the seeds that all cells have in a replicate: means over others would not be pairs."""
    cells = done.groupby(REPLICATE)["cell_key"].transform("nunique")
    have = done.groupby([REPLICATE, "seed"])["cell_key"].transform("nunique")
    shared = have == cells
    # Where no seed is shared by all, take what is there.
    has_shared = shared.groupby(done[REPLICATE]).transform("any")
    return done[shared | ~has_shared]
