"""One task of a SLURM array: have runs done until its time is up, then requeue itself.

    python -P -m mixbench.slurm.task SWEEP_FOLDER --device cuda --time-limit 28800

With --measure it has finished runs measured, and all else is the same.

It is the process of the batch script itself, so it gets the job's signals. The workers are under
`mixbench.slurm.node`, a process of its own that may run inside a container; SLURM's programs are
needed here only. What it does when it is told to stop: see README.md, "The end of a task".
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mixbench.experiments.signals import SIGNALS
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.text import plural
from mixbench.experiments.worker.exit_status import STOPPED
from mixbench.slurm import leave, queue
from mixbench.slurm.measuring import Order
from mixbench.slurm.requeue import Requeue, StartLog, progress_of, runs_left
from mixbench.slurm.task_ends import GAVE_UP, EndRecord

POLL_SECONDS = 0.2
WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)

log = logging.getLogger("task")


def main() -> int:
    """Run the command line.

    Exit status 0 when its runs are done or it was stopped, 1 when no worker can work here.
    """
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for known in SIGNALS:
        signal.signal(known, on_signal)
    sweep = SweepFolder(arguments.sweep)
    job = queue.this_job()
    log.info("job %s, start %d, on %s", job, queue.restarts() + 1, os.uname().nodename)
    order = arguments.measure
    end = EndRecord(sweep, job)
    end.remove()
    fruitless = StartLog(sweep, job).record(progress_of(sweep, order)) if job else 0
    requeue = Requeue(sweep, job, fruitless, order)
    deadline = time.monotonic() + _deadline(job, arguments.time_limit, arguments.signal_seconds)
    while True:
        planned = {run.run_key for run in sweep.plan()}
        status = 0
        # Importing torch to find that nothing is left would take most of the task's time.
        if order is not None or runs_left(sweep):
            left = max(1.0, deadline - time.monotonic())
            status = _run_node(_node_command(arguments, left), received, requeue.while_ending)
        if received or status != 0:
            break
        stop = None if order else sweep.stop_reason()
        cancelled = 0 if stop else leave.cancel_siblings(sweep, order)
        if cancelled:
            log.info(
                "%s would have had nothing to do: cancelled", plural(cancelled, "waiting task")
            )
        why = stop or "nothing is left to do"
        end.write(0, why)
        # In this order: a launcher that grows the sweep now finds the record and does not count on
        # this task, or this task finds the new runs.
        if stop or order or not leave.has_grown(sweep, planned):
            log.info("%s", why)
            return 0
        end.remove()
        log.info("the sweep has grown: going on")
    if not received and status != STOPPED:
        # It would fail the same way on every start.
        log.error("%s %d: not put back into the queue", GAVE_UP, status)
        end.write(1, f"{GAVE_UP} {status}")
        return 1
    requeue.after_stop(warned=all(number in WARNINGS for number in received))
    end.write(int(requeue.gave_up), requeue.why, comes_back=requeue.comes_back)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Do runs of a sweep in this SLURM allocation.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1, help="without a GPU")
    parser.add_argument("--workers-per-gpu", type=int, default=1)
    parser.add_argument("--time-limit", type=float, default=3600.0, help="the profile's, seconds")
    parser.add_argument("--signal-seconds", type=float, default=90.0)
    parser.add_argument("--devices", type=int, default=1, help="GPUs of one run")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--hang", type=float, default=600.0, help="seconds without a heartbeat")
    parser.add_argument("--measure", type=Order.parse, default=None, help="measure, don't train")
    parser.add_argument("--container", default=None, help="a prefix of the workers' command")
    parser.add_argument("--python", default="python", help="the container's Python")
    return parser.parse_args()


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
        # Part of the warning's time is for requeuing.
        *("--patience", f"{max(5.0, arguments.signal_seconds * 0.7):.0f}"),
        *(["--measure", arguments.measure.text()] if arguments.measure else []),
    ]


def _deadline(job: str | None, time_limit: float, signal_seconds: float) -> float:
    """Return the seconds from now after which the workers are to stop, before SLURM stops them."""
    left = None if job is None else queue.seconds_left(job)
    return max(1.0, (time_limit if left is None else left) - signal_seconds)


def _run_node(command: list[str], received: list[int], while_ending: Callable[[], None]) -> int:
    """Run the node's processes to their end, passing on the first signal; return the exit status.

    received: signals, as they come. `while_ending` is called while the processes stop, where SLURM
    may be ending the job.
    """
    node = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    passed_on = False
    while node.poll() is None:
        if received and not passed_on:
            passed_on = True
            log.info("got %s", signal.Signals(received[0]).name)
            with contextlib.suppress(ProcessLookupError):
                node.send_signal(signal.SIGTERM)
        if any(number not in WARNINGS for number in received):
            while_ending()
        time.sleep(POLL_SECONDS)
    return node.returncode


if __name__ == "__main__":
    sys.exit(main())
