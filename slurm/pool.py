"""The workers of one machine: start them, replace those that die or hang.

The launcher has a pool for this machine, and every SLURM task has one for its allocation. The
workers outlive it: when it is killed they finish the sweep.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

from mixbench.experiments.signals import describe_exit
from mixbench.experiments.store import attempts, claims
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.experiments.worker.exit_status import NO_STORE, POISONED, STOPPED
from mixbench.slurm.local import Slot
from mixbench.slurm.processes import Process, Processes

HANG_SECONDS = 600.0
IDLE_DEATHS = 20
"""How many workers in a row may end while they hold no run before the pool gives up."""


class Pool(Processes):
    """The workers of one launcher or SLURM task.

    code: the snapshot that they run. retries: see `mixbench.experiments.store.attempts`.
    hang_seconds: how long a worker may hold a run without a heartbeat. exit_when_idle, deadline
    (seconds from now): see `mixbench.experiments.worker`.
    """

    patience: ClassVar[float] = 30.0

    def __init__(
        self,
        folder: SweepFolder,
        code: Path | None = None,
        *,
        retries: int = attempts.RETRIES,
        hang_seconds: float = HANG_SECONDS,
        exit_when_idle: bool = False,
        deadline: float | None = None,
    ) -> None:
        super().__init__(folder, deadline)
        self.code = code
        self.retries = retries
        self.hang_seconds = hang_seconds
        self.exit_when_idle = exit_when_idle
        self._idle_deaths = 0

    def _command(self, slot: Slot, name: str) -> list[str]:
        # A worker of this name on another machine, or before a reboot, may have left it.
        self._worker_file(name).unlink(missing_ok=True)
        left = self._seconds_left()
        return [
            *("mixbench.experiments.worker", str(self.folder.path)),
            *("--device", "cpu" if slot.gpu is None else "cuda:0"),
            *("--threads", str(slot.threads), "--name", name),
            *("--retries", str(self.retries)),
            *(["--exit-when-idle"] if self.exit_when_idle else []),
            *(["--deadline", f"{left:.1f}"] if left is not None else []),
        ]

    def _environment(self) -> dict[str, str]:
        return {} if self.code is None else snapshot.environment(self.code)

    def _log(self, name: str) -> Path:
        folder = self.folder.path / "workers"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"

    def _ended(self, process: Process, status: int) -> None:
        """Record how the worker's attempt ended, and replace the worker.

        A worker that died before it claimed a run is not replaced: see `unusable`.
        """
        if status in (0, STOPPED):
            return
        try:
            if self._is_to_be_replaced(process, status):
                self.start(process.slot)
            else:
                self.unusable = (
                    f"a worker could not work: {_last_line(process.log)} ({process.log})"
                )
        except OSError as error:
            # The folder can't be written to, or is gone: the other workers find it as well.
            self.unusable = f"a worker ended, and {error.strerror}: {error.filename}"

    def _is_to_be_replaced(self, process: Process, status: int) -> bool:
        """Record how the worker ended; would a new one do better?"""
        if self._record_end(process, status):
            self._idle_deaths = 0
        elif status == POISONED:
            pass
        elif status == NO_STORE:
            return False
        elif self._worker_file(process.name).is_file() or status == -signal.SIGKILL:
            # It could work, and ended between two runs or just before its claim; or it was killed
            # from outside.
            self._idle_deaths += 1
        else:
            return False
        return self._idle_deaths <= IDLE_DEATHS

    def _worker_file(self, name: str) -> Path:
        return self.folder.path / "workers" / f"{name}.json"

    def _held_run(self, process: Process) -> tuple[RunFolder, dict[str, Any]] | None:
        """Return the run that the worker holds, with its claim; None while it holds none.

        Another worker may have claimed the run since, because this one died or hangs.
        """
        try:
            worker = json.loads(self._worker_file(process.name).read_text())
            run_key, number = worker["run_key"], worker["claim"]
        except (OSError, ValueError, KeyError):
            return None
        if run_key is None:
            return None
        folder = RunFolder(self.folder.path / "runs" / run_key)
        claim = claims.numbered(folder.path, number)
        if not claim or claim.get("worker") != process.name or "released" in claim:
            return None
        return folder, claim

    def _is_hung(self, process: Process) -> bool:
        now = time.monotonic()
        held = self._held_run(process)
        beat = None
        if held is not None:
            folder, claim = held
            beat = (folder.run_key, claim["number"], claim.get("beat"))
        if beat is None or beat != process.heartbeat[0]:
            process.heartbeat = (beat, now)
        return now - process.heartbeat[1] > self.hang_seconds

    def _record_end(self, process: Process, status: int) -> bool:
        """Record the end of the worker's attempt; did it hold a run?"""
        held = self._held_run(process)
        if held is None:
            return False
        folder, claim = held
        if process.was_hung:
            outcome, error = Outcome.HUNG, f"no heartbeat for {self.hang_seconds:.0f} s: killed"
        else:
            outcome, error = Outcome.DIED, f"the worker died: {describe_exit(status)}"
        if folder.result() is not None:
            outcome = Outcome.DONE
        else:
            attempts.record(
                folder,
                claim,
                outcome,
                error,
                traceback=_tail(process.log),
                retries=self.retries,
            )
        claims.close(folder.path, claim["number"], outcome)
        return True


def _tail(log: Path | None, size: int = 4000) -> str:
    try:
        return log.read_bytes()[-size:].decode(errors="replace") if log is not None else ""
    except OSError:
        return ""


def _last_line(log: Path | None) -> str:
    lines = _tail(log).strip().splitlines()
    if lines:
        return lines[-1]
    try:
        if log is not None:
            with log.open("ab") as file:
                file.write(b"\n")
    except OSError as error:
        # Nor could it have printed anything.
        return str(error.strerror)
    return "it printed nothing"
