"""Read where a sweep stands from its folder; needs neither the launcher nor a scheduler."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.manage.status import RunStatus, Status
from mixbench.experiments.store import claims, dependencies
from mixbench.experiments.store.files import parse_lines
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import FAULTS, Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.workers import workers
from mixbench.experiments.text import first_line

SHORTEST_KEY = 6
TAIL_BYTES = 8192
"""How much of the end of `metrics.jsonl` is read."""


@dataclass
class Observer:
    """Looks at a sweep folder repeatedly, and only at what can have changed."""

    folder: SweepFolder
    plan: list[PlannedRun] = field(init=False)
    version: tuple[int, int] = (0, 0)
    """Of the plan, as of the last snapshot."""
    _last_seen: dict[str, RunStatus] = field(default_factory=dict)
    _began: float = field(init=False)
    _needed: dict[str, PlannedRun] = field(init=False)
    _epochs_at_start: float | None = None

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._read_plan()

    def _read_plan(self) -> None:
        self.version = self.folder.version()
        self.plan = self.folder.plan()
        # A run may be of another cell now.
        self._last_seen.clear()
        self._needed = dependencies.needed(self.plan)
        self.key_length = key_length([planned.run_key for planned in self.plan])
        # The pace is counted anew: what came or went with a plan was not trained meanwhile.
        self._epochs_at_start = None

    def snapshot(self) -> Status:
        """Return the sweep as it is now.

        The time left is extrapolated from the epochs since the first one ended, and before that
        from the pace of the running runs.
        """
        if self.folder.version() != self.version:
            self._read_plan()
        begun = self.folder.begun()
        runs = [self._look(planned, planned.run_key in begun) for planned in self.plan]
        self._set_waits_for(runs)
        running = [run for run in runs if run.state == RunState.RUNNING]
        counted = [run for run in runs if run.state != RunState.FAILED]
        epochs = sum(run.epoch for run in counted)
        total = sum(run.epochs for run in counted)
        return Status(
            sweep=self.folder.name,
            folder=str(self.folder.path),
            time=time.time(),
            # Nothing of a finished sweep can be stopped, or go on.
            stopped=None if all(run.settled for run in runs) else self.folder.stop_reason(),
            runs=runs,
            epochs=epochs,
            epochs_total=total,
            images_per_second=sum(run.images_per_second or 0.0 for run in running),
            seconds_left=self._seconds_left(epochs, total, running),
            workers=workers(self.folder),
            key_length=self.key_length,
            dropped=self.folder.dropped(),
        )

    def _seconds_left(self, epochs: float, total: int, running: list[RunStatus]) -> float | None:
        if self._epochs_at_start is None or epochs <= self._epochs_at_start:
            # Before the first epochs end, workers are still starting; that is not their pace.
            self._epochs_at_start, self._began = epochs, time.monotonic()
        gained = epochs - self._epochs_at_start
        elapsed = time.monotonic() - self._began
        if gained >= 1:
            return (total - epochs) * elapsed / gained
        # Epochs a second, over the runs whose pace is known.
        paced = [run for run in running if run.seconds_left]
        rates = [(run.epochs - run.epoch) / (run.seconds_left or 1.0) for run in paced]
        if not rates:
            return None
        return (total - epochs) / (statistics.mean(rates) * len(running))

    def _set_waits_for(self, runs: list[RunStatus]) -> None:
        if not self._needed:
            return
        states = {run.run_key: run.state for run in runs}
        for run in runs:
            other = self._needed.get(run.run_key)
            waits = (
                other is not None
                and run.state == RunState.WAITING
                and states[other.run_key] != RunState.DONE
            )
            run.waits_for = other.run_key if other is not None and waits else None

    def _look(self, planned: PlannedRun, begun: bool) -> RunStatus:
        known = self._last_seen.get(planned.run_key)
        if known is not None and known.state == RunState.DONE:
            return known
        if not begun and known is not None and not planned.pending:
            return known
        run = RunStatus(
            run_key=planned.run_key,
            cell_key=planned.cell_key,
            name=planned.config["augmentation"]["name"],
            seed=planned.config["seed"],
            state=RunState.WAITING,
            epochs=planned.config["training"]["epochs"],
            pretraining=planned.pretraining,
            part=planned.part,
            waits_for_choice=planned.pending,
        )
        if planned.pending:
            # It has no folder; whether its setting can be chosen is up to its tuning runs.
            failure = planned.folder.failure()
            if failure is not None:
                run.state, run.error = RunState.FAILED, first_line(failure["error"])
            return run
        if begun:
            _fill(run, str(planned.folder.path), planned)
        if planned.stopped_at is not None and run.state != RunState.DONE:
            run.state, run.epochs = RunState.DONE, planned.stopped_at
            run.epoch, run.stopped_at = float(planned.stopped_at), planned.stopped_at
        elif planned.until is not None and run.state == RunState.WAITING:
            failure = planned.folder.failure()
            if failure is not None:
                run.state, run.error = RunState.FAILED, first_line(failure["error"])
        self._last_seen[planned.run_key] = run
        return run


def _fill(run: RunStatus, path: str, planned: PlannedRun) -> None:
    """Read the folder of a run that was started."""
    # Text for paths here: of 10,000 runs most are done, and this is all that they cost.
    if os.path.exists(f"{path}/result.json"):
        run.state, run.epoch = RunState.DONE, float(run.epochs)
        return
    folder = planned.folder
    ended = _since_retry(folder.attempts())
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
        # A run with a result whose claim is not released yet is done.
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
    """Return how many characters of the keys are enough to tell them apart; at least six."""
    length = SHORTEST_KEY
    while length < max(map(len, keys), default=0) and len({k[:length] for k in keys}) < len(keys):
        length += 1
    return length


def host_name(host: str | None) -> str | None:
    """Return the name alone, without what identifies the boot."""
    return host.split()[0] if host else None


def job_name(job: Mapping[str, Any] | None) -> str | None:
    """Return a claim's SLURM job as squeue writes it: "120_7" for a task of an array."""
    if not job:
        return None
    if job.get("array") and job.get("task") is not None:
        return f"{job['array']}_{job['task']}"
    return str(job["id"])


def _since_retry(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the attempts after the last `mixbench retry`."""
    retries = [index for index, row in enumerate(rows) if row.get("outcome") == Outcome.RETRY]
    return rows[retries[-1] + 1 :] if retries else rows


def _last_rows(path: Path) -> list[dict[str, Any]]:
    """Return the last whole rows of `metrics.jsonl`."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    lines = text.split("\n")
    if size > TAIL_BYTES:
        lines = lines[1:]
    return [row for row in parse_lines("\n".join(lines)) if "epoch" in row]


def _seconds_per_epoch(rows: list[dict[str, Any]]) -> float | None:
    """Return the median over the last epochs; a pause between two doesn't count."""
    times = [row["time"] for row in rows[-6:] if "time" in row]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(steps) if steps else None
