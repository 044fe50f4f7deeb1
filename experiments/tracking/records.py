"""What the run folders say, in MLflow's terms. Reads folders; knows nothing of a store."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mixbench.experiments.store import evaluations, take_over
from mixbench.experiments.store import plan as plans
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line
from mixbench.experiments.tracking.hashing import short_hash
from mixbench.experiments.tracking.notes import REPORT, run_note
from mixbench.experiments.tracking.parameters import Plan, valid_name

MAX_TAG = 8000
FIGURES = "figures"
PLANS = re.compile(r"plan(\.\d+)?\.jsonl")
_NOT_METRICS = ("step", "time")
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
    """All that MLflow is to hold of one run, of a cell, or of the sweep itself.

    measured: points by evaluation (`mixbench evaluate`), which come after the run's own finals.
    note: its description, without the link to the report. colour: of its curves and dots, unless
    the user has chosen another one.
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
    note: str = ""
    colour: str = ""

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


def run_record(plan: Plan, run: PlannedRun, sweep_name: str) -> Record | None:
    """What MLflow is to hold of one run; None while no worker has begun it."""
    folder = run.folder
    if run.pending:
        return None
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
        tags={**_run_tags(run, state, result, claim or {}, sweep_name), **plan.place(run)},
        started=_milliseconds(min(moments)),
        ended=None if state == RunState.RUNNING else _milliseconds(max(moments)),
        rows=row_points,
        finals=_final_points(result, row_points, max(moments)),
        # With the time of the result: what is measured again to the same end is no change.
        measured=[
            _final_points(
                {**result, "metrics": measurement.get("metrics"), "timing": None},
                row_points,
                max(moments),
            )
            for measurement in measured.values()
        ],
        datasets=_datasets(result),
        files=_files(
            folder.path,
            "config.json",
            "mixed.png",
            "result.json",
            *(f"{evaluations.FOLDER}/{name}.json" for name in measured),
        ),
        folder=folder if result else None,
        note=_note(plan, run, state, result),
        colour=plan.colour(run.cell_key),
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
    """The sweep's own run: what its runs have in common, and how far they are.

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
    }
    status = overall_status(counts, total, working)
    return Record(
        key="",
        name=sweep.name,
        status=status,
        params=plan.fixed,
        tags=tags,
        started=sweep_started(sweep),
        ended=standing.ended if status not in ("RUNNING", "SCHEDULED") else None,
        files={
            **_files(sweep.path, "sweep.json", *_plans(sweep)),
            **_files(sweep.path / "report", REPORT),
        },
        note=sweep.description or f"The sweep {sweep.name}.",
    )


def _plans(sweep: SweepFolder) -> list[str]:
    """Return the files that say which runs there are: the newest plan, and what was chosen."""
    newest = plans.path(sweep.path, sweep.newest_revision()).name
    chosen = [*sweep.path.glob("look.*.json"), *sweep.path.glob("choice.*.json")]
    return [newest, *sorted(path.name for path in chosen)]


def sweep_started(sweep: SweepFolder) -> int:
    """When the sweep was made, in milliseconds."""
    return _milliseconds(sweep.header().get("created") or 0)


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
        # The end of this attempt is not recorded: take its last heartbeat.
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
    # The last epoch has some of them already: a second point at its step would be a knot in the
    # curve.
    logged = {(point.key, point.value) for point in last}
    return [
        Point(valid_name(key), float(value), _milliseconds(finished), step)
        for key, value in values.items()
        if _is_number(value) and (valid_name(key), float(value)) not in logged
    ]


def _run_tags(
    run: PlannedRun, state: str, result: dict[str, Any], claim: Mapping[str, Any], sweep_name: str
) -> dict[str, str]:
    provenance = result.get("provenance") or {}
    tags = {
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "seed": run.config.get("seed"),
        "state": _state_text(run, state),
        "pretraining": "true" if run.pretraining else None,
        "tune": run.part or None,
        "device": provenance.get("device"),
        "host": provenance.get("host"),
        "commit": provenance.get("commit"),
        "mixbench.version": provenance.get("mixbench"),
        "python": provenance.get("python"),
        "torch": provenance.get("torch"),
        "slurm.job": (claim.get("job") or {}).get("id"),
        "taken_over_from": (take_over.origin(run.folder) or {}).get("sweep"),
        "mlflow.source.name": f"mixbench sweep {sweep_name}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": provenance.get("commit"),
    }
    if state == RunState.FAILED:
        tags["error"] = first_line((run.folder.failure() or {}).get("error"))
    return _known(tags)


def _state_text(run: PlannedRun, state: str) -> str:
    if run.stopped_at is not None:
        return f"stopped after epoch {run.stopped_at}"
    return "interrupted" if state == RunState.WAITING else state


def _note(plan: Plan, run: PlannedRun, state: str, result: dict[str, Any]) -> str:
    if state != RunState.FAILED:
        return run_note(
            plan.name(run.run_key),
            _state_text(run, state),
            result.get("metrics") or {},
            run.config,
        )
    failure = run.folder.failure() or {}
    trace = str(failure.get("traceback") or "").rstrip()
    return f"**Failed.** {first_line(failure.get('error'))}\n\n```\n{trace[-6000:]}\n```"


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


def overall_status(counts: Mapping[str, int], total: int, working: bool) -> str:
    """Return the status of a sweep, or of a cell, by how many of its runs have which."""
    counts = Counter(counts)
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
