"""What the run folders say, in MLflow's terms. Reads folders; knows nothing of a store."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mixbench.experiments.store import evaluations
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking import sections

ABSENT = "-"
"""The value of a parameter that a method does not have: MLflow's filters and its grouping drop
runs that lack a parameter, so every run has all of them."""

MAX_PARAM, MAX_TAG, MAX_NAME = 6000, 8000, 250
FIGURES = "figures"
_NOT_METRICS = ("step", "time")
_INVALID = re.compile(r"[^\w\-. :/]", re.ASCII)
_STATUS = {
    RunState.DONE: "FINISHED",
    RunState.FAILED: "FAILED",
    RunState.RUNNING: "RUNNING",
    RunState.WAITING: "KILLED",
}


class Point(NamedTuple):
    """One value of one metric. `timestamp` in milliseconds."""

    key: str
    value: float
    timestamp: int
    step: int


class DatasetUse(NamedTuple):
    """One split of a data set as an input of a run. `profile` and `source` are JSON."""

    context: str
    name: str
    digest: str
    source: str
    profile: str


@dataclass(frozen=True)
class Record:
    """All that MLflow is to hold of one run, or of the sweep itself (its parent run).

    measured: points by evaluation (`mixbench evaluate`), which come after the run's own finals.
    """

    key: str
    name: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    started: int
    ended: int | None
    rows: list[list[Point]] = field(default_factory=list)
    finals: list[Point] = field(default_factory=list)
    measured: list[list[Point]] = field(default_factory=list)
    datasets: list[DatasetUse] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    folder: RunFolder | None = None

    @property
    def digest(self) -> str:
        """Changes whenever something changes that MLflow shows of the run, files aside."""
        return short_hash(
            [
                self.name,
                self.status,
                self.params,
                self.tags,
                self.ended,
                self.rows,
                self.finals,
                self.datasets,
                *self.measured,
            ]
        )

    @property
    def points(self) -> list[Point]:
        """All points of all metrics, those of the rows first."""
        return [point for part in (*self.rows, self.finals, *self.measured) for point in part]


class Plan:
    """The planned runs of a sweep: the parameters that they share, and their names."""

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self.runs = list(runs)
        self._flat = {run.run_key: flatten(run.config) for run in self.runs}
        sections.settle(self._flat)
        keys = sorted({key for flat in self._flat.values() for key in flat})
        self._valid = {key: valid_name(key) for key in keys}
        self._names = _names(self._flat, sections.origins(self.runs))

    def params(self, run_key: str) -> dict[str, str]:
        """Every parameter that any run of the sweep has."""
        flat = self._flat[run_key]
        return {
            valid: _text(flat[key]) if key in flat else ABSENT for key, valid in self._valid.items()
        }

    @cached_property
    def fixed(self) -> dict[str, str]:
        """The parameters that have one value in the whole sweep."""
        if not self.runs:
            return {}
        params = self.params(self.runs[0].run_key)
        for run in self.runs[1:]:
            own = self.params(run.run_key)
            params = {key: value for key, value in params.items() if own[key] == value}
        return params

    def name(self, run_key: str) -> str:
        """The method, what sets the run apart from the others of that method, and the seed."""
        return self._names[run_key]


def run_record(plan: Plan, run: PlannedRun, sweep_name: str) -> Record | None:
    """What MLflow is to hold of one run; None while no worker has begun it."""
    folder = run.folder
    # The state first: a run that ends while it is read is then shown a little late, never in part.
    state = folder.state()
    claim = folder.last_claim()
    if state == RunState.WAITING and claim is None and not (folder.path / "config.json").exists():
        return None
    rows = folder.metrics()
    result = (folder.result() or {}) if state == RunState.DONE else {}
    measured = evaluations.read(folder) if result else {}
    moments = _moments(folder, rows, result, claim or {})
    row_points = [_row_points(row) for row in rows]
    return Record(
        key=run.run_key,
        name=plan.name(run.run_key),
        status=_STATUS[state],
        params=plan.params(run.run_key),
        tags=_run_tags(run, state, result, claim or {}, sweep_name),
        started=_milliseconds(min(moments)),
        ended=None if state == RunState.RUNNING else _milliseconds(max(moments)),
        rows=row_points,
        finals=_final_points(result, row_points, max(moments)),
        # With the time of the result: what is measured again to the same end is no change.
        measured=[
            _final_points(
                {**result, "metrics": made.get("metrics"), "timing": None}, row_points, max(moments)
            )
            for made in measured.values()
        ],
        datasets=_datasets(result),
        files=_files(
            folder.path,
            "config.json",
            "mixed.png",
            "result.json",
            *(f"{evaluations.FOLDER}/{name}.json" for name in measured),
        ),
        folder=folder if state == RunState.DONE else None,
    )


@dataclass(frozen=True)
class Standing:
    """How the runs of a sweep stand: how many of which MLflow status, and when the last ended."""

    counts: Counter[str]
    ended: int | None

    @classmethod
    def of(cls, runs: Iterable[tuple[str, int | None]]) -> Standing:
        """From the status and the end of each run that has begun."""
        counts: Counter[str] = Counter()
        last = None
        for status, ended in runs:
            counts[status] += 1
            if ended is not None and (last is None or ended > last):
                last = ended
        return cls(counts, last)


def sweep_record(
    sweep: SweepFolder, plan: Plan, standing: Standing, working: bool = False
) -> Record:
    """The parent run: what the runs of the sweep have in common, and how far they are.

    working: somebody works on the sweep, even if no run is held at this moment.
    """
    counts = standing.counts
    total = len(plan.runs)
    tags = {
        "runs": str(total),
        "runs.done": str(counts["FINISHED"]),
        "runs.failed": str(counts["FAILED"]),
        "runs.running": str(counts["RUNNING"]),
        "runs.waiting": str(total - counts["FINISHED"] - counts["FAILED"] - counts["RUNNING"]),
        "mlflow.source.name": f"mixbench sweep {sweep.name}",
        "mlflow.source.type": "LOCAL",
        **_known({"commit": sweep.commit, "mlflow.source.git.commit": sweep.commit}),
        **_known({"mlflow.note.content": sweep.description}),
    }
    status = _sweep_status(counts, total, working)
    return Record(
        key="",
        name=sweep.name,
        status=status,
        params=plan.fixed,
        tags=tags,
        started=sweep_started(sweep),
        ended=standing.ended if status not in ("RUNNING", "SCHEDULED") else None,
        files=_files(sweep.path, "sweep.json"),
    )


def sweep_started(sweep: SweepFolder) -> int:
    """When the sweep was made, in milliseconds."""
    return _milliseconds(sweep.header().get("created") or 0)


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def valid_name(name: str) -> str:
    """`name` as MLflow accepts it for a metric, parameter or tag."""
    return _INVALID.sub("_", name).strip("/")[:MAX_NAME]


def short_hash(value: Any) -> str:
    """16 hexadecimal digits that stand for the value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    """A parameter's value as a sweep's YAML has it."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:MAX_PARAM]


def _short(value: Any) -> str:
    """As `_text`, but of a method that is made of methods their names alone."""
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        return "+".join(str(one.get("name")) for one in value)
    return _text(value)


def _names(flat: dict[str, dict[str, Any]], origins: Mapping[str, str]) -> dict[str, str]:
    by_method: dict[Any, list[str]] = {}
    for run_key, config in flat.items():
        by_method.setdefault(config.get("augmentation.name"), []).append(run_key)
    names = {}
    for method, run_keys in by_method.items():
        differing = _differing([flat[run_key] for run_key in run_keys])
        labels = _labels(differing)
        for run_key in run_keys:
            config = flat[run_key]
            parts = [
                sections.phrase(key, config[key], origins) or f"{labels[key]}{_short(config[key])}"
                for key in differing
                if config.get(key) is not None and sections.is_said(key, config)
            ]
            parts = [str(method), *parts, f"seed {config.get('seed')}"]
            names[run_key] = " ".join(parts)[:MAX_NAME]
    return names


def _differing(configs: list[dict[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for config in configs for key in config)
    return [
        key
        for key in keys
        if key != "seed" and len({json.dumps(config.get(key, ABSENT)) for config in configs}) > 1
    ]


def _labels(keys: Iterable[str]) -> dict[str, str]:
    """ "alpha=" for augmentation.alpha, nothing for a section's name, dotted where ambiguous."""
    keys = list(keys)
    last = Counter(key.rpartition(".")[2] for key in keys)
    labels = {}
    for key in keys:
        short = key.rpartition(".")[2]
        if short == "name":
            labels[key] = ""
        else:
            labels[key] = f"{short if last[short] == 1 else key}="
    return labels


def _moments(
    folder: RunFolder,
    rows: list[dict[str, Any]],
    result: dict[str, Any],
    claim: Mapping[str, Any],
) -> list[float]:
    """All times, in seconds, at which something is known to have happened to the run."""
    provenance = result.get("provenance") or {}
    failure = folder.failure() or {}
    attempts = folder.attempts()
    times = [provenance.get("started"), provenance.get("finished"), failure.get("time")]
    times += [row.get("time") for row in rows]
    for attempt in attempts:
        times += [attempt.get("started"), attempt.get("ended")]
    times.append(claim.get("started"))
    if claim.get("number") not in {attempt.get("attempt") for attempt in attempts}:
        # Nobody has said how this attempt ended: its last sign of life is the best that is known.
        times.append(claim.get("time"))
    known = [float(time) for time in times if isinstance(time, int | float) and time > 0]
    return known or [folder.path.stat().st_mtime]


def _row_points(row: dict[str, Any]) -> list[Point]:
    timestamp, step = _milliseconds(row.get("time") or 0), int(row.get("step") or 0)
    return [
        Point(valid_name(key), float(value), timestamp, step)
        for key, value in row.items()
        if key not in _NOT_METRICS and _is_number(value)
    ]


def _final_points(result: dict[str, Any], rows: list[list[Point]], end: float) -> list[Point]:
    finished = (result.get("provenance") or {}).get("finished") or end
    timing = result.get("timing") or {}
    values = {
        **(result.get("metrics") or {}),
        **{f"timing/{key}": value for key, value in timing.items()},
    }
    last = rows[-1] if rows else []
    step = last[0].step if last else 0
    # The last epoch has already said some of them: a second point at its step would only be
    # a knot in the curve.
    said = {(point.key, point.value) for point in last}
    return [
        Point(valid_name(key), float(value), _milliseconds(finished), step)
        for key, value in values.items()
        if _is_number(value) and (valid_name(key), float(value)) not in said
    ]


def _run_tags(
    run: PlannedRun, state: str, result: dict[str, Any], claim: Mapping[str, Any], sweep_name: str
) -> dict[str, str]:
    provenance = result.get("provenance") or {}
    tags = {
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "seed": run.config.get("seed"),
        "state": "interrupted" if state == RunState.WAITING else state,
        "pretraining": "true" if run.pretraining else None,
        "device": provenance.get("device"),
        "host": provenance.get("host"),
        "commit": provenance.get("commit"),
        "mixbench.version": provenance.get("mixbench"),
        "python": provenance.get("python"),
        "torch": provenance.get("torch"),
        "slurm.job": (claim.get("job") or {}).get("id"),
        "mlflow.source.name": f"mixbench sweep {sweep_name}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": provenance.get("commit"),
    }
    if state == RunState.FAILED:
        failure = run.folder.failure() or {}
        tags["error"] = first_line(failure.get("error"))
        trace = str(failure.get("traceback") or "").rstrip()
        tags["mlflow.note.content"] = f"**Failed.** {tags['error']}\n\n```\n{trace[-6000:]}\n```"
    return _known(tags)


def _datasets(result: dict[str, Any]) -> list[DatasetUse]:
    dataset = result.get("dataset") or {}
    if not dataset.get("name"):
        return []
    digest = str(dataset.get("digest") or "").removeprefix("sha256:")[:8]
    source = json.dumps({"uri": str(dataset.get("source") or "")})
    return [
        # A name and a digest are one data set to MLflow: the split and its size are part of it.
        DatasetUse(
            context=split,
            name=str(dataset["name"])[:500],
            digest=f"{digest}-{split}-{dataset[split]}"[:36],
            source=source,
            profile=json.dumps({"num_rows": dataset[split], "classes": dataset.get("classes")}),
        )
        for split in ("train", "test")
        if _is_number(dataset.get(split))
    ]


def _sweep_status(counts: Counter[str], total: int, working: bool) -> str:
    if counts["RUNNING"]:
        return "RUNNING"
    if counts["FINISHED"] + counts["FAILED"] == total:
        return "FAILED" if counts["FAILED"] else "FINISHED"
    if working:
        return "RUNNING"
    return "KILLED" if counts else "SCHEDULED"


def _files(folder: Path, *names: str) -> dict[str, Path]:
    return {name: folder / name for name in names if (folder / name).is_file()}


def _known(tags: dict[str, Any]) -> dict[str, str]:
    return {key: str(value)[:MAX_TAG] for key, value in tags.items() if value not in (None, "")}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
