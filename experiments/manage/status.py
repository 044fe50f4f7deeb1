"""Where a sweep stands at one moment, and as JSON; `observe` reads it from the sweep's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.workers import Worker

SCHEMA = 1
"""Changes when a field of `as_json` changes its meaning or goes away; new ones may come."""


@dataclass(slots=True)
class RunStatus:
    """One run. What is known only of runs that a worker holds or held is None for others."""

    run_key: str
    cell_key: str
    name: str
    """Of its augmentation."""
    seed: int
    state: RunState
    epochs: int
    epoch: float = 0.0
    """Epochs done, with the part of the current one."""
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
    """Seconds since the last heartbeat, between two hosts' clocks."""
    attempts: int = 0
    """Since the last `mixbench retry`, the current one included."""
    faults: int = 0
    """How many of those ended in a fault; above 0 the run is being tried again."""
    error: str | None = None
    """The first line of the reason of the last fault."""
    waits_for: str | None = None
    """Of a waiting run: the key of the run that must be done before it can begin."""
    pretraining: bool = False
    """Does it exist only because others start from its weights?"""
    part: str = ""
    """In the tuning of a method: "tuning", "tuned" or "default"; empty for most."""
    waits_for_choice: bool = False
    """Is its setting still to be chosen?"""
    stopped_at: int | None = None
    """Of a done tuning run: the epoch after which it was stopped, because others do better."""

    @property
    def settled(self) -> bool:
        """Is it done or failed?"""
        return self.state in (RunState.DONE, RunState.FAILED)


@dataclass(slots=True)
class Status:
    """A sweep at one moment. `epochs` counts runs that have not failed, with parts of epochs."""

    sweep: str
    folder: str
    time: float
    stopped: str | None
    runs: list[RunStatus]
    epochs: float
    epochs_total: int
    images_per_second: float
    seconds_left: float | None
    workers: list[Worker]
    key_length: int
    dropped: list[str] = field(default_factory=list)
    """The keys of runs that are no longer asked for and have a folder; counted nowhere else."""

    def of(self, state: RunState) -> list[RunStatus]:
        """Return the runs in this state, in the order of the plan."""
        return [run for run in self.runs if run.state == state]

    def count(self, state: RunState) -> int:
        """Count the runs in this state."""
        return sum(run.state == state for run in self.runs)

    @property
    def total(self) -> int:
        """Count the planned runs."""
        return len(self.runs)

    @property
    def done(self) -> int:
        """Count the runs that have a result."""
        return self.count(RunState.DONE)

    @property
    def failed(self) -> int:
        """Count the failed runs."""
        return self.count(RunState.FAILED)

    @property
    def running(self) -> list[RunStatus]:
        """Return the runs whose worker sends heartbeats."""
        return self.of(RunState.RUNNING)

    @property
    def retried(self) -> list[RunStatus]:
        """Return the runs that failed before and are being, or will be, tried again."""
        return [run for run in self.runs if run.faults and not run.settled]

    @property
    def waited_for(self) -> dict[str, int]:
        """Return run_key -> how many runs wait until that one is done, in descending order."""
        return dict(Counter(run.waits_for for run in self.runs if run.waits_for).most_common())

    @property
    def settled(self) -> bool:
        """Is every run done or failed?"""
        return all(run.settled for run in self.runs)

    def as_json(
        self,
        labels: Mapping[str, str],
        slurm: Mapping[str, int] | None = None,
        slurm_measuring: Mapping[str, int] | None = None,
        slurm_jobs: Sequence[Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Return what `mixbench status --json` prints; experiments/cli/README.md describes it.

        labels: cell_key -> name. Where a scheduler was asked and answered: slurm, slurm_measuring:
        tasks that train, and that measure, by state; slurm_jobs: what became of each job's tasks.
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
                "dropped": len(self.dropped),
            },
            "epochs": {"done": self.epochs, "planned": self.epochs_total},
            "images_per_second": self.images_per_second,
            "seconds_left": self.seconds_left,
            "slurm": None if slurm is None else dict(slurm),
            "slurm_measuring": None if slurm_measuring is None else dict(slurm_measuring),
            "slurm_jobs": None if slurm_jobs is None else [dict(job) for job in slurm_jobs],
            "workers": [worker.as_json() for worker in self.workers],
            "runs": [_as_json(run, labels) for run in self.runs],
            "dropped": self.dropped,
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
    if run.part:
        row["tune"] = run.part
    if run.state in (RunState.RUNNING, RunState.STALE):
        for name in ("stage", "images_per_second", "seconds_left"):
            row[name] = getattr(run, name) if run.state == RunState.RUNNING else None
        row |= {"worker": run.worker, "host": run.host, "job": run.job, "silent": run.silent}
    if run.state != RunState.DONE:
        row |= {"attempts": run.attempts, "faults": run.faults, "error": run.error}
    if run.waits_for is not None:
        row["waits_for"] = run.waits_for
    if run.waits_for_choice:
        row["waits_for_choice"] = True
    if run.stopped_at is not None:
        row["stopped_at"] = run.stopped_at
    return row
