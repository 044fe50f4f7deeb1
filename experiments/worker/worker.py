"""A worker: claims one run of a sweep after the other, until all are done.

    python -m mixbench.experiments.worker.worker SWEEP_FOLDER --device cpu --threads 1

The same worker serves a laptop, every GPU of a server and a cluster's job array. Start more at any
time, kill any at any time.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import logging
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stop, Stopped
from mixbench.experiments.store import attempts, claims, dependencies, processes
from mixbench.experiments.store.claims import Claim, ClaimLost, Watch
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
WAIT_SECONDS = 2.0
STOPPED = 3
POISONED = 4
NO_STORE = 5
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class Poisoned(Exception):
    """The device is unusable in this process after an error; a new process can go on."""


class PlanMismatch(Exception):
    """What the run would do is no longer what was planned under its key."""


class Worker:
    """One process that does runs of a sweep; `workers/NAME.json` says where it is and what it does.

    retries: how often a run may fail without getting further. leave: go when all that is left is
    in good hands elsewhere, instead of waiting in case they fail; a run that waits for another is
    in nobody's hands.
    """

    def __init__(
        self,
        folder: SweepFolder,
        device: str,
        name: str,
        *,
        stop: Stop | None = None,
        retries: int = attempts.RETRIES,
        leave: bool = False,
    ) -> None:
        self.folder = folder
        self.name = name
        self.retries = retries
        self.leave = leave
        self._device_name = device
        self._stop = stop or Stop(folder.stop_reason)
        self._watch = Watch()
        self._started = time.time()
        self._held: tuple[Claim, PlannedRun] | None = None
        self._needs: dict[str, PlannedRun] = {}

    def work(self) -> int:
        """Do runs until all are done or failed; how many were done by this worker."""
        self._stop.check()
        # A signal in the middle of an import can turn into any error.
        with self._stop.defer_signals():
            import torch

            # All that every run needs: without it, this worker would only fail one after the other.
            from mixbench.experiments.worker import execute, launch_ranks  # noqa: F401
        self._stop.check()
        device = torch.device(self._device_name)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.zeros(1, device=device)
        # Only now: until then it is not known whether this worker can work.
        self._say(None)
        done = 0
        try:
            for claim, planned in self.claimed():
                if self._settle_overtaken(planned, claim):
                    continue
                self._say(claim)
                done += self._do(planned, claim, device)
                self._held = None
                self._say(None)
                if device.type == "cuda":
                    _check_device(device)
        finally:
            self._let_go()
        return done

    def _do(self, planned: PlannedRun, claim: Claim, device: torch.device) -> bool:
        """One run from claim to release, its outcome on record; was it done?"""
        from mixbench.experiments.config import resolve
        from mixbench.experiments.worker import execute, launch_ranks

        folder = planned.folder
        outcome, is_final, trace = Outcome.FAILED, False, ""
        error: str | None = "it ended the process"
        with execute.logging_to(folder.path / "log.txt"):
            try:
                dependencies.check(planned, self._needs)
                parsed = resolve.parse(planned.config)
                if parsed.run_key != planned.run_key:
                    raise PlanMismatch(
                        f"planned as {planned.run_key}, now {parsed.run_key}: the images changed, "
                        "or mixbench did; give the sweep another name with --name"
                    )
                ranks = parsed.training.devices or 1
                with launch_ranks.group(
                    self.folder, planned.run_key, ranks, device, claim
                ) as group:
                    execute.execute(parsed, folder, device, claim, self._stop, group)
                outcome, error = Outcome.DONE, None
            except Stopped as stopped:
                outcome, error = Outcome.STOPPED, str(stopped)
                raise
            except ClaimLost as lost:
                outcome, error = Outcome.LOST, str(lost)
            except Exception as failure:
                if isinstance(failure, OSError) and failure.errno in FULL:
                    # Not the run's fault, and every other one would end like this: the worker goes.
                    outcome, error = Outcome.STOPPED, f"{failure.strerror}: {failure.filename}"
                    raise
                outcome, trace = _outcome(failure), traceback.format_exc()
                error = f"{type(failure).__name__}: {failure}"
                log.exception("run %s: %s", planned.run_key, outcome)
                if self._stop.reason is not None:
                    # What a signal raises in the middle of a library may come out as any error.
                    outcome = Outcome.STOPPED
                elif outcome == Outcome.FAILED:
                    is_final = _is_final(failure)
            finally:
                # A signal must not come between the record and the release.
                with self._stop.defer_signals():
                    if outcome == Outcome.STOPPED and folder.result() is not None:
                        outcome, error = Outcome.DONE, None
                    elif outcome != Outcome.DONE and claim.is_lost():
                        # Whatever it stumbled on: the run is another worker's.
                        outcome = Outcome.LOST
                    if outcome != Outcome.LOST:
                        attempts.record(
                            folder,
                            {**claim.body, "number": claim.number},
                            outcome,
                            error,
                            traceback=trace,
                            retries=self.retries,
                            final=is_final or outcome == Outcome.DIVERGED,
                        )
                        claim.release(outcome)
        return outcome == Outcome.DONE

    def _settle_overtaken(self, planned: PlannedRun, claim: Claim) -> bool:
        """Put on record how claims before ended, if nobody has; is the run given up with them?"""
        known = {row.get("attempt") for row in planned.folder.attempts()}
        # All of them: whoever took over from one may have died before it could say so.
        for number in range(1, claim.number):
            before = None if number in known else claims.numbered(planned.folder.path, number)
            if before is None or "released" in before:
                continue
            error = f"no sign of life from its worker {before.get('worker')}"
            attempts.record(planned.folder, before, Outcome.DIED, error, retries=self.retries)
        # By us, or by its pool since we looked.
        if planned.folder.state_on_file() is None:
            return False
        claim.release(Outcome.GIVEN_UP)
        self._held = None
        return True

    def _let_go(self) -> None:
        """Release what is held still: the worker ends between a claim and the end of its run."""
        with self._stop.defer_signals(), contextlib.suppress(OSError):
            if self._held is None:
                return
            claim, planned = self._held
            if "released" in claim.body:
                return
            if planned.folder.state_on_file() is None:
                body = {**claim.body, "number": claim.number}
                attempts.record(planned.folder, body, Outcome.STOPPED, str(sys.exception()))
            claim.release(Outcome.STOPPED)

    def claimed(self) -> Iterator[tuple[Claim, PlannedRun]]:
        """Claim one run after the other until all are done or failed, by whomever.

        While others hold what is left, this waits: their claim falls free if they die. It waits too
        while what is left needs runs that are not done. A run whose needed run is given up is
        claimed, to fail.
        """
        plan = self.folder.plan()
        self._needs = dependencies.needed(plan)
        todo = by_seed(plan, self._needs)
        given_up: list[PlannedRun] = []
        while todo:
            claimed = False
            kept = []
            tried = []
            needed_states: dict[str, str | None] = {}
            for planned in todo:
                self._stop.check()
                state = planned.folder.state_on_file()
                if state is not None:
                    if state == "failed":
                        given_up.append(planned)
                    continue
                if self._is_early(planned, needed_states):
                    kept.append(planned)
                    continue
                # A signal must not come between the claim and the knowledge of it.
                with self._stop.defer_signals():
                    claim = claims.acquire(planned.folder.path, self.name, self._watch)
                    if claim is not None:
                        self._held = claim, planned
                if claim is None:
                    kept.append(planned)
                    continue
                # The holder before us may have finished between the look and the claim.
                # So may somebody have forgiven the failed run that this one needs.
                if planned.folder.state_on_file() is not None or self._is_early(planned, {}):
                    claim.release(Outcome.NOTHING_TO_DO)
                    kept.append(planned)
                    continue
                self._stop.check()
                claimed = True
                yield claim, planned
                needed_states.clear()
                # One that is to be tried again comes after those that were not tried yet.
                tried.append(planned)
            # Somebody may have forgiven them since.
            looked_at, given_up = given_up, []
            forgiven: list[PlannedRun] = []
            for planned in looked_at:
                is_forgiven = planned.folder.state_on_file() is None
                (forgiven if is_forgiven else given_up).append(planned)
            todo = kept + tried + forgiven
            if todo and not claimed:
                if self.leave and all(
                    self._watch.somebody_works_on(planned.folder.path) for planned in todo
                ):
                    return
                time.sleep(WAIT_SECONDS)

    def _is_early(self, planned: PlannedRun, states: dict[str, str | None]) -> bool:
        """Is the run that this one needs neither done nor given up?  states: as seen so far."""
        other = self._needs.get(planned.run_key)
        if other is None:
            return False
        # Of many runs that wait for the same one, only the first has to look.
        if other.run_key not in states:
            states[other.run_key] = other.folder.state_on_file()
        return states[other.run_key] is None

    def _say(self, claim: Claim | None) -> None:
        """Let others know where this worker is, and which run it holds."""
        there = {
            "worker": self.name,
            **processes.this_process(),
            "job": processes.this_job(),
            "device": self._device_name,
            "started": self._started,
            "time": time.time(),
            "run_key": claim.path.parent.parent.name if claim else None,
            "claim": claim.number if claim else None,
        }
        place = self.folder.path / "workers"
        place.mkdir(exist_ok=True)
        atomic_write(place / f"{self.name}.json", dump(there))


def _outcome(failure: Exception) -> Outcome:
    """DIVERGED, OUT_OF_MEMORY or FAILED."""
    from mixbench.experiments.training.loop import Diverged

    if isinstance(failure, Diverged):
        return Outcome.DIVERGED
    if isinstance(failure, MemoryError) or "out of memory" in str(failure).lower():
        return Outcome.OUT_OF_MEMORY
    # torch's allocator for the CPU has no error of its own.
    if "can't allocate memory" in str(failure).lower():
        return Outcome.OUT_OF_MEMORY
    return Outcome.FAILED


def _is_final(failure: Exception) -> bool:
    """Would it only fail again?  Not where the machine may have had a part in it."""
    if isinstance(failure, UserError | PlanMismatch):
        return True
    if isinstance(failure, OSError):
        return False
    from mixbench.experiments.worker.launch_ranks import RankFailed

    if isinstance(failure, RankFailed):
        return False
    return not any(word in str(failure) for word in ("CUDA", "cuDNN", "CUBLAS", "NCCL"))


def _check_device(device: torch.device) -> None:
    """Free what a run left on the GPU; Poisoned if the GPU no longer answers this process."""
    import torch

    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        # After some errors (a failed assertion on the device) every later call fails.
        raise Poisoned(str(error)) from error


def by_seed(
    plan: list[PlannedRun], needed: Mapping[str, PlannedRun] | None = None
) -> list[PlannedRun]:
    """The plan with all cells of a seed before the next seed: half a sweep is a fair comparison.

    Of a seed, what others need (`needs.needed`) comes first.
    """
    place: dict[str, int] = {}
    rank = {}
    for planned in plan:
        rank[planned.run_key] = place.get(planned.cell_key, 0)
        place[planned.cell_key] = rank[planned.run_key] + 1
    return sorted(
        dependencies.by_need(plan, needed or {}), key=lambda planned: rank[planned.run_key]
    )


def main() -> int:
    """The command line of a worker.

    Exit status 0 when all runs are done or failed, STOPPED when it was told to stop, POISONED when
    its device is unusable and a new process should take its place, NO_STORE when the sweep's folder
    can't be written to, which a new process would find as well.
    """
    parser = argparse.ArgumentParser(description="Do runs of a sweep until none is free.")
    parser.add_argument("sweep", type=Path, help="the sweep's folder")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads of this worker")
    parser.add_argument("--name", default=f"{os.uname().nodename}-{os.getpid()}")
    parser.add_argument("--retries", type=int, default=attempts.RETRIES)
    parser.add_argument("--leave", action="store_true", help="go when others do what is left")
    parser.add_argument("--deadline", type=float, default=None, help="seconds until it must stop")
    arguments = parser.parse_args()
    if arguments.name in ("", "..") or Path(arguments.name).name != arguments.name:
        parser.error(f"--name: got {arguments.name!r}, expected a file's name")
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
        leave=arguments.leave,
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
        if error.errno not in (*FULL, errno.EACCES) and folder.path.is_dir():
            raise
        # Not even the failure could be put on record; every other run would end like this.
        print(f"{error.strerror}: {error.filename or folder.path}", file=sys.stderr)
        return NO_STORE
    return 0


if __name__ == "__main__":
    sys.exit(main())
