"""What SLURM says of a sweep, where it was ever asked to run it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.queue import Task


class Tasks(NamedTuple):
    """A sweep's tasks in the queue, state -> how many: those that train, and those that measure."""

    training: dict[str, int]
    measuring: dict[str, int]


def tasks(folder: SweepFolder) -> Tasks | None:
    """The sweep's tasks in the queue; None where there is nobody to ask."""
    found = _asked(folder)
    if found is None:
        return None
    return Tasks(
        Counter(task.state.lower() for task in found if task.measure is None),
        Counter(task.state.lower() for task in found if task.measure is not None),
    )


def jobs(folder: SweepFolder) -> set[str] | None:
    """The ids of the sweep's jobs in the queue; None when it has had some and nobody can say."""
    if not was_asked(folder):
        return set()
    found = _asked(folder)
    return None if found is None else {task.array for task in found}


def cancel(folder: SweepFolder) -> int:
    """Cancel the sweep's tasks; how many there were. UserError when SLURM can't be asked."""
    from mixbench.slurm import queue

    return queue.cancel(folder)


def was_asked(folder: SweepFolder) -> bool:
    """Was the sweep ever submitted to SLURM?"""
    return (folder.path / "slurm" / "jobs.jsonl").is_file()


def _asked(folder: SweepFolder) -> list[Task] | None:
    if not was_asked(folder):
        return None
    from mixbench.slurm import queue

    return queue.tasks(folder)
