"""How a sweep's SLURM tasks ended: by their own record, by their logs, by the workers they started.

SLURM itself forgets a job within minutes, and accounting may be off, so what became of a task is
read from files of the sweep's folder.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from mixbench.experiments.store.files import atomic_write, dump, read_json
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import queue
from mixbench.slurm.queue import Submitted

TAIL_BYTES = 20_000
REQUEUE_SECONDS = 120.0
"""How long SLURM lets a task wait that was put back into the queue."""
GAVE_UP = "the workers ended with status"
"""In the last line of a task whose workers could not work; the cause is above it."""

_LOG = re.compile(r"(\d+)(?:_(\d+))?_0_log\.out")
# The path of the batch script on its node differs from task to task, and the time of day.
_PREFIX = re.compile(r"^(?:\S*slurm_script: line \d+: |\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} )")


class Kind(StrEnum):
    """How a task ended."""

    WELL = "well"
    """By itself: nothing was left to do, or it was told to stop."""
    NO_WORKER = "no worker"
    GAVE_UP = "gave up"
    """Its workers can't work, or nothing gets further from start to start."""
    KILLED = "killed"
    """At work, without a chance to record it: for its memory, say, or because its node failed."""

    def describe(self, count: int) -> str:
        """Say it of so many tasks, in words that follow "2 tasks of job 84"."""
        return _WORDS[self][count != 1]


_WORDS = {
    Kind.WELL: ("ended", "ended"),
    Kind.NO_WORKER: ("ended without starting a worker", "ended without starting a worker"),
    Kind.GAVE_UP: ("gave up", "gave up"),
    Kind.KILLED: ("was killed", "were killed"),
}


@dataclass(frozen=True)
class EndedTask:
    """A task that began and is no longer in the queue."""

    name: str
    job: str
    kind: Kind
    log: Path
    why: str | None = None
    """By its own record; None where it left none, or only its log says more."""

    @property
    def said(self) -> str:
        """Why it ended, or the last words of its log; "" where it printed nothing."""
        return last_line(self.log) if self.why is None else self.why


class EndRecord:
    """A task's own record of its end: `JOB_end.json`, written when it has nothing left to do."""

    def __init__(self, sweep: SweepFolder, job: str | None) -> None:
        self.path = None if job is None else _end_path(sweep, job)

    def write(self, status: int, why: str, *, comes_back: bool = False) -> None:
        """Record how this start of the task ends. comes_back: it was put back into the queue."""
        if self.path is not None:
            row = {"status": status, "why": why, "comes_back": comes_back}
            # A full disk must not end a task otherwise than it would have.
            with contextlib.suppress(OSError):
                atomic_write(self.path, dump(row))

    def remove(self) -> None:
        """Take it back: the task begins, or goes on."""
        if self.path is not None:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)


def is_ending(sweep: SweepFolder, task: str) -> bool:
    """Has this task recorded its end? It will claim no run, though it may still be in the queue."""
    record = read_json(_end_path(sweep, task))
    return record is not None and not record.get("comes_back")


def ended(
    sweep: SweepFolder,
    queued: Collection[str],
    with_workers: Collection[str],
    jobs: Iterable[Submitted],
) -> list[EndedTask]:
    """Return those tasks of `jobs` that began and are not in the queue.

    queued: names of the tasks in the queue. with_workers: names of tasks of which a worker is
    known to have started. Processes that measure leave no trace; of them those count that began.
    """
    submitted = {job.job: job for job in jobs}
    tasks = []
    for path in logs(sweep):
        match = _LOG.fullmatch(path.name)
        if match is None or match[1] not in submitted:
            continue
        job, index = match.groups()
        name = job if index is None else f"{job}_{index}"
        if name not in queued:
            record = _last_end(path, _end_path(sweep, name))
            began = path.with_name(f"{name}_starts.jsonl").exists()
            worked = began and (submitted[job].measure is not None or name in with_workers)
            kind = _kind(submitted[job], record.get("status"), worked)
            why = str(record.get("why") or "")
            has_cause = why and not why.startswith(GAVE_UP)
            tasks.append(EndedTask(name, job, kind, path, why if has_cause else None))
    return tasks


def logs(sweep: SweepFolder) -> list[Path]:
    """Return the logs of the sweep's tasks, in the order of their jobs and indices."""
    paths = queue.folder_of(sweep).glob("*_log.out")
    return sorted(paths, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)])


def log_of(sweep: SweepFolder, task: str) -> Path:
    """Return the log of a task, whether it is there or not."""
    return queue.folder_of(sweep) / f"{task}_0_log.out"


def last_line(path: Path) -> str:
    """Return the last line of a log that says why the task ended; "" where it is empty."""
    lines = tail(path)
    while len(lines) > 1 and GAVE_UP in lines[-1]:
        lines.pop()
    return _PREFIX.sub("", lines[-1]) if lines else ""


def tail(path: Path, count: int | None = None) -> list[str]:
    """Return the last lines of a log that are not blank."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return lines if count is None else lines[len(lines) - min(count, len(lines)) :]


def _last_end(log: Path, path: Path) -> dict[str, Any]:
    """Return the task's record of its last start; empty where it left none."""
    record = read_json(path) or {}
    if not record.get("comes_back"):
        return record
    # It was put back, and has left the queue since. A start that dies before its first line of
    # Python leaves the record of the start before as it is, and words in the log.
    with contextlib.suppress(OSError):
        if log.stat().st_mtime > path.stat().st_mtime + REQUEUE_SECONDS / 2:
            return {}
    return {"status": 0, "why": f"{record.get('why')}; cancelled while it waited there"}


def _kind(job: Submitted, status: int | None, worked: bool) -> Kind:
    if status == 0:
        return Kind.WELL
    if not worked:
        return Kind.NO_WORKER
    if status is not None:
        return Kind.GAVE_UP
    # Tasks of mixbench 0.2 left no record.
    return Kind.KILLED if job.says_end else Kind.WELL


def _end_path(sweep: SweepFolder, task: str) -> Path:
    return queue.folder_of(sweep) / f"{task}_end.json"
