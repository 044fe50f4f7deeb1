"""Stop the workers of a sweep, wherever they are; keep all results."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

from mixbench.experiments.manage.observe import Observer
from mixbench.experiments.manage.status import Status
from mixbench.experiments.store import workers
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.workers import Worker

POLL_SECONDS = 0.25


def running_workers(now: Status) -> list[str]:
    """Return the names of the running workers, on this machine or elsewhere."""
    alive = {worker.name for worker in now.workers if worker.alive}
    return sorted(alive | {run.worker or "?" for run in now.running})


def terminate(folder: SweepFolder) -> int:
    """Send SIGTERM to the sweep's workers on this machine; return how many.

    Only to a process that is certainly the worker: same machine and boot, same process id, same
    moment of start.
    """
    return sum(_terminate(worker) for worker in workers.workers(folder))


def wait(folder: SweepFolder, seconds: float) -> Iterator[list[str]]:
    """Yield the running workers whenever they change, until there are none or the time is up."""
    observer = Observer(folder)
    limit = time.monotonic() + seconds
    last: list[str] | None = None
    while True:
        names = running_workers(observer.snapshot())
        if names != last:
            last = names
            yield names
        if not names or time.monotonic() > limit:
            return
        time.sleep(POLL_SECONDS)


def _terminate(worker: Worker) -> bool:
    if worker.alive is False or not worker.is_running_here():
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(worker.body["pid"]), signal.SIGTERM)
        return True
    return False
