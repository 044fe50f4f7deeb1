"""What SLURM says, asked so that nothing hangs: squeue, scontrol, scancel.

Every question has a time limit, after which SLURM counts as not answering. Accounting (sacct) is
never asked: many clusters have none, and what became of a run is in its folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder

SECONDS = 20.0
"""How long to wait for an answer, unless $MIXBENCH_SLURM_SECONDS says otherwise."""
MAX_ARRAY_SIZE = 1001
"""SLURM's own default, where the cluster's can't be asked."""

_FIELDS = ("%i", "%F", "%K", "%j", "%T", "%r", "%N")


class Unavailable(Exception):
    """SLURM can't be asked here, or does not answer."""


@dataclass(frozen=True)
class Answer:
    """What one of SLURM's programs said."""

    status: int
    output: str
    errors: str

    def words(self) -> str:
        """Its messages on one line, without the program's name in front of each."""
        lines = [re.sub(r"^\w+: (?:error: |fatal: )?", "", row) for row in _lines(self.errors)]
        return "; ".join(dict.fromkeys(row.strip() for row in lines if row.strip()))


@dataclass(frozen=True)
class Task:
    """A task of a sweep that SLURM knows: waiting, running or about to end.

    array: the job that was submitted; index: the task's place in it, None where it has none.
    state: as squeue names it, such as "PENDING" or "RUNNING"; reason: why it waits. measure: see
    `Submitted`.
    """

    array: str
    index: int | None
    state: str
    reason: str
    nodes: str
    measure: str | None = None

    @property
    def name(self) -> str:
        """As SLURM's commands take it."""
        return self.array if self.index is None else f"{self.array}_{self.index}"


@dataclass(frozen=True)
class Submitted:
    """One array of tasks that was submitted for a sweep.

    measure: the order (`mixbench.slurm.measuring`) of tasks that measure finished runs; None: they
    train.
    """

    job: str
    tasks: int
    profile: str
    workers: int
    measure: str | None = None


def patience() -> float:
    """Seconds to wait for an answer."""
    with contextlib.suppress(ValueError):
        return float(os.environ.get("MIXBENCH_SLURM_SECONDS") or SECONDS)
    return SECONDS


def ask(
    program: str,
    *arguments: str,
    text: str | None = None,
    seconds: float | None = None,
    environment: dict[str, str] | None = None,
) -> Answer:
    """Run one of SLURM's programs; Unavailable when there is none, or it takes too long.

    text: its standard input. environment: all of its environment variables.
    """
    limit = patience() if seconds is None else seconds
    if not shutil.which(program):
        raise Unavailable(f"{program} is not on the PATH")
    given = dict(os.environ if environment is None else environment)
    for name in list(given):
        # Habits of the user's, such as another format, are not for us to read.
        if name.startswith(("SQUEUE_", "SCONTROL_", "SCANCEL_")) or name == "SLURM_TIME_FORMAT":
            del given[name]
    try:
        process = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL if text is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=given,
            start_new_session=True,
        )
    except OSError as error:
        raise Unavailable(f"{program}: {error.strerror}") from None
    with process:
        try:
            output, errors = process.communicate(text, timeout=limit)
        except subprocess.TimeoutExpired:
            # Its children too: a wrapper around the real program holds the pipes open.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise Unavailable(f"{program} did not answer within {limit:.0f} s") from None
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return Answer(process.returncode, output, errors)


def _answer(program: str, *arguments: str) -> str:
    """The output of a program that must succeed; Unavailable with its words when it does not."""
    answer = ask(program, *arguments)
    if answer.status:
        raise Unavailable(f"{program}: {answer.words() or f'exit status {answer.status}'}")
    return answer.output


def folder_of(sweep: SweepFolder) -> Path:
    """Where a sweep's scripts, logs and records of SLURM are."""
    return sweep.path / "slurm"


def job_name(sweep: SweepFolder, measure: str | None = None) -> str:
    """What the sweep's jobs are called; those that measure have a name of their own."""
    return f"mixbench-{sweep.name}" + ("" if measure is None else "-evaluate")


def record(sweep: SweepFolder, submitted: Submitted) -> None:
    """Remember an array that was submitted."""
    row = {
        "job": submitted.job,
        "tasks": submitted.tasks,
        "profile": submitted.profile,
        "workers": submitted.workers,
        "measure": submitted.measure,
        "time": time.time(),
    }
    with (folder_of(sweep) / "jobs.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def recorded(sweep: SweepFolder) -> list[Submitted]:
    """The arrays that were ever submitted for the sweep, oldest first."""
    try:
        text = (folder_of(sweep) / "jobs.jsonl").read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    found = []
    for row in text.splitlines():
        # A torn line is one that was never finished.
        with contextlib.suppress(ValueError, KeyError, TypeError):
            read = json.loads(row)
            found.append(
                Submitted(
                    str(read["job"]),
                    read["tasks"],
                    read["profile"],
                    read["workers"],
                    read.get("measure"),
                )
            )
    return found


def asked_tasks(sweep: SweepFolder) -> list[Task]:
    """The sweep's tasks that SLURM knows; Unavailable when it can't be asked."""
    jobs = {submitted.job: submitted.measure for submitted in recorded(sweep)}
    if not jobs:
        return []
    # By user, not by job: a list with one job that SLURM has forgotten is an error to squeue.
    rows = _answer("squeue", "--me", "--noheader", "--array", f"--format={'|'.join(_FIELDS)}")
    found = []
    for row in rows.splitlines():
        parts = row.split("|")
        if len(parts) != len(_FIELDS):
            continue
        _, array, index, name, state, reason, nodes = (part.strip() for part in parts)
        # The name too: numbers begin again from 1 when a cluster is set up anew.
        if array in jobs and name == job_name(sweep, jobs[array]):
            place = int(index) if index.isdigit() else None
            found.append(Task(array, place, state, reason, nodes, jobs[array]))
    return found


def tasks(sweep: SweepFolder) -> list[Task] | None:
    """The sweep's tasks that SLURM knows, waiting or running; None when it can't be asked."""
    try:
        return asked_tasks(sweep)
    except Unavailable:
        return None


def cancel(sweep: SweepFolder) -> int:
    """Take the sweep's tasks, and nobody else's, out of SLURM; how many there were.

    UserError when SLURM can't be asked: the tasks go on.
    """
    try:
        there = asked_tasks(sweep)
        jobs = sorted({task.array for task in there})
        if jobs:
            _answer("scancel", *jobs)
    except Unavailable as error:
        known = ", ".join(submitted.job for submitted in recorded(sweep))
        raise UserError(f"SLURM can't be asked to cancel the jobs {known}: {error}") from None
    return len(there)


def limits() -> dict[str, str]:
    """The cluster's settings, as `scontrol show config` has them; Unavailable if it won't say."""
    found = {}
    for row in _answer("scontrol", "show", "config").splitlines():
        name, equals, value = row.partition("=")
        if equals:
            found[name.strip()] = value.strip()
    return found


def max_array_size() -> int:
    """One more than the highest index that a task of an array may have."""
    try:
        return int(limits().get("MaxArraySize", MAX_ARRAY_SIZE))
    except (Unavailable, ValueError):
        return MAX_ARRAY_SIZE


def this_job() -> str | None:
    """The job of this process as SLURM's commands take it; None outside of SLURM.

    The first task of an array has the array's own number: alone that would mean all of them.
    """
    array, index = (os.environ.get(f"SLURM_ARRAY_{part}") for part in ("JOB_ID", "TASK_ID"))
    if array and index:
        return f"{array}_{index}"
    return os.environ.get("SLURM_JOB_ID")


def restarts() -> int:
    """How often this job was put back into the queue before."""
    count = os.environ.get("SLURM_RESTART_COUNT", "0")
    return int(count) if count.isdigit() else 0


def ending(job: str) -> str | None:
    """Why this job was told to stop; None when SLURM does not say.

    "running": it is not being ended (a warning, or a signal that somebody sent). "time limit",
    "preempted", "requeued" (it is in the queue again already), or "cancelled" for all else. While a
    job ends its state is COMPLETING whatever the cause: the cause is in Reason, PreemptTime and
    Restarts.
    """
    try:
        said = _answer("scontrol", "--oneliner", "show", "job", job)
    except Unavailable:
        return None
    fields = dict(part.split("=", 1) for part in said.split() if "=" in part)
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
    """How long the job may still run; None when it may for ever, or SLURM does not say."""
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return int(end) - time.time()
    try:
        said = _answer("squeue", "--noheader", f"--jobs={job}", "--format=%L").strip()
    except Unavailable:
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(?:(\d+):)?(\d+):)?(\d+)", said)
    if not match:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)


def requeue(job: str) -> str | None:
    """Put a job back into the queue; None when that was done, SLURM's words when it was not."""
    try:
        answer = ask("scontrol", "requeue", job)
    except Unavailable as error:
        return str(error)
    if answer.status:
        return answer.words() or f"scontrol requeue: exit status {answer.status}"
    return None


def _lines(text: str) -> list[str]:
    return [row for row in text.splitlines() if row.strip()]
