"""What SLURM and the logs say of all tasks of a sweep: waiting and why, running, ended and how."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural
from mixbench.slurm import queue, reasons, task_ends
from mixbench.slurm.measuring import Order
from mixbench.slurm.queue import Submitted, Task
from mixbench.slurm.requeue import runs_left
from mixbench.slurm.task_ends import EndedTask, Kind

T = TypeVar("T")
K = TypeVar("K")

MOST_LINES = 5
"""How many groups of tasks are described; the folder of the logs has them all."""


@dataclass(frozen=True)
class Overview:
    """The tasks of a sweep: those in the queue, and those of all its jobs that have left it."""

    sweep: SweepFolder
    jobs: list[Submitted]
    queued: list[Task]
    ended: list[EndedTask]

    def count(self, *, measuring: bool) -> dict[str, int]:
        """Count the tasks in the queue by state, of those that measure or of those that train."""
        return Counter(
            task.state.lower() for task in self.queued if (task.measure is not None) == measuring
        )

    def why_waiting(self) -> list[str]:
        """Say for which reasons tasks wait: a line each."""
        # None: SLURM has not looked at it yet.
        tasks_with_reason = (t for t in self.queued if t.waits and t.reason != "None")
        waiting = _grouped(tasks_with_reason, lambda task: task.reason)
        return [
            f"{plural(len(tasks), 'task')} of {_jobs(task.array for task in tasks)} "
            f"{'waits' if len(tasks) == 1 else 'wait'}: {reasons.explain(reason, tasks)}"
            for reason, tasks in waiting.items()
        ]

    def why_ended(self, *, measuring: bool | None = None, well: bool = False) -> list[str]:
        """Say which tasks of the last submission ended without doing their work, and their words.

        measuring: only of the tasks that measure, or only of those that train. well: also of those
        that ended as they should.
        """
        latest = {job.job for job in self.latest(measuring=measuring)}
        bad = [
            task for task in self.ended if task.job in latest and (well or task.kind != Kind.WELL)
        ]
        # Numbers differ from task to task: of processes, of lines, of jobs.
        alike = _grouped(bad, lambda task: (task.job, task.kind, re.sub(r"\d+", "0", task.said)))
        lines = [
            f"{plural(len(tasks), 'task')} of job {job} {kind.describe(len(tasks))}; "
            f"{'last line' if tasks[0].why is None else 'why'}: "
            f"{tasks[0].said or 'it printed nothing'}; log: {tasks[0].log}"
            for (job, kind, _), tasks in alike.items()
        ]
        if len(lines) > MOST_LINES:
            hidden = len(lines) - MOST_LINES
            lines[MOST_LINES:] = [f"and {hidden} more like these: mixbench logs {self.sweep.name}"]
        return lines

    def measuring_is_done(self) -> bool:
        """Is nothing missing of what the last submission to measure was for?"""
        orders = {job.measure for job in self.latest(measuring=True) if job.measure is not None}
        return not any(runs_left(self.sweep, Order.parse(text)) for text in orders)

    def never_began(self) -> list[str]:
        """Say how many tasks of the last submission to train left the queue without a log."""
        lines = []
        for job in self.latest(measuring=False):
            began = sum(task.job == job.job for task in self.ended)
            gone = job.tasks - began - sum(task.array == job.job for task in self.queued)
            # `mixbench clean` takes the script with the logs.
            if gone > 0 and (queue.folder_of(self.sweep) / f"{job.job}_submission.sh").exists():
                lines.append(
                    f"{plural(gone, 'task')} of job {job.job} left the queue without a log: "
                    "cancelled, or SLURM could not start them"
                )
        return lines

    def latest(self, *, measuring: bool | None = None) -> list[Submitted]:
        """Return the arrays of the last submission, of those that train and of those that measure.

        What became of the tasks before it is why there was another one.
        """
        chosen: list[Submitted] = []
        for kind in (False, True) if measuring is None else (measuring,):
            alike = [job for job in self.jobs if (job.measure is not None) == kind]
            chosen += [job for job in alike if job.time == alike[-1].time]
        return chosen

    def as_json(self) -> list[dict[str, Any]]:
        """Return what `mixbench status --json` prints of each job, oldest first."""
        return [self._job_as_json(job) for job in self.jobs]

    def _job_as_json(self, job: Submitted) -> dict[str, Any]:
        queued = [task for task in self.queued if task.array == job.job]
        ended = [task for task in self.ended if task.job == job.job]
        return {
            "job": job.job,
            "measures": job.measure is not None,
            "profile": job.profile,
            "submitted": job.time or None,
            "tasks": job.tasks,
            "queued": dict(Counter(task.state.lower() for task in queued)),
            "waits_for": dict(Counter(task.reason for task in queued if task.waits)),
            "ended": dict(Counter(str(task.kind) for task in ended)),
            "problems": [
                {
                    "task": task.name,
                    "what": str(task.kind),
                    "last_line": task.said,
                    "log": str(task.log),
                }
                for task in ended
                if task.kind != Kind.WELL
            ],
        }


def look(sweep: SweepFolder, with_workers: Collection[str]) -> Overview:
    """Look at all tasks of the sweep; Unavailable when SLURM can't be asked.

    with_workers: the tasks, by the names that squeue has for them, of which a worker is known.
    """
    jobs = queue.recorded(sweep)
    queued = queue.query_tasks(sweep)
    names = {task.name for task in queued}
    return Overview(sweep, jobs, queued, task_ends.ended(sweep, names, with_workers, jobs))


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _jobs(ids: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(ids))
    more = f" and {len(distinct) - 3} more" if len(distinct) > 3 else ""
    return f"{'job' if len(distinct) == 1 else 'jobs'} {', '.join(distinct[:3])}{more}"
