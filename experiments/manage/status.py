"""Where a sweep stands, from one look at its folder. Nothing here needs a launcher or a scheduler.

The states of a run are those of `RunState`.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.store import claims, dependencies
from mixbench.experiments.store import workers as roster
from mixbench.experiments.store.files import parse_lines
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import FAULTS, Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import first_line

SCHEMA = 1
"""Changes when a field of `as_json` changes its meaning or goes away; new ones may come."""
SHORTEST_KEY = 6
_TAIL_BYTES = 8192


@dataclass(slots=True)
class RunStatus:
    """One run. What is only known of runs that a worker holds or held is None for others."""

    run_key: str
    cell_key: str
    name: str
    """The augmentation's."""
    seed: int
    state: RunState
    epochs: int
    epoch: float = 0.0
    """Epochs done, in parts."""
    stage: str | None = None
    """Of a held run: "starting", "preparing", "training" or "measuring"."""
    images_per_second: float | None = None
    seconds_left: float | None = None
    """Until its last epoch, at the pace of its last epochs."""
    worker: str | None = None
    host: str | None = None
    job: str | None = None
    """Its SLURM job, such as "120_7"."""
    silent: float | None = None
    """Seconds since the last sign of life, between two hosts' clocks."""
    attempts: int = 0
    """Since the run was last forgiven, the one under way included."""
    faults: int = 0
    """How many of those ended in a fault: more than none means it is being tried again."""
    error: str | None = None
    """The first line of the reason of the last fault."""
    waits_for: str | None = None
    """Of a waiting run: the key of the run that must be done before it can begin."""
    pretraining: bool = False
    """Is it there only because others start from its weights?"""

    @property
    def settled(self) -> bool:
        """Is it done or given up?"""
        return self.state in (RunState.DONE, RunState.FAILED)


@dataclass(slots=True)
class Status:
    """A sweep at one moment. Epochs are those of all runs that are not given up, in parts."""

    sweep: str
    folder: str
    time: float
    stopped: str | None
    runs: list[RunStatus]
    epochs: float
    epochs_total: int
    images_per_second: float
    seconds_left: float | None
    workers: list[roster.Worker]
    key_length: int

    def of(self, state: RunState) -> list[RunStatus]:
        """The runs in this state, in the order of the plan."""
        return [run for run in self.runs if run.state == state]

    def count(self, state: RunState) -> int:
        """How many runs are in this state."""
        return sum(run.state == state for run in self.runs)

    @property
    def total(self) -> int:
        """How many runs are planned."""
        return len(self.runs)

    @property
    def done(self) -> int:
        """How many runs have a result."""
        return self.count(RunState.DONE)

    @property
    def failed(self) -> int:
        """How many runs are given up."""
        return self.count(RunState.FAILED)

    @property
    def running(self) -> list[RunStatus]:
        """The runs that a worker with signs of life holds."""
        return self.of(RunState.RUNNING)

    @property
    def retried(self) -> list[RunStatus]:
        """The runs that failed before and are being, or will be, tried again."""
        return [run for run in self.runs if run.faults and not run.settled]

    @property
    def waited_for(self) -> dict[str, int]:
        """run_key -> how many runs wait until that one is done, the most waited for first."""
        return dict(Counter(run.waits_for for run in self.runs if run.waits_for).most_common())

    @property
    def settled(self) -> bool:
        """Is every run done or given up?"""
        return all(run.settled for run in self.runs)

    def as_json(
        self,
        labels: Mapping[str, str],
        slurm: Mapping[str, int] | None = None,
        slurm_measuring: Mapping[str, int] | None = None,
    ) -> dict[str, Any]:
        """What `mixbench status --json` prints; experiments/README.md describes it.

        labels: cell_key -> name. slurm, slurm_measuring: tasks that train, and that measure, by
        state, where a scheduler was asked and answered.
        """
        return {
            "schema": SCHEMA,
            "sweep": self.sweep,
            "folder": self.folder,
            "time": self.time,
            "stopped": self.stopped,
            "counts": {
                "planned": self.total,
                **{state: self.count(state) for state in RunState},
                "retried": len(self.retried),
            },
            "epochs": {"done": self.epochs, "planned": self.epochs_total},
            "images_per_second": self.images_per_second,
            "seconds_left": self.seconds_left,
            "slurm": None if slurm is None else dict(slurm),
            "slurm_measuring": None if slurm_measuring is None else dict(slurm_measuring),
            "workers": [worker.as_json() for worker in self.workers],
            "runs": [_as_json(run, labels) for run in self.runs],
        }


def _as_json(run: RunStatus, labels: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "run_key": run.run_key,
        "cell_key": run.cell_key,
        "label": labels[run.cell_key],
        "seed": run.seed,
        "state": run.state,
        "epoch": run.epoch,
        "epochs": run.epochs,
    }
    if run.pretraining:
        row["pretraining"] = True
    if run.state in (RunState.RUNNING, RunState.STALE):
        for name in ("stage", "images_per_second", "seconds_left"):
            row[name] = getattr(run, name) if run.state == RunState.RUNNING else None
        row |= {"worker": run.worker, "host": run.host, "job": run.job, "silent": run.silent}
    if run.state != RunState.DONE:
        row |= {"attempts": run.attempts, "faults": run.faults, "error": run.error}
    if run.waits_for is not None:
        row["waits_for"] = run.waits_for
    return row


@dataclass
class Observer:
    """Looks at a sweep folder again and again, and only at what can have changed."""

    folder: SweepFolder
    plan: list[PlannedRun] = field(init=False)
    _known: dict[str, RunStatus] = field(default_factory=dict)
    _began: float = field(init=False)
    _needs: dict[str, PlannedRun] = field(init=False)
    _epochs_at_start: float | None = None

    def __post_init__(self) -> None:
        self.plan = self.folder.plan()
        self._needs = dependencies.needed(self.plan)
        self.key_length = key_length([planned.run_key for planned in self.plan])
        self._began = time.monotonic()

    def snapshot(self) -> Status:
        """The sweep now.

        The time left is extrapolated from the epochs since they began to come, and before there is
        a whole one from the pace of the runs that are running.
        """
        begun = self.folder.begun()
        runs = [self._look(planned, planned.run_key in begun) for planned in self.plan]
        self._say_what_waits(runs)
        at_work = [run for run in runs if run.state == RunState.RUNNING]
        counted = [run for run in runs if run.state != RunState.FAILED]
        epochs = sum(run.epoch for run in counted)
        total = sum(run.epochs for run in counted)
        return Status(
            sweep=self.folder.name,
            folder=str(self.folder.path),
            time=time.time(),
            stopped=self.folder.stop_reason(),
            runs=runs,
            epochs=epochs,
            epochs_total=total,
            images_per_second=sum(run.images_per_second or 0.0 for run in at_work),
            seconds_left=self._left(epochs, total, at_work),
            workers=roster.workers(self.folder),
            key_length=self.key_length,
        )

    def _left(self, epochs: float, total: int, at_work: list[RunStatus]) -> float | None:
        if self._epochs_at_start is None or epochs <= self._epochs_at_start:
            # Until the first epochs come, workers only start up; that is not their pace.
            self._epochs_at_start, self._began = epochs, time.monotonic()
        gained = epochs - self._epochs_at_start
        elapsed = time.monotonic() - self._began
        if gained >= 1:
            return (total - epochs) * elapsed / gained
        # Epochs a second, over the runs whose pace is known.
        paced = [run for run in at_work if run.seconds_left]
        rates = [(run.epochs - run.epoch) / (run.seconds_left or 1.0) for run in paced]
        if not rates:
            return None
        return (total - epochs) / (statistics.mean(rates) * len(at_work))

    def _say_what_waits(self, runs: list[RunStatus]) -> None:
        if not self._needs:
            return
        states = {run.run_key: run.state for run in runs}
        for run in runs:
            other = self._needs.get(run.run_key)
            waits = (
                other is not None
                and run.state == RunState.WAITING
                and states[other.run_key] != RunState.DONE
            )
            run.waits_for = other.run_key if other is not None and waits else None

    def _look(self, planned: PlannedRun, begun: bool) -> RunStatus:
        known = self._known.get(planned.run_key)
        if known is not None and known.state == RunState.DONE:
            return known
        if not begun and known is not None:
            return known
        run = RunStatus(
            run_key=planned.run_key,
            cell_key=planned.cell_key,
            name=planned.config["augmentation"]["name"],
            seed=planned.config["seed"],
            state=RunState.WAITING,
            epochs=planned.config["training"]["epochs"],
            pretraining=planned.pretraining,
        )
        if begun:
            _fill(run, str(planned.folder.path), planned)
        self._known[planned.run_key] = run
        return run


def _fill(run: RunStatus, path: str, planned: PlannedRun) -> None:
    """What the folder of a run that has begun says about it."""
    # Text for paths here: of 10,000 runs most are done, and this is all that they cost.
    if os.path.exists(f"{path}/result.json"):
        run.state, run.epoch = RunState.DONE, float(run.epochs)
        return
    folder = planned.folder
    ended = _since_forgiven(folder.attempts())
    faults = [row for row in ended if row.get("outcome") in FAULTS]
    run.faults, run.attempts = len(faults), len(ended)
    run.error = first_line(faults[-1].get("error")) or None if faults else None
    failure = folder.failure()
    if failure is not None:
        run.state = RunState.FAILED
        run.error = first_line(failure.get("error")) or None
        return
    rows = _last_rows(Path(path, "metrics.jsonl"))
    run.epoch = float(rows[-1]["epoch"]) if rows else 0.0
    claim = folder.last_claim()
    if claim is None or "released" in claim:
        # A run between its result and the release of its claim was done a moment ago.
        if os.path.exists(f"{path}/result.json"):
            run.state, run.epoch = RunState.DONE, float(run.epochs)
        return
    run.worker = claim.get("worker")
    run.host = host_name(claim.get("host"))
    run.job = job_name(claim.get("job"))
    run.silent = max(0.0, time.time() - claim.get("time", 0.0))
    if claim["number"] not in {row.get("attempt") for row in ended}:
        run.attempts += 1
    if claims.is_stale(claim):
        run.state = RunState.STALE
        return
    run.state = RunState.RUNNING
    progress = claim.get("progress") or {}
    run.stage = progress.get("stage", "starting")
    run.images_per_second = progress.get("images_per_second")
    if run.stage == "measuring":
        run.epoch = float(run.epochs)
    else:
        run.epoch = max(run.epoch, float(progress.get("epoch") or 0.0))
    pace = _seconds_per_epoch(rows)
    if pace is not None and run.epoch < run.epochs:
        run.seconds_left = (run.epochs - run.epoch) * pace


def key_length(keys: list[str]) -> int:
    """To how many characters the keys can be shortened and still differ; at least six."""
    length = SHORTEST_KEY
    while length < max(map(len, keys), default=0) and len({k[:length] for k in keys}) < len(keys):
        length += 1
    return length


def host_name(host: str | None) -> str | None:
    """The name alone, without what identifies the boot."""
    return host.split()[0] if host else None


def job_name(job: Mapping[str, Any] | None) -> str | None:
    """A claim's SLURM job as squeue writes it: "120_7" for a task of an array, else the id."""
    if not job:
        return None
    if job.get("array") and job.get("task") is not None:
        return f"{job['array']}_{job['task']}"
    return str(job["id"])


def _since_forgiven(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    places = [place for place, row in enumerate(rows) if row.get("outcome") == Outcome.RETRY]
    return rows[places[-1] + 1 :] if places else rows


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """The last rows of `metrics.jsonl`, whole ones."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    if size > _TAIL_BYTES:
        lines = lines[1:]
    return [row for row in parse_lines("\n".join(lines)) if "epoch" in row]


def _seconds_per_epoch(rows: list[dict[str, Any]]) -> float | None:
    """From the times at which the last epochs ended; a pause between them doesn't count."""
    times = [row["time"] for row in rows[-6:] if "time" in row]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(steps) if steps else None
