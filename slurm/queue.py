"""A sweep's jobs in SLURM: which were submitted, which wait or run, and how a job is ended.

Every question has a time limit (`programs`), after which SLURM counts as not answering. Accounting
(sacct) is never asked: many clusters have none, and what became of a run is in its folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import workers
from mixbench.experiments.store.files import read_lines
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.programs import Unavailable, ask, output_of

MAX_ARRAY_SIZE = 1001
"""SLURM's own default, where the cluster's can't be asked."""

NAME_SHOWN = 8
"""How many characters of a job's name squeue shows."""

_FIELDS = ("%i", "%F", "%K", "%j", "%T", "%r", "%N", "%P")
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}
"""States from which a job does not come back."""


@dataclass(frozen=True)
class Task:
    """A task of a sweep that SLURM knows: waiting, running or about to end.

    array: the job that was submitted. index: the task's index in it, None where it is no array.
    state: as squeue names it, such as "PENDING" or "RUNNING". reason: why it waits, in SLURM's
    words. measure: see `Submitted`.
    """

    array: str
    index: int | None
    state: str
    reason: str
    nodes: str
    measure: str | None = None
    partition: str = ""

    @property
    def name(self) -> str:
        """Return the id that SLURM's commands take."""
        return self.array if self.index is None else f"{self.array}_{self.index}"

    @property
    def waits(self) -> bool:
        """Is it in the queue and not started?"""
        return self.state == "PENDING"

    @property
    def can_start(self) -> bool:
        """Does it run, or may it start at all? One whose dependency failed never does."""
        return not self.waits or self.reason != "DependencyNeverSatisfied"


@dataclass(frozen=True)
class Submitted:
    """One array of tasks that was submitted for a sweep.

    measure: the order (`mixbench.slurm.measuring`) of tasks that measure finished runs; None: they
    train. name: the job's; None: that of before 0.3. time: when; the same for all arrays of one
    command. says_end: do its tasks record how they ended (`task_ends`)? code: the name of the copy
    of the code that they run. revision: of the sweep's plan, then.
    """

    job: str
    tasks: int
    profile: str
    workers: int
    measure: str | None = None
    name: str | None = None
    time: float = 0.0
    says_end: bool = False
    code: str | None = None
    revision: int | None = None

    def knows_runs_of(self, code: str, revision: int) -> bool:
        """Do its tasks know all runs of this revision of the plan, which `code` made?

        Older code may not know a method that the sweep has grown by since.
        """
        return self.code in (None, code) or self.revision == revision


def folder_of(sweep: SweepFolder) -> Path:
    """Return where a sweep's scripts, logs and records of SLURM are."""
    return sweep.path / "slurm"


def job_name(sweep: SweepFolder, measure: str | None = None) -> str:
    """Return the name of the sweep's jobs; those that measure have a name of their own.

    squeue shows its beginning, so it begins with what distinguishes the sweep: its name, or where
    others below the same root begin alike, what follows the beginning that they share.
    """
    return (
        _distinct_part(sweep.name, SweepFolder.names())
        + "-mixbench"
        + ("" if measure is None else "-evaluate")
    )


def _distinct_part(name: str, names: list[str]) -> str:
    alike = [other for other in names if other != name and _shown(other) == _shown(name)]
    if not alike:
        return name
    columns = zip(name, *alike, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, columns))
    rest = name[shared:]
    if any(_shown(f"{rest}.{name}") == _shown(f"{other[shared:]}.{other}") for other in alike):
        rest = hashlib.sha256(name.encode()).hexdigest()[: NAME_SHOWN - 1]
    return f"{rest}.{name}" if rest else name


def _shown(name: str) -> str:
    return name[:NAME_SHOWN]


def _name_of(sweep: SweepFolder, submitted: Submitted) -> str:
    if submitted.name is not None:
        return submitted.name
    return f"mixbench-{sweep.name}" + ("" if submitted.measure is None else "-evaluate")


def record(sweep: SweepFolder, submitted: Submitted) -> None:
    """Record an array that was submitted."""
    row = {**dataclasses.asdict(submitted), "folder": str(sweep.path)}
    with (folder_of(sweep) / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def recorded(sweep: SweepFolder) -> list[Submitted]:
    """Return the arrays that were ever submitted for the sweep, oldest first.

    Not those of another sweep's folder, of which this one is a copy.
    """
    arrays = []
    # A line may be torn where its writer was killed.
    for row in read_lines(folder_of(sweep) / "jobs.jsonl"):
        if workers.is_of_another(sweep, row.get("folder")):
            continue
        with contextlib.suppress(KeyError, TypeError):
            arrays.append(
                Submitted(
                    str(row["job"]),
                    row["tasks"],
                    row["profile"],
                    row["workers"],
                    row.get("measure"),
                    row.get("name"),
                    row.get("time") or 0.0,
                    bool(row.get("says_end")),
                    row.get("code"),
                    row.get("revision"),
                )
            )
    return arrays


def query_tasks(sweep: SweepFolder) -> list[Task]:
    """Return the sweep's tasks that SLURM knows; Unavailable when it can't be asked."""
    jobs = {submitted.job: submitted for submitted in recorded(sweep)}
    if not jobs:
        return []
    # By user, not by job: a list with one job that SLURM has forgotten is an error to squeue. In
    # all states: by default it leaves out those that are suspended or held after a requeue.
    rows = output_of(
        "squeue",
        *("--me", "--noheader", "--array", "--states=all"),
        f"--format={'|'.join(_FIELDS)}",
    )
    known = []
    for row in rows.splitlines():
        parts = row.split("|")
        if len(parts) != len(_FIELDS):
            continue
        _, array, index, name, state, reason, nodes, partition = (part.strip() for part in parts)
        # Compare the name too: job ids restart at 1 when a cluster is set up anew.
        if state in _ENDED or array not in jobs or name != _name_of(sweep, jobs[array]):
            continue
        number = int(index) if index.isdigit() else None
        measure = jobs[array].measure
        known.append(Task(array, number, state, reason, nodes, measure, partition))
    return known


def tasks(sweep: SweepFolder) -> list[Task] | None:
    """Return the sweep's tasks, waiting or running; None when SLURM can't be asked."""
    try:
        return query_tasks(sweep)
    except Unavailable:
        return None


def cancel(sweep: SweepFolder) -> int:
    """Cancel the sweep's tasks and nobody else's; return how many there were.

    UserError when SLURM can't be asked: the tasks go on.
    """
    try:
        cancelled = query_tasks(sweep)
        jobs = sorted({task.array for task in cancelled})
        if jobs:
            output_of("scancel", *jobs)
    except Unavailable as error:
        known = ", ".join(submitted.job for submitted in recorded(sweep))
        raise UserError(f"SLURM can't be asked to cancel the jobs {known}: {error}") from None
    return len(cancelled)


def cancel_waiting(jobs: Iterable[str]) -> None:
    """Cancel the tasks of these jobs that have not started; Unavailable when that fails."""
    output_of("scancel", "--state=PENDING", *jobs)


def limits() -> dict[str, str]:
    """Return the settings of `scontrol show config`; Unavailable if SLURM can't be asked."""
    settings = {}
    for row in output_of("scontrol", "show", "config").splitlines():
        name, equals, value = row.partition("=")
        if equals:
            settings[name.strip()] = value.strip()
    return settings


def max_array_size() -> int:
    """Return one more than the highest index that a task of an array may have."""
    try:
        return int(limits().get("MaxArraySize", MAX_ARRAY_SIZE))
    except (Unavailable, ValueError):
        return MAX_ARRAY_SIZE


def this_job() -> str | None:
    """Return the job of this process as SLURM's commands take it; None outside of SLURM.

    The first task of an array has the array's own number: alone that would mean all of them.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{part}") for part in ("JOB_ID", "TASK_ID"))
    if array and index:
        return f"{array}_{index}"
    return os.environ.get("SLURM_JOB_ID")


def restarts() -> int:
    """Return how often this job was requeued before."""
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if count.isdigit() else 0


def ending(job: str) -> str | None:
    """Say why this job was told to stop; None when SLURM does not say.

    "running": it is not being ended (a warning, or a signal that somebody sent). "time limit",
    "preempted", "requeued" (it is in the queue again already), or "cancelled" for all else. While a
    job ends its state is COMPLETING whatever the cause: the cause is in Reason, PreemptTime and
    Restarts.
    """
    try:
        output = output_of("scontrol", "--oneliner", "show", "job", job)
    except Unavailable:
        return None
    fields = dict(part.split("=", 1) for part in output.split() if "=" in part)
    state = fields.get("JobState", "")
    count = fields.get("Restarts", "0")
    if state in ("PENDING", "REQUEUED") or (count.isdigit() and int(count) > restarts()):
        return "requeued"
    if state in ("RUNNING", "CONFIGURING", "SUSPENDED", "SIGNALING", "STAGE_OUT"):
        return "running"
    if fields.get("Reason") == "TimeLimit" or state == "TIMEOUT":
        return "time limit"
    if fields.get("PreemptTime", "None") != "None" or state == "PREEMPTED":
        return "preempted"
    return "cancelled" if state else None


def seconds_left(job: str) -> float | None:
    """Return how long the job may still run; None without a limit, or if SLURM is silent."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return int(end) - time.time()
    try:
        output = output_of("squeue", "--noheader", f"--jobs={job}", "--format=%L").strip()
    except Unavailable:
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", output)
    if not match:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def requeue(job: str) -> str | None:
    """Requeue a job; return None, or SLURM's message when it refuses."""
    try:
        answer = ask("scontrol", "requeue", job)
    except Unavailable as error:
        return str(error)
    if answer.status:
        return answer.message() or f"scontrol requeue: exit status {answer.status}"
    return None
