"""A worker: claims one run of a sweep after the other, until all are done.

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
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from experiments import claims
from experiments.claims import Claim, ClaimLost, Watch
from experiments.store import PlannedRun, SweepFolder

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
WAIT_SECONDS = 2.0
STOPPED = 3
POISONED = 4


class Stopped(BaseException):
    """The worker was told to stop. Not an `Exception`: nothing on the way may swallow it."""


class Poisoned(Exception):
    """The device is unusable in this process after an error; a new process can go on."""


class PlanMismatch(Exception):
    """What the run would do is no longer what was planned under its key."""


def work(folder: SweepFolder, device_name: str, name: str) -> int:
    """Do runs of the sweep until all are done or failed; how many were done by this worker."""
    import torch

    device = torch.device(device_name)
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    done = 0
    for claim, planned in _claimed(folder, Watch(), name):
        done += _do(planned, claim, device, name)
        if device.type == "cuda":
            _check_device(device)
    return done


def _do(planned: PlannedRun, claim: Claim, device: torch.device, name: str) -> bool:
    """One run from claim to release, its outcome on record; was it done?"""
    from experiments import config, run

    folder = planned.folder
    started = time.time()
    outcome, error = "done", None
    with run.logging_to(folder.path / "log.txt"):
        try:
            parsed = config.parse(planned.config)
            if parsed.run_key != planned.run_key:
                raise PlanMismatch(
                    f"planned as {planned.run_key}, now {parsed.run_key}: the images changed, or "
                    "mixbench did; give the sweep another name with --name"
                )
            run.execute(parsed, folder, device, claim)
        except Stopped:
            outcome = "stopped"
            raise
        except ClaimLost as lost:
            outcome, error = "lost", str(lost)
        except Exception as failure:
            outcome, error = "failed", f"{type(failure).__name__}: {failure}"
            log.exception("run %s failed", planned.run_key)
            folder.fail(error, traceback.format_exc(), claim.number)
        finally:
            if outcome != "lost":
                folder.add_attempt(
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
    return outcome == "done"


def _check_device(device: torch.device) -> None:
    """Free what a run left on the GPU; Poisoned if the GPU no longer answers this process."""
    import torch

    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        # After some errors (a failed assertion on the device) every later call fails.
        raise Poisoned(str(error)) from error


def _claimed(folder: SweepFolder, watch: Watch, name: str) -> Iterator[tuple[Claim, PlannedRun]]:
    """Claim one run after the other until all are done or failed, by whomever.

    While others hold what is left, this waits: their claim falls free if they die.
    """
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
        if todo and not claimed:
            time.sleep(WAIT_SECONDS)


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
    """The command line of a worker.

    Exit status 0 when all runs are done or failed, STOPPED when it was told to stop, POISONED when
    its device is unusable and a new process should take its place.
    """
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
        return STOPPED
    except Poisoned as error:
        print(error, file=sys.stderr)
        return POISONED
    return 0


if __name__ == "__main__":
    sys.exit(main())
