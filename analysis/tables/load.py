"""A sweep folder as tidy tables: one row per planned run, per cell, and per point of a curve."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.tables import tuned
from mixbench.analysis.tables.labels import name_cells, origins_of, plan_labels, settings
from mixbench.analysis.tables.plugins import PluginUse, plugin_uses
from mixbench.analysis.tables.schedules import PHASES
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import evaluations, take_over
from mixbench.experiments.store.choices import TUNING
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line

STATES = tuple(map(str, (RunState.DONE, RunState.FAILED, RunState.RUNNING, RunState.WAITING)))
STOPPED = "stopped"
"""The state of a tuning run that was stopped early, because others did better."""
_EXTRAS = {"dataset": "data", "provenance": "provenance", "timing": "timing"}
_PLACES = ("source", "unlabelled_source")
_HOME = re.compile(r"^(/home/[^/]+|/Users/[^/]+|/roo[t])(?=/)")
"""Readers find the data again in their own home."""


NOISE = ("mix", "batch", "signal", "norm")
"""Of `train/gradient_noise/...`, in the rows of epochs."""


@dataclass(frozen=True)
class Tables:
    """The tables of one sweep.

    runs: one row per planned run, in plan order: run_key, cell_key, label, (replicate,) seed,
        state, failure (its first line), every field of the configuration as a dotted column
        (object dtype, so that 2000 stays 2000 beside a missing value), every metric under its own
        name (float64), data.*, provenance.* and timing.*; origin.* of runs that were taken over.
    cells: one row per cell, in plan order: cell_key, label, method, group, planned, one count per
        state, and the configuration without the seed.
    occlusion: cell_key, run_key, seed, shape, point (position on the curve), fraction, accuracy.
    reliability: cell_key, run_key, seed, bin, low, high, count, confidence, accuracy.
    mixing: what was mixed in each epoch of the runs with a schedule: cell_key, run_key, seed, epoch
        (1 is the first), prob, lambda, area (NaN where nothing is known).
    noise: gradient noise by epoch, of the runs with `training.gradient_noise`: cell_key, run_key,
        seed, epoch, mix, batch, signal, norm.
    pretraining: rows as in `runs`, of the runs that are there only because others start from their
        weights; no other table has them.
    tuning: rows as in `runs`, of the runs that are there only to choose the settings of others; no
        other table has them.
    origins: cell_key -> what a cell is called that others start from.
    plugins: the plug-ins of the finished runs, pretraining runs included.
    """

    runs: pd.DataFrame
    cells: pd.DataFrame
    occlusion: pd.DataFrame
    reliability: pd.DataFrame
    mixing: pd.DataFrame
    pretraining: pd.DataFrame
    origins: Mapping[str, str]
    config_columns: tuple[str, ...]
    metric_columns: tuple[str, ...]
    classes: tuple[str, ...]
    plugins: tuple[PluginUse, ...] = ()
    tuning: pd.DataFrame = field(default_factory=pd.DataFrame)
    noise: pd.DataFrame = field(default_factory=pd.DataFrame)


def load(folder: SweepFolder) -> Tables:
    """Return the tables of a sweep, finished or not; UserError if it plans no run."""
    plan = folder.plan()
    if not plan:
        raise UserError(f"sweep {folder.name!r}: plan.jsonl holds no run")
    # A failure that an older attempt left behind does not undo a result.
    results = {run.run_key: evaluations.measured(run.folder) for run in plan}
    flat = settings(tuned.of_run(run) for run in plan)
    configs = dict(zip((run.run_key for run in plan), flat, strict=True))
    of_cells = configs
    if any(run.tune is not None for run in plan):
        flat = settings(tuned.of_cell(run) for run in plan)
        of_cells = dict(zip((run.run_key for run in plan), flat, strict=True))
    origins = origins_of({run.cell_key: run.config for run in plan})
    # A sweep of pretrainings alone is about them.
    compared = [run for run in plan if tuned.is_compared(run)]
    needed_only = [run for run in plan if run.pretraining] if compared else []
    tuning = [run for run in plan if run.part == TUNING]
    plan = compared or plan
    config_columns = tuple(
        dict.fromkeys(key for run in plan for key in configs[run.run_key] if key != "seed")
    )
    metric_columns = tuple(
        dict.fromkeys(name for run in plan for name in _section(results[run.run_key], "metrics"))
    )
    cells = _cells(plan, of_cells, origins)
    names = dict(zip(cells["cell_key"], cells["label"], strict=True))
    runs = _runs(plan, names, configs, results, config_columns, metric_columns)
    before = _cells(needed_only, of_cells, origins)
    others = dict(zip(before["cell_key"], before["label"], strict=True))
    pretraining = _runs(needed_only, others, configs, results, config_columns, metric_columns)
    tried = plan_labels(tuning)
    all_names = {**tried, **others, **names}
    curves = [(run, result) for run in plan if (result := results[run.run_key])]
    staged = [run for run, _ in curves if configs[run.run_key].get(PHASES)]
    return Tables(
        runs=runs,
        cells=pd.concat([cells, _state_counts(runs, cells)], axis=1),
        occlusion=_points(
            [{**_keys(run), **row} for run, result in curves for row in occlusion_rows(result)],
            ("shape", "point", "fraction", "accuracy"),
        ),
        reliability=_points(
            [{**_keys(run), **row} for run, result in curves for row in reliability_rows(result)],
            ("bin", "low", "high", "count", "confidence", "accuracy"),
        ),
        mixing=_points(
            [row for run in staged for row in _mixing(run)], ("epoch", "prob", "lambda", "area")
        ),
        pretraining=pretraining,
        origins=origins,
        config_columns=config_columns,
        metric_columns=metric_columns,
        classes=_classes(results[run.run_key] for run in plan),
        plugins=plugin_uses([*plan, *needed_only, *tuning], results, all_names),
        tuning=_runs(tuning, tried, configs, results, config_columns, metric_columns),
        noise=_points([row for run, _ in curves for row in _noise(run)], ("epoch", *NOISE)),
    )


def cells_of(configs: Mapping[str, Mapping[str, Any]], compared: Collection[str]) -> pd.DataFrame:
    """Return the table of cells without any run: cell_key, label, method, group, configuration.

    configs: cell_key -> the configuration of one of its runs. compared: the cells to return.
    """
    flat = dict(zip(configs, settings(configs.values()), strict=True))
    return _described({key: flat[key] for key in configs if key in compared}, origins_of(configs))


def _state_counts(runs: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    counts = pd.crosstab(runs["cell_key"], runs["state"]).reindex(columns=list(STATES))
    counts = counts.reindex(cells["cell_key"]).fillna(0).astype(int).reset_index(drop=True)
    counts.columns.name = None
    return counts


def _points(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["cell_key", "run_key", "seed", *columns])


def _runs(
    plan: list[PlannedRun],
    names: Mapping[str, str],
    configs: Mapping[str, dict[str, Any]],
    results: Mapping[str, Mapping[str, Any] | None],
    config_columns: tuple[str, ...],
    metric_columns: tuple[str, ...],
) -> pd.DataFrame:
    rows = [_row(run, results[run.run_key], names[run.cell_key]) for run in plan]
    parts = [pd.DataFrame(rows)]
    # A cell has the split seed of the sweep, its runs have their own.
    own = [_with_split_seed(configs[run.run_key], run) for run in plan]
    parts.append(_frame(own, config_columns, object))
    metrics = [
        {key: _number(value) for key, value in _section(results[run.run_key], "metrics").items()}
        for run in plan
    ]
    parts.append(_frame(metrics, metric_columns, "float64"))
    extras = [_extras(results[run.run_key]) | _origin(run) for run in plan]
    parts.append(_frame(extras, tuple(dict.fromkeys(k for row in extras for k in row)), object))
    return pd.concat(parts, axis=1)


def occlusion_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the occlusion curves of one result: shape, point, fraction, accuracy."""
    rows = []
    for shape, curve in _section(_section(result, "curves"), "occlusion").items():
        pairs = zip(curve["fraction"], curve["accuracy"], strict=True)
        for point, (fraction, accuracy) in enumerate(pairs):
            if is_number(fraction) and is_number(accuracy):
                rows.append(
                    {"shape": shape, "point": point, "fraction": fraction, "accuracy": accuracy}
                )
    return rows


def reliability_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the reliability bins of one result, with NaN for accuracy where a bin is empty."""
    curve = _section(_section(result, "curves"), "reliability")
    if not curve:
        return []
    edges = curve["edges"]
    columns = zip(curve["count"], curve["confidence"], curve["accuracy"], strict=True)
    return [
        {
            "bin": number,
            "low": edges[number],
            "high": edges[number + 1],
            "count": int(count),
            "confidence": _number(confidence),
            "accuracy": _number(accuracy),
        }
        for number, (count, confidence, accuracy) in enumerate(columns)
    ]


def _cells(
    plan: list[PlannedRun], configs: Mapping[str, dict[str, Any]], origins: Mapping[str, str]
) -> pd.DataFrame:
    first: dict[str, PlannedRun] = {}
    planned: dict[str, int] = {}
    for run in plan:
        first.setdefault(run.cell_key, run)
        planned[run.cell_key] = planned.get(run.cell_key, 0) + 1
    cells = _described({key: configs[run.run_key] for key, run in first.items()}, origins)
    cells.insert(4, "planned", [planned[key] for key in first])
    return cells


def _described(
    configs: Mapping[str, Mapping[str, Any]], origins: Mapping[str, str]
) -> pd.DataFrame:
    """Return a row per cell: its key, its names and its flattened configuration."""
    flat = [
        {key: value for key, value in config.items() if key != "seed"}
        for config in configs.values()
    ]
    labels = name_cells(flat, origins)
    columns = tuple(dict.fromkeys(key for config in flat for key in config))
    head = pd.DataFrame(
        {
            "cell_key": list(configs),
            "label": [label.text for label in labels],
            "method": [label.method for label in labels],
            "group": [label.group for label in labels],
        }
    )
    return pd.concat([head, _frame(flat, columns, object)], axis=1)


def _row(run: PlannedRun, result: Mapping[str, Any] | None, label: str) -> dict[str, Any]:
    state: str = run.folder.state()
    failure = ""
    if run.stopped_at is not None and result is None:
        state = STOPPED
    elif state == RunState.DONE and result is None:
        state = RunState.FAILED
        failure = "result.json cannot be read as JSON, or is of another run"
    else:
        failure = _failure(run) if state == RunState.FAILED else ""
    epochs = run.config.get("training", {}).get("epochs")
    rows = run.folder.metrics() if state in (RunState.RUNNING, STOPPED) else []
    done = rows[-1].get("epoch") if rows else None
    return {
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "label": label,
        **_draw(run),
        "state": str(state),
        "failure": failure,
        "progress": f"epoch {done} of {epochs}" if done is not None else "",
    }


def _failure(run: PlannedRun) -> str:
    return first_line((run.folder.failure() or {}).get("error")) or "no error was recorded"


def _section(result: Mapping[str, Any] | None, name: str) -> Mapping[str, Any]:
    section = (result or {}).get(name)
    return section if isinstance(section, Mapping) else {}


def _number(value: Any) -> float:
    return float(value) if is_number(value) else float("nan")


def _frame(rows: list[dict[str, Any]], columns: tuple[str, ...], dtype: Any) -> pd.DataFrame:
    missing = None if dtype is object else float("nan")
    data = {
        column: pd.Series([row.get(column, missing) for row in rows], dtype=dtype)
        for column in columns
    }
    return pd.DataFrame(data, index=range(len(rows)))


def _extras(result: Mapping[str, Any] | None) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    # "dataset.name" is what the configuration asks for; what was loaded is "data.name".
    for section, prefix in _EXTRAS.items():
        for key, value in _section(result, section).items():
            if key == "classes":
                extras[f"{prefix}.classes"] = len(value)
            else:
                is_plain = value is None or isinstance(value, str | int | float)
                shown = value if is_plain else json.dumps(value)
                is_place = key in _PLACES and isinstance(shown, str)
                extras[f"{prefix}.{key}"] = _HOME.sub("~", str(shown)) if is_place else shown
    return extras


def _origin(run: PlannedRun) -> dict[str, Any]:
    """Return the sweep that a finished run was taken over from, and when."""
    origin = take_over.origin(run.folder) or {}
    return {f"origin.{key}": origin[key] for key in ("sweep", "time") if key in origin}


def _classes(results: Iterable[Mapping[str, Any] | None]) -> tuple[str, ...]:
    for result in results:
        classes = _section(result, "dataset").get("classes")
        if isinstance(classes, list) and classes:
            return tuple(map(str, classes))
    return ()


def _mixing(run: PlannedRun) -> list[dict[str, Any]]:
    return [
        {
            **_keys(run),
            "epoch": int(row["epoch"]),
            **{name: _number(row.get(f"mix/{name}")) for name in ("prob", "lambda", "area")},
        }
        for row in run.folder.metrics()
        if is_number(row.get("epoch"))
    ]


def _noise(run: PlannedRun) -> list[dict[str, Any]]:
    if not run.config.get("training", {}).get("gradient_noise"):
        return []
    found = [
        {"epoch": row.get("epoch"), **{n: row.get(f"train/gradient_noise/{n}") for n in NOISE}}
        for row in run.folder.metrics()
    ]
    return [{**_keys(run), **row} for row in found if all(map(is_number, row.values()))]


def _keys(run: PlannedRun) -> dict[str, Any]:
    return {"cell_key": run.cell_key, "run_key": run.run_key, "seed": run.config["seed"]}


def _with_split_seed(config: dict[str, Any], run: PlannedRun) -> dict[str, Any]:
    if run.config.get("replicate") is None:
        return config
    return {**config, "dataset.split_seed": run.config["dataset"]["split_seed"]}


def _draw(run: PlannedRun) -> dict[str, int]:
    """Return the seed, and the replicate in a sweep that has replicates."""
    replicate = run.config.get("replicate")
    drawn = {} if replicate is None else {"replicate": replicate}
    return {**drawn, "seed": run.config["seed"]}
