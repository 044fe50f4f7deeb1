"""Decide whether a SLURM task that was told to stop goes back into the queue."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass

from mixbench.experiments.store.files import read_lines
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import queue
from mixbench.slurm.measuring import Order

MAX_FRUITLESS_STARTS = 3
"""A task started this often in a row without progress of any run is not requeued."""
ASK_SECONDS = 2.0

_NO_REQUEUE = {"requeued": "SLURM has done so already", "cancelled": "it was cancelled"}

log = logging.getLogger("task")


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: runs that are done or failed, and steps that are in checkpoints.

    Of tasks that measure: measurements that exist, and 0.
    """

    ended: int
    steps_saved: int


def progress_of(sweep: SweepFolder, order: Order | None = None) -> Progress:
    """Return how far the sweep is now, or the measurements of the order."""
    if order is not None:
        return Progress(order.count_measured(sweep.plan()), 0)
    ended = steps_saved = 0
    for planned in sweep.plan():
        folder = planned.folder
        if not folder.path.is_dir():
            continue
        if folder.result() is not None or folder.failure() is not None:
            ended += 1
            continue
        claim = folder.last_claim() or {}
        now = claim.get("progress") or {}
        steps = [row.get("saved") for row in (*folder.attempts(), now)]
        if claim.get("released") == Outcome.STOPPED:
            # A stopped run saves where it is.
            steps.append(now.get("step"))
        steps_saved += max(int(step or 0) for step in steps)
    return Progress(ended, steps_saved)


def runs_left(sweep: SweepFolder, order: Order | None = None) -> bool:
    """Is any run neither done nor failed, or not measured?"""
    if order is not None:
        return bool(order.missing(sweep.plan()))
    return any(planned.folder.state_on_file() is None for planned in sweep.plan())


class StartLog:
    """Records the starts of one task, so that a task without progress is not requeued for ever."""

    def __init__(self, sweep: SweepFolder, job: str) -> None:
        self.path = queue.folder_of(sweep) / f"{job}_starts.jsonl"

    def record(self, now: Progress) -> int:
        """Record this start; return how many starts before it, in a row, changed nothing."""
        before = read_lines(self.path)
        row = {
            "restart": queue.restarts(),
            "time": time.time(),
            "host": os.uname().nodename,
            "ended": now.ended,
            "saved": now.steps_saved,
        }
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        fruitless = 0
        for earlier in reversed(before):
            if (earlier.get("ended"), earlier.get("saved")) != (now.ended, now.steps_saved):
                break
            fruitless += 1
        return fruitless


class Requeue:
    """Decides once, as soon as it can, whether this task goes back into the queue.

    fruitless: starts before this one, in a row, that changed nothing.
    """

    def __init__(
        self, sweep: SweepFolder, job: str | None, fruitless: int, order: Order | None = None
    ) -> None:
        self.sweep = sweep
        self.job = job
        self.fruitless = fruitless
        self.order = order
        self.decided = False
        self.comes_back = False
        """Was it put back into the queue?"""
        self.gave_up = False
        """Does it stay away although it has runs to do, and nobody asked it to?"""
        self.why = ""
        self._next_question = 0.0

    def while_ending(self) -> None:
        """Decide while SLURM ends the job: there are only seconds to do so.

        Nothing is decided while the job is merely warned, because requeuing ends it at once.
        """
        if self.decided or self.job is None or time.monotonic() < self._next_question:
            return
        self._next_question = time.monotonic() + ASK_SECONDS
        cause = queue.ending(self.job)
        if cause in ("time limit", "preempted"):
            self._requeue(self.job, cause)
        elif cause in _NO_REQUEUE:
            self._do_not_requeue(_NO_REQUEUE[cause])

    def after_stop(self, *, warned: bool) -> None:
        """Decide when the workers have stopped.

        warned: they were stopped by SLURM's warning or the clock, so time is up.
        """
        if self.decided:
            return
        if self.job is None:
            self._do_not_requeue("this is no SLURM job")
            return
        cause = queue.ending(self.job)
        if cause in _NO_REQUEUE:
            self._do_not_requeue(_NO_REQUEUE[cause])
        elif cause in ("time limit", "preempted"):
            self._requeue(self.job, cause)
        elif warned:
            # Also where SLURM does not answer: a job that is cancelled gets no warning.
            self._requeue(self.job, "its time is up")
        elif cause == "running":
            self._requeue(self.job, "it was told to stop, and is not being ended by SLURM")
        else:
            self._do_not_requeue(
                "SLURM does not say why it is being ended; it may have been cancelled"
            )

    def _requeue(self, job: str, cause: str) -> None:
        # A stopped sweep can still be measured.
        stop = None if self.order else self.sweep.stop_reason()
        if stop is not None:
            self._do_not_requeue(f"the sweep was stopped: {stop}")
        elif not runs_left(self.sweep, self.order):
            self._do_not_requeue("no run is left")
        elif self.fruitless >= MAX_FRUITLESS_STARTS:
            self.gave_up = True
            self._do_not_requeue(
                f"no run got further in {self.fruitless} starts before this one; the time limit is "
                "too short for a checkpoint or a measurement, or something is broken: see the logs"
            )
        else:
            refusal = queue.requeue(job)
            if refusal is not None:
                self.gave_up = True
                self._do_not_requeue(f"scontrol requeue: {refusal}; submit the sweep again")
            else:
                self.decided = self.comes_back = True
                self.why = f"back into the queue ({cause})"
                log.info("%s", self.why)

    def _do_not_requeue(self, why: str) -> None:
        self.decided = True
        # SLURM may have put it back itself.
        self.comes_back = why == _NO_REQUEUE["requeued"]
        self.why = f"not put back into the queue: {why}"
        log.info("%s", self.why)
