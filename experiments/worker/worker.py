"""A worker: execute the runs of a sweep until all are done or failed.

The same worker serves a laptop, every GPU of a server and a cluster's job array. Start more at any
time, kill any at any time.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from mixbench.experiments.errors import UserError
from mixbench.experiments.signals import Stop, Stopped
from mixbench.experiments.store import attempts, claims, dependencies, processes, rights
from mixbench.experiments.store.claims import Claim, ClaimLost
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.claim_loop import ClaimLoop
from mixbench.experiments.worker.exit_status import describe, is_disk_full
from mixbench.experiments.worker.failures import DONE, Ending, PlanMismatch, ending_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


class Poisoned(Exception):
    """The device is unusable in this process after an error; a new process can go on."""


class Worker:
    """One process that does runs of a sweep; `workers/NAME.json` says where it is and what it does.

    retries: how often a run may fail without getting further. exit_when_idle: see `ClaimLoop`.
    """

    def __init__(
        self,
        folder: SweepFolder,
        device: str,
        name: str,
        *,
        stop: Stop | None = None,
        retries: int = attempts.RETRIES,
        exit_when_idle: bool = False,
    ) -> None:
        self.folder = folder
        self.name = name
        self.retries = retries
        self._device_name = device
        self._stop = stop or Stop(folder.stop_reason)
        self.runs = ClaimLoop(
            folder, name, self._stop, exit_when_idle=exit_when_idle, knows=_is_known
        )
        self._started = time.time()

    def work(self) -> int:
        """Do runs until all are done or failed; returns how many this worker did."""
        device = self._start()
        done = 0
        try:
            for claim, planned in self.runs:
                if self._settle_overtaken(planned, claim):
                    continue
                self._write_presence(claim)
                done += self._attempt(planned, claim, device)
                self.runs.held = None
                self._write_presence(None)
                if device.type == "cuda":
                    _check_device(device)
        finally:
            self._release_held()
        return done

    def _start(self) -> torch.device:
        """Import what runs need and wake the device."""
        self._stop.check()
        # A signal in the middle of an import can turn into any error.
        with self._stop.defer_signals():
            import torch

            # Every run needs these: without them, this worker would fail each of them.
            from mixbench.experiments.worker import execute, launch_ranks  # noqa: F401
        self._stop.check()
        device = torch.device(self._device_name)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            torch.zeros(1, device=device)
        # Only now: before, it is not known whether this worker can work.
        self._write_presence(None)
        return device

    def _attempt(self, planned: PlannedRun, claim: Claim, device: torch.device) -> bool:
        """Do one run from claim to release and record how it ended; is it done?"""
        from mixbench.experiments.training.control import Paused
        from mixbench.experiments.worker import execute

        ending = Ending()
        with execute.logging_to(planned.folder.path / "log.txt"):
            try:
                self._execute(planned, claim, device)
                ending = DONE
            except Paused as paused:
                ending = Ending(Outcome.PAUSED, str(paused))
            except Stopped as stopped:
                ending = Ending(Outcome.STOPPED, str(stopped))
                raise
            except ClaimLost as lost:
                ending = Ending(Outcome.LOST, str(lost))
            except Exception as failure:
                if isinstance(failure, OSError) and is_disk_full(failure):
                    # Not the run's fault, and all other runs would fail the same way: end.
                    ending = Ending(Outcome.STOPPED, describe(failure, self.folder.path))
                    raise
                if isinstance(failure, OSError) and rights.is_refusal(failure):
                    # Nor this: another user, or this one with more rights, can do it.
                    ending = Ending(Outcome.STOPPED, describe(failure, self.folder.path))
                    self.runs.refused[planned.run_key] = failure
                else:
                    ending = ending_of(failure)
                log.exception("run %s: %s", planned.run_key, ending.outcome)
                if self._stop.reason is not None:
                    # A signal in the middle of a library may surface as any error.
                    ending = replace(ending, outcome=Outcome.STOPPED, is_final=False)
            finally:
                ending = self._record(planned, claim, ending)
        return ending.outcome == Outcome.DONE

    def _execute(self, planned: PlannedRun, claim: Claim, device: torch.device) -> None:
        """Train and measure the run on as many devices as it wants."""
        from mixbench.experiments.config import resolve
        from mixbench.experiments.worker import execute, launch_ranks

        dependencies.check_not_failed(planned, self.runs.needs)
        config = resolve.parse(planned.config)
        if config.run_key != planned.run_key:
            raise PlanMismatch(
                f"planned as {planned.run_key}, now {config.run_key}: the images changed, "
                "or mixbench did; give the sweep another name with --name"
            )
        size = config.training.devices or 1
        with launch_ranks.group(self.folder, planned.run_key, size, device, claim) as ranks:
            execute.execute(config, planned.folder, device, claim, self._stop, ranks, planned.until)

    def _record(self, planned: PlannedRun, claim: Claim, ending: Ending) -> Ending:
        """Put the end of an attempt on record and release the run; returns how it did end."""
        # A signal must not come between the record and the release.
        with self._stop.defer_signals():
            if ending.outcome == Outcome.STOPPED and planned.folder.result() is not None:
                ending = DONE
            elif ending.outcome != Outcome.DONE and claim.is_lost():
                # Whatever it stumbled on: the run is another worker's.
                ending = replace(ending, outcome=Outcome.LOST)
            if ending.outcome != Outcome.LOST:
                attempts.record(
                    planned.folder,
                    claim.as_recorded(),
                    ending.outcome,
                    ending.error,
                    traceback=ending.traceback,
                    retries=self.retries,
                    final=ending.is_final,
                )
                claim.release(ending.outcome)
        return ending

    def _settle_overtaken(self, planned: PlannedRun, claim: Claim) -> bool:
        """Record how earlier claims ended, if nobody has; has the run failed with them?"""
        recorded = {row.get("attempt") for row in planned.folder.attempts()}
        # All of them: whoever took over from one may have died before it could say so.
        for number in range(1, claim.number):
            if number in recorded:
                continue
            earlier = claims.numbered(planned.folder.path, number)
            if earlier is None or "released" in earlier:
                continue
            error = f"no heartbeat from its worker {earlier.get('worker')}"
            attempts.record(planned.folder, earlier, Outcome.DIED, error, retries=self.retries)
        # By us, or by its pool since we looked.
        if planned.folder.state_on_file() is None:
            return False
        claim.release(Outcome.GIVEN_UP)
        self.runs.held = None
        return True

    def _release_held(self) -> None:
        """Release what is held still: the worker ends between a claim and the end of its run."""
        with self._stop.defer_signals(), contextlib.suppress(OSError):
            if self.runs.held is None:
                return
            claim, planned = self.runs.held
            if "released" in claim.body:
                return
            if planned.folder.state_on_file() is None:
                reason = str(sys.exception())
                # Where even that can't be written, the claim must not look like a dead worker's.
                with contextlib.suppress(OSError):
                    attempts.record(planned.folder, claim.as_recorded(), Outcome.STOPPED, reason)
            claim.release(Outcome.STOPPED)

    def _write_presence(self, claim: Claim | None) -> None:
        """Let others know where this worker is, and which run it holds."""
        presence = {
            "worker": self.name,
            "folder": str(self.folder.path),
            **processes.this_process(),
            "job": processes.this_job(),
            "device": self._device_name,
            "started": self._started,
            "time": time.time(),
            "run_key": claim.run_key if claim else None,
            "claim": claim.number if claim else None,
        }
        folder = self.folder.path / "workers"
        folder.mkdir(exist_ok=True)
        atomic_write(folder / f"{self.name}.json", dump(presence))


def _is_known(planned: PlannedRun) -> bool:
    """Does the code of this worker make the same run of its configuration?

    A sweep may have been grown with newer code than that of a worker which runs already.
    """
    from mixbench.experiments.config import resolve

    try:
        return resolve.parse(planned.config).run_key == planned.run_key
    except UserError:
        return False


def _check_device(device: torch.device) -> None:
    """Free what a run left on the GPU; Poisoned if the GPU no longer answers this process."""
    import torch

    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
    except RuntimeError as error:
        # After some errors (a failed assertion on the device) every later call fails.
        raise Poisoned(str(error)) from error
