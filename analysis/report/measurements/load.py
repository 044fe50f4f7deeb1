"""Read the results of `mixbench evaluate` for the finished runs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.report.measurements import catalogue
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder


@dataclass(frozen=True)
class Measured:
    """One measurement. results: run_key -> its file; failed: run_key -> error.

    left_out: run_key -> why that run's network can't be measured.
    """

    name: str
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> list[str]:
        """All its metrics that have a value in any run."""
        values = [item for result in self.results.values() for item in metrics_of(result).items()]
        return list(dict.fromkeys(key for key, value in values if is_number(value)))

    @property
    def changed(self) -> dict[str, Any]:
        """The settings that were no defaults in the latest result, as `--set` takes them."""
        latest = max(
            self.results.values(),
            key=lambda result: (result.get("provenance") or {}).get("finished", 0.0),
            default={},
        )
        return {f"{self.name}.{key}": value for key, value in (latest.get("changed") or {}).items()}


def load_measured(folder: SweepFolder, runs: pd.DataFrame) -> tuple[Measured, ...]:
    """Return the measurements of the finished runs; empty if there are none."""
    done = set(runs.loc[runs["state"] == RunState.DONE, "run_key"])
    measured: dict[str, Measured] = {}
    for run in folder.plan():
        if run.run_key in done:
            for name, result in evaluations.read(run.folder).items():
                measured.setdefault(name, Measured(name)).results[run.run_key] = result
            for name, error in evaluations.failures(run.folder).items():
                measured.setdefault(name, Measured(name)).failed[run.run_key] = error
            for name, reason in evaluations.left_out(run.folder).items():
                measured.setdefault(name, Measured(name)).left_out[run.run_key] = reason
    return tuple(measured[name] for name in sorted(measured, key=_order))


def metrics_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the metrics in the file of a measurement."""
    return result.get("metrics") or {}


def curves_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the curves in the file of a measurement."""
    return result.get("curves") or {}


def _order(name: str) -> tuple[int, str]:
    known = catalogue.names()
    return (known.index(name) if name in known else len(known), name)
