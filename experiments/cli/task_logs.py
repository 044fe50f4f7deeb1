"""`mixbench logs SWEEP`: what the SLURM tasks of a sweep said."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from mixbench.experiments.cli import slurm_queue
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.queue import Submitted

LINES = 10
"""How much of a log is shown where --lines does not say."""
MOST_GROUPS = 8


def show(folder: SweepFolder, lines: int | None) -> None:
    """Print the ends of the tasks' logs, one for all tasks of a job whose last words are alike."""
    from mixbench.slurm import queue

    states = _states(folder)
    jobs = queue.recorded(folder)
    for job in jobs:
        print(_heading(job))
        for text in _of_job(folder, job, states, LINES if lines is None else lines):
            print(text)
    print(f"all logs of tasks: {queue.folder_of(folder)}, of workers: {folder.path / 'workers'}")


def _heading(job: Submitted) -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.time)) if job.time else "?"
    kind = ", to measure" if job.measure is not None else ""
    return (
        f"job {job.job}, submitted {began}: {plural(job.tasks, 'task')} of "
        f"{plural(job.workers, 'worker')}, profile {job.profile}{kind}"
    )


def _states(folder: SweepFolder) -> dict[str, str]:
    """Return task -> what is known of it; nothing of any where SLURM can't be asked."""
    from mixbench.experiments.store.workers import workers

    tasks = slurm_queue.look(folder, workers(folder))
    if tasks is None:
        return {}
    queued = {task.name: task.state.lower() for task in tasks.queued}
    return {**{task.name: task.kind.describe(1) for task in tasks.ended}, **queued}


def _of_job(
    folder: SweepFolder, job: Submitted, states: dict[str, str], lines: int
) -> Iterator[str]:
    """Yield the ends of the logs of one job's tasks, and who has none."""
    from mixbench.slurm import task_ends

    groups: dict[tuple[str, str], list[tuple[str, Path]]] = {}
    for path in task_ends.logs(folder):
        name = path.name.removesuffix("_0_log.out")
        if name.partition("_")[0] == job.job:
            words = re.sub(r"\d+", "0", task_ends.last_line(path))
            groups.setdefault((states.get(name, "unknown"), words), []).append((name, path))
    for (state, _), tasks in list(groups.items())[:MOST_GROUPS]:
        name, path = tasks[0]
        many = f"{plural(len(tasks), 'task')}, such as {name}" if len(tasks) > 1 else f"task {name}"
        yield f"  {many}: {state}; {path}"
        yield from (f"    {line}" for line in task_ends.tail(path, lines) or ["(it is empty)"])
    if len(groups) > MOST_GROUPS:
        yield f"  and {len(groups) - MOST_GROUPS} more groups of tasks that end with other words"
    without = job.tasks - sum(map(len, groups.values()))
    if without > 0:
        yield f"  {plural(without, 'task')} without a log: not started, or cleaned away"
