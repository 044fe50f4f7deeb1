"""Ask SLURM about a sweep, if the sweep was ever submitted to it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.queue import Task

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


def job_ids(folder: SweepFolder) -> set[str] | None:
    """Return the ids of the sweep's jobs in the queue; None if it had some and SLURM is silent."""
    if not was_submitted(folder):
        return set()
    tasks = _tasks(folder)
    return None if tasks is None else {task.array for task in tasks}


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
