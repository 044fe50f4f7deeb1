"""The command line of a worker.

    python -m mixbench.experiments.worker SWEEP_FOLDER --device cpu --threads 1

Exit status 0 when all runs are done or failed; the others are those of `exit_status`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from mixbench.experiments.signals import Stop, Stopped
from mixbench.experiments.store import attempts
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.exit_status import (
    NO_STORE,
    POISONED,
    STOPPED,
    describe,
    is_unwritable,
)
from mixbench.experiments.worker.worker import Poisoned, Worker


def main() -> int:
    """Do runs of a sweep until none is free; returns the exit status."""
    arguments = _arguments()
    if arguments.threads:
        # Before torch is imported: OpenMP reads it once.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    folder = SweepFolder(arguments.sweep.absolute())
    stop = Stop(folder.stop_reason, arguments.deadline)
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    # A log that can't be written must not fill the worker's own with its complaints.
    logging.raiseExceptions = False
    worker = Worker(
        folder,
        arguments.device,
        arguments.name,
        stop=stop,
        retries=arguments.retries,
        exit_when_idle=arguments.exit_when_idle,
    )
    try:
        stop.listen()
        worker.work()
        stop.ignore_signals()
    except Stopped:
        return STOPPED
    except Poisoned as error:
        print(error, file=sys.stderr)
        return POISONED
    except OSError as error:
        if not is_unwritable(error) and folder.path.is_dir():
            raise
        # Not even the failure could be put on record; every other run would end like this.
        print(describe(error, folder.path), file=sys.stderr)
        return NO_STORE
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mixbench.experiments.worker",
        description="Do runs of a sweep until none is free.",
    )
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of this worker")
    parser.add_argument("--name", default=f"{os.uname().nodename}-{os.getpid()}")
    parser.add_argument("--retries", type=int, default=attempts.RETRIES)
    parser.add_argument(
        "--exit-when-idle", action="store_true", help="exit when others do what is left"
    )
    parser.add_argument("--deadline", type=float, default=None, help="seconds until it must stop")
    arguments = parser.parse_args()
    if arguments.name in ("", "..") or Path(arguments.name).name != arguments.name:
        parser.error(f"--name: got {arguments.name!r}, expected a file's name")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
