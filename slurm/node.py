"""Runs the processes of one SLURM task on a node, in its container if it has one.

They are workers, or measure finished runs. Started by `mixbench.slurm.task`. Exit status 0 when
there is nothing left for it, STOPPED when it was told to stop or its time is up, 1 when no worker
can work here.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from mixbench.experiments.signals import SIGNALS
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.exit_status import STOPPED
from mixbench.slurm import local
from mixbench.slurm.local import Slot
from mixbench.slurm.measuring import Measurers, Order
from mixbench.slurm.pool import Pool
from mixbench.slurm.processes import Processes

POLL_SECONDS = 0.2

log = logging.getLogger("node")


def slots(device: str, workers: int, per_gpu: int = 1, devices: int = 1) -> list[Slot]:
    """Return the slots for workers in this allocation; none where it lacks the GPUs.

    per_gpu: workers that share a GPU; devices: GPUs that one run takes, or processes where there
    are none, on all nodes of the job. Over several nodes there is one worker, whose slot is what
    its run takes of this one. CPU threads are what SLURM gave the task here, shared evenly.
    """
    given = os.environ.get("SLURM_CPUS_PER_TASK", "")
    cpus = int(given) if given.isdigit() else 1
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES") or 1)
    here = -(-devices // nodes)
    if device != "cuda":
        # Each process of a run is to have a core.
        count = workers if devices == 1 else max(1, min(workers, cpus // here))
        return [Slot(None, max(1, cpus // count))] * count
    sets = local.gpu_sets(local.gpus(), here)
    if nodes > 1:
        # Two workers would use the same GPUs of the other nodes.
        sets = sets[:1]
    gpus = [each for each in sets for _ in range(per_gpu)]
    return [Slot(each, max(1, cpus // len(gpus))) for each in gpus]


def main() -> int:
    """Run the command line; see the top of this file for the exit status."""
    arguments = _parse()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stdout)
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    for known in SIGNALS:
        signal.signal(known, on_signal)
    began = time.monotonic()
    here = slots(arguments.device, arguments.workers, arguments.workers_per_gpu, arguments.devices)
    if not here:
        log.error("too few GPUs in this allocation: %s", ", ".join(local.gpus()) or "none")
        return 1
    log.info("%d x %s", len(here), here[0].describe())
    processes = _processes(arguments)
    for slot in here:
        if not received:
            processes.start(slot)
    while not received and processes.poll():
        time.sleep(POLL_SECONDS)
    if processes.unusable and not received:
        # SLURM's signal goes to every process of the job: a worker may have received it before us,
        # and one that has just started dies of it.
        time.sleep(1.0)
    if received:
        log.info("told to stop by %s", signal.Signals(received[0]).name)
        processes.stop(arguments.patience)
        return STOPPED
    if processes.unusable:
        log.error("%s", processes.unusable)
        return 1
    spent = time.monotonic() - began
    return STOPPED if arguments.deadline is not None and spent >= arguments.deadline else 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Do runs of a sweep on this node.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--workers-per-gpu", type=int, default=1)
    parser.add_argument("--deadline", type=float, default=None, help="seconds from now")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds to stop in")
    parser.add_argument("--devices", type=int, default=1, help="GPUs of one run")
    parser.add_argument("--retries", type=int, default=2)
    parser.add_argument("--hang", type=float, default=600.0, help="seconds without a heartbeat")
    parser.add_argument("--measure", type=Order.parse, default=None, help="measure, don't train")
    return parser.parse_args()


def _processes(arguments: argparse.Namespace) -> Processes:
    """Return what starts the processes: workers, or such that measure."""
    folder = SweepFolder(arguments.sweep)
    if arguments.measure is not None:
        return Measurers(folder, arguments.measure, arguments.deadline)
    return Pool(
        folder,
        retries=arguments.retries,
        hang_seconds=arguments.hang,
        exit_when_idle=True,
        deadline=arguments.deadline,
    )


if __name__ == "__main__":
    sys.exit(main())
