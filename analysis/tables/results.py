"""`mixbench.load_results`: the results of sweeps as tidy pandas frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.tables.parquet import tidy
from mixbench.analysis.tables.sources import Source, open_source
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder

_KEYS = ("sweep", "run_key", "cell_key", "label", "replicate", "seed")


@dataclass(frozen=True)
class Results:
    """The results of one sweep or several, one type in every column.

    Attributes:
        sweeps: Their names.
        runs: One row per planned run: sweep, run_key, cell_key, label, replicate (where there
            are any), seed, state, failure, the settings as dotted columns such as
            "augmentation.alpha", and every metric under its name, such as "test/accuracy" (NaN
            where the run has none).

    Examples:
        >>> results = load_results("demo", "staging")                     # doctest: +SKIP
        >>> done = results.runs.query("state == 'done'")                  # doctest: +SKIP
        >>> done.groupby(["sweep", "label"])["test/accuracy"].mean()      # doctest: +SKIP
    """

    sweeps: tuple[str, ...]
    runs: pd.DataFrame
    _sources: tuple[Source, ...]

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """One row per epoch of each run: the keys of `runs`, epoch (1 is the first), its metrics.

        Read when it is first asked for. Empty for published tables, which hold no epochs.
        """
        return self._of_runs(
            lambda run: [row for row in run.folder.metrics() if is_number(row.get("epoch"))],
            ("epoch",),
        )

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """One row per metric of each measurement of `mixbench evaluate`.

        The keys of `runs`, measurement (such as "corruption"), metric, value. Read when it is
        first asked for. Empty for published tables, whose `runs` have these metrics as columns.
        """
        return self._of_runs(_measured, ("measurement", "metric", "value"))

    def _of_runs(
        self, rows_of: Callable[[PlannedRun], Iterable[dict[str, Any]]], columns: Sequence[str]
    ) -> pd.DataFrame:
        rows = []
        for source in self._sources:
            known = {run.run_key: run for run in source.folder.plan()} if source.folder else {}
            kept = [key for key in _KEYS if key in source.runs]
            begun = source.runs[source.runs["state"] != RunState.WAITING]
            for about in begun[kept].to_dict("records"):
                run = known.get(str(about["run_key"]))
                if run is not None:
                    head = {"sweep": source.name, **about}
                    rows += [{**head, **row} for row in rows_of(run)]
        names = dict.fromkeys(name for row in rows for name in row)
        return pd.DataFrame(rows, columns=list(names or [*_KEYS, *columns]))


def load_results(*sweeps: str | Path | SweepFolder) -> Results:
    """Return the results of sweeps, finished or not, as pandas frames.

    Args:
        sweeps: Names of sweeps below the runs folder (`$MIXBENCH_RUNS`, or `runs`), paths of
            sweep folders, or of published reports with their `runs.csv`. None: all sweeps of the
            runs folder.

    Returns:
        The runs, and, read when they are asked for, their epochs and measurements.

    Raises:
        UserError: There is no such sweep, or none at all.

    Examples:
        >>> from mixbench import load_results
        >>> load_results("demo").runs.to_parquet("demo.parquet")          # doctest: +SKIP
    """
    sources = tuple(map(open_source, sweeps or SweepFolder.names()))
    if not sources:
        raise UserError("there is no sweep in the runs folder; name one")
    frames = [source.runs.assign(sweep=source.name) for source in sources]
    runs = pd.concat([frame.astype(object) for frame in frames]) if len(frames) > 1 else frames[0]
    first = [name for name in _KEYS if name in runs]
    runs = runs[[*first, *(name for name in runs.columns if name not in first)]]
    runs = tidy(runs.reset_index(drop=True))
    metrics = dict.fromkeys(name for source in sources for name in source.metric_columns)
    runs = runs.astype(dict.fromkeys(metrics, "float64"))
    return Results(tuple(source.name for source in sources), runs, sources)


def _measured(run: PlannedRun) -> Iterable[dict[str, Any]]:
    for name, measurement in evaluations.read(run.folder).items():
        for metric, value in (measurement.get("metrics") or {}).items():
            known = float(value) if is_number(value) else float("nan")
            yield {"measurement": name, "metric": metric, "value": known}
