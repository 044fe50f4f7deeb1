"""A worker: claims one run of a sweep after the other, until none is free.

    python -m experiments.worker SWEEP_FOLDER --device cpu --threads 1

The same worker serves a laptop, every GPU of a server and a cluster's job array. Start more at any
time, kill any at any time.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from experiments import claims
from experiments.claims import ClaimLost, Watch
from experiments.store import PlannedRun, SweepFolder

log = logging.getLogger(__name__)


class Stopped(BaseException):
    """The worker was told to stop. Not an `Exception`: nothing on the way may swallow it."""


def work(folder: SweepFolder, device_name: str, name: str) -> int:
    """Do runs of the sweep until none is free; how many were done."""
    import torch

    from experiments import config, run

    device = torch.device(device_name)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    done = 0
    watch = Watch()
    for planned in _until_none_is_free(folder, watch, name):
        started = time.time()
        claim, todo = planned
        outcome, error = "done", None
        with run.logging_to(todo.folder.path / "log.txt"):
            try:
                run.execute(config.parse(todo.config), todo.folder, device, claim)
                done += 1
            except Stopped:
                outcome = "stopped"
                raise
            except ClaimLost as lost:
                outcome, error = "lost", str(lost)
                continue
            except Exception as failure:
                outcome = "failed"
                error = f"{type(failure).__name__}: {failure}"
                log.exception("run %s failed", todo.run_key)
                todo.folder.fail(error, traceback.format_exc(), claim.number)
                if device.type == "cuda":
                    torch.cuda.empty_cache()
            finally:
                if outcome != "lost":
                    todo.folder.add_attempt(
                        {
                            "attempt": claim.number,
                            "worker": name,
                            "started": started,
                            "ended": time.time(),
                            "outcome": outcome,
                            "error": error,
                        }
                    )
                    claim.release(outcome)
    return done


def _until_none_is_free(folder: SweepFolder, watch: Watch, name: str) -> Any:
    """Yield (claim, run) pairs; a run that others hold is looked at again until it is done."""
    todo = by_seed(folder.plan())
    while todo:
        claimed = False
        for planned in list(todo):
            state = planned.folder.state()
            if state in ("done", "failed"):
                todo.remove(planned)
                continue
            claim = claims.acquire(planned.folder.path, name, watch)
            if claim is None:
                continue
            # The holder before us may have finished between the look and the claim.
            if planned.folder.state() in ("done", "failed"):
                claim.release("nothing to do")
                todo.remove(planned)
                continue
            claimed = True
            yield claim, planned
        if not claimed:
            return


def by_seed(plan: list[PlannedRun]) -> list[PlannedRun]:
    """The plan with all cells of a seed before the next seed: half a sweep is a fair comparison."""
    place: dict[str, int] = {}
    rank = {}
    for planned in plan:
        rank[planned.run_key] = place.get(planned.cell_key, 0)
        place[planned.cell_key] = rank[planned.run_key] + 1
    return sorted(plan, key=lambda planned: rank[planned.run_key])


def _stop(signum: int, _frame: FrameType | None) -> None:
    # A second signal must not interrupt the clean-up of the first.
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, signal.SIG_IGN)
    raise Stopped(signal.Signals(signum).name)


def main() -> int:
    """The command line of a worker. Exit status 0 when nothing is left to do, 3 when stopped."""
    parser = argparse.ArgumentParser(description="Do runs of a sweep until none is free.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of this worker")
    parser.add_argument("--name", default=f"{os.uname().nodename}:{os.getpid()}")
    arguments = parser.parse_args()
    if arguments.threads:
        # Before torch is imported: OpenMP reads it once.
        os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    for known in (signal.SIGTERM, signal.SIGINT):
        signal.signal(known, _stop)
    logging.basicConfig(level=logging.INFO, handlers=[logging.NullHandler()])
    try:
        work(SweepFolder(arguments.sweep.absolute()), arguments.device, arguments.name)
    except Stopped:
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
