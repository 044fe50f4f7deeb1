"""Ask SLURM about a sweep, if the sweep was ever submitted to it."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.store.workers import Worker
    from mixbench.slurm.overview import Overview
    from mixbench.slurm.queue import Task

SCRIPT = "_submission.sh"
"""The end of the name of a job's script, whose owner submitted it."""
ASK_SECONDS = 30.0
"""How often to ask SLURM while watching a sweep: it serves everybody."""


class TaskCounts(NamedTuple):
    """A sweep's tasks in the queue, state -> count: those that train, and those that measure."""

    training: dict[str, int]
    measuring: dict[str, int]


def count_tasks(folder: SweepFolder) -> TaskCounts | None:
    """Count the sweep's tasks in the queue; None where SLURM was not used or can't be asked."""
    tasks = _tasks(folder)
    if tasks is None:
        return None
    return TaskCounts(
        Counter(task.state.lower() for task in tasks if task.measure is None),
        Counter(task.state.lower() for task in tasks if task.measure is not None),
    )


def look(folder: SweepFolder, workers: Sequence[Worker]) -> Overview | None:
    """Look at all tasks of the sweep; None where SLURM was not used or can't be asked.

    workers: all that have left a file in the sweep.
    """
    if not was_submitted(folder):
        return None
    from mixbench.experiments.manage.observe import job_name
    from mixbench.slurm import overview
    from mixbench.slurm.programs import Unavailable

    jobs = (job_name(worker.body.get("job")) for worker in workers)
    try:
        return overview.look(folder, {job for job in jobs if job})
    except Unavailable:
        return None


def describe(tasks: Overview, *, settled: bool) -> list[str]:
    """Say how many tasks there are, why some wait, and why some ended without their work.

    Where that has been done since, what they met no longer matters. settled: every run of the sweep
    is done or failed.
    """
    lines = []
    for kind, measuring in (("", False), (" that measure", True)):
        counts = tasks.count(measuring=measuring)
        if counts:
            states = ", ".join(f"{count} {state}" for state, count in counts.items())
            lines.append(f"SLURM tasks{kind}: {states}")
    lines += tasks.why_waiting()
    if not settled:
        lines += tasks.why_ended(measuring=False)
    problems = tasks.why_ended(measuring=True)
    return [*lines, *([] if problems and tasks.measuring_is_done() else problems)]


def leave_queue(folder: SweepFolder) -> None:
    """Cancel the waiting tasks of a sweep of which every run is done or failed."""
    if not was_submitted(folder):
        return
    from mixbench.experiments.text import plural
    from mixbench.slurm import leave

    cancelled = leave.cancel_siblings(folder)
    if cancelled:
        print(f"SLURM: {plural(cancelled, 'waiting task')} with nothing left to do cancelled")


def job_ids(folder: SweepFolder) -> set[str] | None:
    """Return the ids of the sweep's jobs in the queue; None if it had some and SLURM is silent.

    Jobs of other users may not be shown: those whose scripts are still there count as queued.
    """
    if not was_submitted(folder):
        return set()
    tasks = _tasks(folder)
    if tasks is None:
        return None
    others = {
        path.name.removesuffix(SCRIPT)
        for path in (folder.path / "slurm").glob(f"*{SCRIPT}")
        if path.lstat().st_uid != os.geteuid()
    }
    return others | {task.array for task in tasks}


def cancel_tasks(folder: SweepFolder) -> int:
    """Cancel the sweep's tasks and return how many; UserError when SLURM can't be asked."""
    from mixbench.slurm import queue

    return queue.cancel(folder)


def was_submitted(folder: SweepFolder) -> bool:
    """Was the sweep ever submitted to SLURM?"""
    return (folder.path / "slurm" / "jobs.jsonl").is_file()


def _tasks(folder: SweepFolder) -> list[Task] | None:
    if not was_submitted(folder):
        return None
    from mixbench.slurm import queue

    return queue.tasks(folder)
