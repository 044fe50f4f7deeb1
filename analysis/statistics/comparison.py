"""Compare the cells of a sweep with their baselines, metric by metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from mixbench.analysis.statistics import tests
from mixbench.analysis.statistics.baselines import Baseline, assign_baselines
from mixbench.analysis.statistics.metrics import Metric, metrics_of
from mixbench.analysis.statistics.tests import Difference, Estimate
from mixbench.analysis.tables.labels import JOIN
from mixbench.experiments.store.states import RunState


@dataclass(frozen=True)
class Comparison:
    """The cells of a sweep, and how they differ from their baselines.

    Attributes:
        cells: The cells with four more columns: baseline_key (None where there is none), block
            (cells that are compared with each other share it), title (what the cells of a block
            have in common) and series (the name within the block, which figures colour by).
        metrics: Those that any run has, in the order of the tables.
        estimates: (cell_key, metric key) -> mean and interval over seeds.
        differences: (cell_key, metric key) -> paired difference to the baseline cell. The family
            of Holm's correction is one metric over all comparisons of the sweep.
        note: Why there is nothing to compare, empty otherwise.
    """

    cells: pd.DataFrame
    metrics: tuple[Metric, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str], Difference]
    note: str

    @property
    def has_baseline(self) -> bool:
        """Tell whether any cell is compared with another."""
        return bool(self.differences)

    def of_metric(self, key: str) -> dict[str, Difference]:
        """Return cell_key -> difference for one metric."""
        return {cell: value for (cell, name), value in self.differences.items() if name == key}


def compare(
    cells: pd.DataFrame,
    runs: pd.DataFrame,
    spec_baseline: Baseline = None,
    baseline: Baseline = None,
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

    Returns:
        The comparison of all finished runs.

    Raises:
        UserError: `baseline` fits no cell, or several that would serve one cell.
    """
    metrics = metrics_of(runs)
    assigned, note = assign_baselines(cells, spec_baseline, baseline)
    cells = _with_blocks(cells, assigned)
    values = seed_values(runs, [metric.key for metric in metrics])
    estimates = {
        (cell, metric.key): tests.estimate(list(values.get((cell, metric.key), {}).values()))
        for cell in cells["cell_key"]
        for metric in metrics
    }
    differences: dict[tuple[str, str], Difference] = {}
    for metric in metrics:
        family = {
            (cell, metric.key): (
                values.get((cell, metric.key), {}),
                values.get((base, metric.key), {}),
            )
            for cell, base in assigned.items()
            if base is not None and base != cell
        }
        differences |= tests.compare_family(family)
    if not differences and not note:
        note = "every cell is its own baseline; another can be named with --baseline"
    return Comparison(cells, metrics, estimates, differences, note)


def seed_values(
    runs: pd.DataFrame, keys: list[str]
) -> dict[tuple[str, str], dict[int, float | None]]:
    """Return the metrics of the finished runs by cell and seed.

    Args:
        runs: One row per run: cell_key, seed, state, and metrics as columns.
        keys: The metrics.

    Returns:
        (cell_key, metric) -> seed -> value (NaN where the run has none).

    Examples:
        >>> runs = pd.DataFrame({
        ...     "cell_key": ["a", "a"], "seed": [0, 1], "state": ["done", "failed"],
        ...     "test/accuracy": [0.8, None],
        ... })
        >>> seed_values(runs, ["test/accuracy"])
        {('a', 'test/accuracy'): {0: 0.8}}
    """
    return {
        (str(cell), key): dict(zip(rows["seed"], rows[key], strict=True))
        for cell, rows in runs[runs["state"] == RunState.DONE].groupby("cell_key")
        for key in keys
    }


def blocks(cells: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Group cells that are compared with each other.

    Args:
        cells: Those of a `Comparison`.

    Returns:
        (what the cells of a block have in common, its cells); the first is empty where there is
        one block only.
    """
    groups = [members for _, members in cells.groupby("block", sort=False)]
    if len(groups) == 1:
        return [("", groups[0])]
    # Without a name of its own a block would seem to belong to the one above it.
    return [(members["title"].iloc[0] or "others", members) for members in groups]


def _with_blocks(cells: pd.DataFrame, assigned: Mapping[str, str | None]) -> pd.DataFrame:
    cells = cells.copy()
    cells["baseline_key"] = pd.Series([assigned[key] for key in cells["cell_key"]], dtype=object)
    if not any(assigned.values()) and cells["method"].nunique() == 1:
        cells["block"] = 0  # one method in several settings, without a baseline: side by side
    else:
        pairs = zip(cells["cell_key"], cells["group"], strict=True)
        roots = [assigned[cell] or f"group {group}" for cell, group in pairs]
        cells["block"] = pd.factorize(pd.Series(roots, dtype=object))[0]
    parts = [[part for part in group.split(JOIN) if part] for group in cells["group"]]
    shared: dict[int, list[str]] = {}
    for block, names in zip(cells["block"], parts, strict=True):
        shared[block] = [part for part in shared.get(block, names) if part in names]
    titles = [shared[block] for block in cells["block"]]
    cells["title"] = [JOIN.join(title) for title in titles]
    columns = zip(cells["method"], cells["label"], parts, titles, strict=True)
    cells["series"] = [
        JOIN.join([method, *(part for part in names if part not in title)]) if method else label
        for method, label, names, title in columns
    ]
    return cells
