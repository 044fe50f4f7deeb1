"""What one task of a SLURM array is: it has runs done until its time is up, then puts itself back.

    python -P -m mixbench.slurm.task SWEEP_FOLDER --device cuda --workers-per-gpu 2 --time-limit
    28800

With --measure it has finished runs measured, and all else is the same.

It is the process of the batch script itself, so it gets the job's signals. The workers are under
`mixbench.slurm.node`, a process of its own that may run inside a container; SLURM's programs are
needed here
only. What it does when it is told to stop: see README.md, "The end of a task".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from mixbench.experiments.store.files import read_lines
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.worker import STOPPED
from mixbench.slurm import queue
from mixbench.slurm.measuring import Order

POLL_SECONDS = 0.2
FRUITLESS = 3
"""A task that was started this often in a row without any run getting further is not put back."""
ASK_SECONDS = 2.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)

_AWAY = {"requeued": "SLURM has done so already", "cancelled": "it was cancelled"}

log = logging.getLogger("task")


@dataclass(frozen=True)
class Progress:
    """How far a sweep is: runs that are done or given up, and steps that are in checkpoints.

    Of tasks that measure: measurements that are made, and 0.
    """

    ended: int
    saved: int


def progress_of(sweep: SweepFolder, order: Order | None = None) -> Progress:
    """How far the sweep is now, or what is measured of it."""
    if order is not None:
        return Progress(order.made(sweep.plan()), 0)
    ended = saved = 0
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
            # What is stopped saves where it is.
            steps.append(now.get("step"))
        saved += max(int(step or 0) for step in steps)
    return Progress(ended, saved)


def runs_left(sweep: SweepFolder, order: Order | None = None) -> bool:
    """Is any run neither done nor given up, or not measured?"""
    if order is not None:
        return bool(order.missing(sweep.plan()))
    return any(planned.folder.state_on_file() is None for planned in sweep.plan())


class Lives:
    """The starts of one task, on record: so that one which gets nothing done stops coming back."""

    def __init__(self, sweep: SweepFolder, job: str) -> None:
        self.path = queue.folder_of(sweep) / f"{job}_starts.jsonl"

    def begin(self, now: Progress) -> int:
        """Put this start on record; how many starts before it, in a row, changed nothing."""
        before = self._rows()
        row = {
            "restart": queue.restarts(),
            "time": time.time(),
            "host": os.uname().nodename,
            "ended": now.ended,
            "saved": now.saved,
        }
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        fruitless = 0
        for earlier in reversed(before):
            if (earlier.get("ended"), earlier.get("saved")) != (now.ended, now.saved):
                break
            fruitless += 1
        return fruitless

    def _rows(self) -> list[dict[str, float]]:
        return read_lines(self.path)


class Return:
    """Whether this task is to come back, decided once, as soon as it can be."""

    def __init__(
        self, sweep: SweepFolder, job: str | None, fruitless: int, order: Order | None = None
    ) -> None:
        self.sweep = sweep
        self.job = job
        self.fruitless = fruitless
        self.order = order
        self.decided = False
        self._next = 0.0

    def while_ending(self) -> None:
        """SLURM is ending the job: it may come back, and there are only seconds to say so.

        Nothing is decided while the job is merely warned, because putting it back ends it at once.
        """
        if self.decided or self.job is None or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + ASK_SECONDS
        cause = queue.ending(self.job)
        if cause in ("time limit", "preempted"):
            self._requeue(self.job, cause)
        elif cause in _AWAY:
            self._stay_away(_AWAY[cause])

    def at_the_end(self, *, warned: bool) -> None:
        """The workers have stopped. warned: by SLURM's signal or the clock, so time is up."""
        if self.decided:
            return
        if self.job is None:
            self._stay_away("this is no SLURM job")
            return
        cause = queue.ending(self.job)
        if cause in _AWAY:
            self._stay_away(_AWAY[cause])
        elif cause in ("time limit", "preempted"):
            self._requeue(self.job, cause)
        elif warned:
            # Also where SLURM does not answer: a warning is not how a job is cancelled.
            self._requeue(self.job, "its time is up")
        elif cause == "running":
            self._requeue(self.job, "it was told to stop, and is not being ended by SLURM")
        else:
            self._stay_away("SLURM does not say why it is being ended; it may have been cancelled")

    def _requeue(self, job: str, cause: str) -> None:
        # What stops a sweep's workers may be long ago, and does not stop its being measured.
        stop = None if self.order else self.sweep.stop_reason()
        if stop is not None:
            self._stay_away(f"the sweep was stopped: {stop}")
        elif not runs_left(self.sweep, self.order):
            self._stay_away("no run is left")
        elif self.fruitless >= FRUITLESS:
            self._stay_away(
                f"no run got further in {self.fruitless} starts before this one; the time limit is "
                "too short for a checkpoint or a measurement, or something is broken: see the logs"
            )
        else:
            refused = queue.requeue(job)
            if refused is not None:
                self._stay_away(f"scontrol requeue: {refused}; submit the sweep again")
            else:
                self.decided = True
                log.info("back into the queue (%s)", cause)

    def _stay_away(self, why: str) -> None:
        self.decided = True
        log.info("not put back into the queue: %s", why)


def _node_command(arguments: argparse.Namespace, deadline: float) -> list[str]:
    python = [sys.executable]
    if arguments.container:
        python = [*shlex.split(arguments.container), *shlex.split(arguments.python)]
    return [
        *(*python, "-P", "-u", "-m", "mixbench.slurm.node", str(arguments.sweep)),
        *("--device", arguments.device, "--workers", str(arguments.workers)),
        *("--workers-per-gpu", str(arguments.workers_per_gpu)),
        *("--devices", str(arguments.devices), "--deadline", f"{deadline:.1f}"),
        *("--retries", str(arguments.retries), "--hang", f"{arguments.hang:g}"),
        # A part of the warning's time is for putting the job back.
        *("--patience", f"{max(5.0, arguments.signal_seconds * 0.7):.0f}"),
        *(["--measure", arguments.measure.text()] if arguments.measure else []),
    ]


def _deadline(job: str | None, time_limit: float, signal_seconds: float) -> float:
    """Seconds from now at which the workers are to stop, before SLURM stops them."""
    left = None if job is None else queue.seconds_left(job)
    return max(1.0, (time_limit if left is None else left) - signal_seconds)


def _work(command: list[str], asked: list[int], ending: Callable[[], None]) -> int:
    """Run the node's workers to their end, passing on the first signal that is `asked`; its status.

    `ending` is called while they stop, where SLURM may be ending the job.
    """
    node = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    passed = False
    while node.poll() is None:
        if asked and not passed:
            passed = True
            log.info("got %s", signal.Signals(asked[0]).name)
            with contextlib.suppress(ProcessLookupError):
                node.send_signal(signal.SIGTERM)
        if any(number not in WARNINGS for number in asked):
            ending()
        time.sleep(POLL_SECONDS)
    return node.returncode


def main() -> int:
    """The command line. Exit status 0 when its runs are done or it was stopped, 1 when no worker
    can work here."""
    parser = argparse.ArgumentParser(description="Do runs of a sweep in this SLURM allocation.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="without a GPU")
    parser.add_argument("--workers-per-gpu", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=3600.0, help="the profile's, seconds")
    parser.add_argument("--signal-seconds", type=float, default=90.0)
    parser.add_argument("--devices", type=int, default=1, help="GPUs of one run")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--hang", type=float, default=600.0, help="seconds without a sign of life")
    parser.add_argument("--measure", type=Order.parse, default=None, help="not train but measure")
    parser.add_argument("--container", default=None, help="a prefix of the workers' command")
    parser.add_argument("--python", default="python", help="the container's Python")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    asked: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    for known in SIGNALS:
        signal.signal(known, on_signal)
    sweep = SweepFolder(arguments.sweep)
    job = queue.this_job()
    log.info("job %s, start %d, on %s", job, queue.restarts() + 1, os.uname().nodename)
    order = arguments.measure
    fruitless = Lives(sweep, job).begin(progress_of(sweep, order)) if job else 0
    comes_back = Return(sweep, job, fruitless, order)
    deadline = _deadline(job, arguments.time_limit, arguments.signal_seconds)
    command = _node_command(arguments, deadline)
    status = _work(command, asked, comes_back.while_ending)
    if not asked and status == 0:
        stop = None if order else sweep.stop_reason()
        log.info("%s", stop or "nothing is left to do")
        return 0
    if not asked and status != STOPPED:
        # The same would happen on every start.
        log.error("the workers ended with status %d: not put back into the queue", status)
        return 1
    comes_back.at_the_end(warned=all(number in WARNINGS for number in asked))
    return 0


if __name__ == "__main__":
    sys.exit(main())
