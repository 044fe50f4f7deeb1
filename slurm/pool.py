"""Looks after the worker processes of one machine: starts them, replaces those that die or hang.

The launcher has one for this machine, and every SLURM task has one for its allocation. The workers
outlive it: when it is killed they finish the sweep.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.signals import describe_exit
from mixbench.experiments.store import attempts, claims
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.experiments.worker.worker import NO_STORE, POISONED, STOPPED
from mixbench.slurm.local import Slot

HANG_SECONDS = 600.0
IDLE_DEATHS = 20
"""How many workers in a row may end while they hold no run before the pool gives up."""
KILL_SECONDS = 5.0


@dataclass
class _Worker:
    """One worker process. `beat` is what its claim last looked like, and since when."""

    process: subprocess.Popen[bytes]
    slot: Slot
    name: str
    log: Path
    beat: tuple[Any, float] = (None, 0.0)


@dataclass
class Pool:
    """The worker processes of one launcher or SLURM task.

    code: the snapshot that they run. retries: see `mixbench.experiments.store.attempts`.
    hang_seconds: how long a
    worker may hold a run without a sign of life. leave, deadline (seconds from now): see
    `mixbench.experiments.worker.worker`. `unusable` says why no worker can work, once that is
    known.
    """

    folder: SweepFolder
    code: Path | None = None
    retries: int = attempts.RETRIES
    hang_seconds: float = HANG_SECONDS
    leave: bool = False
    deadline: float | None = None
    unusable: str | None = None
    workers: list[_Worker] = field(default_factory=list)
    _started: int = 0
    _idle_deaths: int = 0
    _born: float = field(default_factory=time.monotonic)

    def start(self, slot: Slot) -> None:
        """Start a worker in `slot`; what it prints goes to the sweep's `workers` folder."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads)}
        if self.code is not None:
            environment |= snapshot.environment(self.code)
        device = "cpu"
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
            device = "cuda:0"
        elif "CUDA_VISIBLE_DEVICES" not in environment:
            environment["CUDA_VISIBLE_DEVICES"] = ""
        logs = self.folder.path / "workers"
        logs.mkdir(exist_ok=True)
        self._started += 1
        name = f"{os.uname().nodename}-{os.getpid()}-{self._started}"
        log = logs / f"{name}.log"
        # Of another machine's, or an earlier boot's, worker of this name.
        self._presence(name).unlink(missing_ok=True)
        command = [
            # -P: an `experiments` folder of the user's must not stand in for ours.
            *(
                sys.executable,
                "-P",
                "-m",
                "mixbench.experiments.worker.worker",
                str(self.folder.path),
            ),
            *("--device", device, "--threads", str(slot.threads), "--name", name),
            *("--retries", str(self.retries)),
            *(["--leave"] if self.leave else []),
        ]
        if self.deadline is not None:
            left = self.deadline - (time.monotonic() - self._born)
            command += ["--deadline", f"{max(0.0, left):.1f}"]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                # A Ctrl-C at the terminal is the launcher's to handle.
                start_new_session=True,
            )
        self.workers.append(_Worker(process, slot, name, log))

    def poll(self) -> int:
        """Look after the workers; how many are alive.

        One that died or hung takes at most its attempt with it, which is put on record, and is
        replaced. One that died before it claimed anything would only die again: see `unusable`.
        """
        for worker in list(self.workers):
            hung = worker.process.poll() is None and self._is_hung(worker)
            if hung:
                _kill(worker.process)
            status = worker.process.poll()
            if status is None:
                continue
            self.workers.remove(worker)
            if status in (0, STOPPED):
                continue
            try:
                if self._is_to_be_replaced(worker, status, hung):
                    self.start(worker.slot)
                else:
                    said = _last_line(worker.log)
                    self.unusable = f"a worker could not work: {said} ({worker.log})"
            except OSError as error:
                # The folder can't be written to, or is gone: the other workers find it as well.
                self.unusable = f"a worker ended, and {error.strerror}: {error.filename}"
        return len(self.workers)

    def _is_to_be_replaced(self, worker: _Worker, status: int, hung: bool) -> bool:
        """Put on record what the worker's end did; would another one fare better?"""
        if self._record_end(worker, status, hung):
            self._idle_deaths = 0
        elif status == POISONED:
            pass
        elif status == NO_STORE:
            return False
        elif self._presence(worker.name).is_file() or status == -signal.SIGKILL:
            # It could work, and ended between two runs or just before its claim; or it was killed
            # from outside.
            self._idle_deaths += 1
        else:
            return False
        return self._idle_deaths <= IDLE_DEATHS

    def stop(self, patience: float = 30.0) -> None:
        """Ask all workers to stop, and end those that don't within `patience` seconds."""
        for worker in self.workers:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        limit = time.monotonic() + patience
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                _kill(worker.process)
        self.workers.clear()

    def _presence(self, name: str) -> Path:
        return self.folder.path / "workers" / f"{name}.json"

    def _held(self, worker: _Worker) -> tuple[RunFolder, dict[str, Any]] | None:
        """The run that the worker is at, with its claim; None while it is at none.

        Another worker may have taken the run over since, because this one died or hangs.
        """
        try:
            there = json.loads(self._presence(worker.name).read_text())
            run_key, number = there["run_key"], there["claim"]
        except (OSError, ValueError, KeyError):
            return None
        if run_key is None:
            return None
        folder = RunFolder(self.folder.path / "runs" / run_key)
        claim = claims.numbered(folder.path, number)
        if not claim or claim.get("worker") != worker.name or "released" in claim:
            return None
        return folder, claim

    def _is_hung(self, worker: _Worker) -> bool:
        now = time.monotonic()
        held = self._held(worker)
        beat = None if held is None else (held[0].run_key, held[1]["number"], held[1].get("beat"))
        if beat is None or beat != worker.beat[0]:
            worker.beat = (beat, now)
        return now - worker.beat[1] > self.hang_seconds

    def _record_end(self, worker: _Worker, status: int, hung: bool) -> bool:
        """Put on record what the worker's end did to its run; did it hold one?"""
        held = self._held(worker)
        if held is None:
            return False
        folder, claim = held
        if hung:
            outcome, error = Outcome.HUNG, f"no sign of life for {self.hang_seconds:.0f} s: killed"
        else:
            outcome = Outcome.DIED
            error = f"the worker died: {describe_exit(status)}"
        if folder.result() is not None:
            outcome = Outcome.DONE
        else:
            attempts.record(
                folder, claim, outcome, error, traceback=_tail(worker.log), retries=self.retries
            )
        claims.close(folder.path, claim["number"], outcome)
        return True


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a worker and the processes that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    # Where a driver or a file server does not answer, not even SIGKILL ends a process at once.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(KILL_SECONDS)


def _tail(log: Path, size: int = 4000) -> str:
    try:
        return log.read_bytes()[-size:].decode(errors="replace")
    except OSError:
        return ""


def _last_line(log: Path) -> str:
    lines = _tail(log).strip().splitlines()
    if lines:
        return lines[-1]
    try:
        with log.open("ab") as file:
            file.write(b"\n")
    except OSError as error:
        # Nor could it have printed anything.
        return str(error.strerror)
    return "it printed nothing"
