"""Take tasks out of SLURM's queue for which nothing is left to do.

A launcher that submits and a task that cancels its siblings must not overlap: the launcher would
count waiting tasks that are gone a moment later. So each holds the claim on the sweep's queue
meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Iterator

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import claims
from mixbench.experiments.store.claims import Claim, ClaimLost, Watch
from mixbench.experiments.store.states import Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import queue
from mixbench.slurm.measuring import Order
from mixbench.slurm.programs import Unavailable
from mixbench.slurm.requeue import runs_left

PATIENCE_SECONDS = 60.0
"""How long a launcher waits for a task that is cancelling others: for its questions to SLURM."""


def cancel_siblings(sweep: SweepFolder, order: Order | None = None) -> int:
    """Cancel the sweep's waiting tasks if nothing is left for them; return how many there were.

    Of tasks that measure, those of the same `order`; of others, those that train. Nothing is
    cancelled where SLURM can't be asked, or while somebody submits more.
    """
    measure = None if order is None else order.text()
    # UserError: a plan of a newer version, which its own tasks will complete.
    with contextlib.suppress(Unavailable, OSError, ClaimLost, UserError):
        # First without a claim: mostly there is nothing to cancel.
        if not _is_complete(sweep, order) or not _waiting(sweep, measure):
            return 0
        with _claim(sweep, 0.0) as claim:
            # The plan and the queue as they are now that nobody submits.
            waiting = _waiting(sweep, measure) if claim and _is_complete(sweep, order) else []
            if waiting:
                queue.cancel_waiting(sorted({task.array for task in waiting}))
            return len(waiting)
    return 0


@contextlib.contextmanager
def submitting(sweep: SweepFolder) -> Iterator[None]:
    """Let nobody cancel tasks of the sweep as needless in this block."""
    if not queue.recorded(sweep):
        # No task is there that could; and what sbatch refuses shall leave no folder.
        yield
        return
    with _claim(sweep, PATIENCE_SECONDS) as claim:
        if claim is None:
            yield
            return
        # Where it is lost, somebody took this process for dead, and it is too late to wait.
        with contextlib.suppress(ClaimLost), claim.keep_renewing():
            yield


def has_grown(sweep: SweepFolder, planned: Collection[str]) -> bool:
    """Does the sweep's plan hold runs that are not in `planned` and that nobody works on?"""
    with contextlib.suppress(UserError):
        return any(
            run.run_key not in planned and run.folder.state() == RunState.WAITING
            for run in sweep.plan()
        )
    return False


def _is_complete(sweep: SweepFolder, order: Order | None) -> bool:
    # A run that is still trained will have to be measured.
    return not runs_left(sweep) and (order is None or not runs_left(sweep, order))


def _waiting(sweep: SweepFolder, measure: str | None) -> list[queue.Task]:
    return [task for task in queue.query_tasks(sweep) if task.waits and task.measure == measure]


@contextlib.contextmanager
def _claim(sweep: SweepFolder, patience: float) -> Iterator[Claim | None]:
    """Hold the claim on the sweep's queue; None if others keep it for `patience` seconds."""
    watch, limit = Watch(), time.monotonic() + patience
    name = f"{os.uname().nodename}-{os.getpid()}"
    while (claim := claims.acquire(queue.folder_of(sweep), name, watch)) is None:
        if time.monotonic() >= limit:
            yield None
            return
        time.sleep(0.2)
    try:
        yield claim
    finally:
        claim.release(Outcome.DONE)
