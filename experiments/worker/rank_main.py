"""One rank that assists in training a run; `launch_ranks` starts it.

python -m mixbench.experiments.worker.rank_main SWEEP_FOLDER RUN_KEY --rank 1 ...
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import sys
import threading
import traceback
from pathlib import Path

import torch

from mixbench.experiments.config import resolve
from mixbench.experiments.ranks import Group
from mixbench.experiments.signals import SIGNALS, Stopped
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.training.loop import Diverged
from mixbench.experiments.worker import execute
from mixbench.experiments.worker.rank_meeting import (
    LEFT_ALONE,
    arrival_key,
    import_what_ddp_needs,
    is_lost_connection,
    join_store,
)


def main() -> int:
    """Assist until the run's training and measuring end; returns the exit status."""
    arguments = _arguments()
    for number in SIGNALS:
        # Rank 0 decides when to stop.
        signal.signal(number, signal.SIG_IGN)
    _end_with_the_leader()
    torch.set_num_threads(arguments.threads)
    logging.basicConfig(level=logging.WARNING)
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
    store = join_store(arguments.address, arguments.size)
    folder = SweepFolder(arguments.sweep.absolute())
    # Though the plan may have changed since rank 0 claimed the run.
    planned = folder.last_planned(arguments.run_key)
    if planned is None:
        print(f"{folder.path}: run {arguments.run_key} was never planned", file=sys.stderr)
        return 1
    import_what_ddp_needs()
    store.set(arrival_key(arguments.rank), "")
    try:
        ranks = Group(store, arguments.rank, arguments.size, device)
        # Rank 0 meets the same error and reports it.
        with contextlib.suppress(Stopped, Diverged):
            execute.assist(resolve.parse(planned.config), planned.folder, device, ranks)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        # At once: taking the group apart could wait for ranks that wait for this one.
        os._exit(LEFT_ALONE if is_lost_connection(error) else 1)
    ranks.close()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m mixbench.experiments.worker.rank_main",
        description="Assist in training one run.",
    )
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("run_key")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _end_with_the_leader() -> None:
    """Exit when the standard input ends: the leader holds the other end of it."""

    def wait() -> None:
        # Not through `sys.stdin`: its lock, held here, would be held for ever in a forked process.
        while os.read(0, 4096):
            pass
        os._exit(LEFT_ALONE)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
