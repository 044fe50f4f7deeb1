"""Processes of one machine that work on a sweep: start them, watch them, end them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.local import Slot

KILL_SECONDS = 5.0


@dataclass
class Process:
    """One process in its slot.

    log: where its output goes; None where this process prints. heartbeat: the last heartbeat of the
    run that it holds, and when that was first seen.
    """

    popen: subprocess.Popen[bytes]
    slot: Slot
    name: str
    log: Path | None = None
    heartbeat: tuple[Any, float] = (None, 0.0)
    was_hung: bool = False


class Processes(ABC):
    """The processes that one launcher or SLURM task has started for a sweep.

    A subclass says which command they run and what follows when one ends. `unusable` says why they
    can't do the work, once that is known. deadline: seconds from now.
    """

    patience: ClassVar[float]
    """Seconds that `stop` waits, by default, before it kills."""

    def __init__(self, folder: SweepFolder, deadline: float | None = None) -> None:
        self.folder = folder
        self.unusable: str | None = None
        self.running: list[Process] = []
        self.started = 0
        self._deadline = None if deadline is None else time.monotonic() + deadline

    @abstractmethod
    def _command(self, slot: Slot, name: str) -> list[str]:
        """Return the module that a process in `slot` runs, and its arguments."""

    @abstractmethod
    def _ended(self, process: Process, status: int) -> None:
        """Act on the end of a process, which is no longer in `running`."""

    def _is_hung(self, _process: Process) -> bool:
        """Is a running process to be killed?"""
        return False

    def _log(self, _name: str) -> Path | None:
        """Return the file for the output of a process; None: it prints where this one does."""
        return None

    def _environment(self) -> dict[str, str]:
        """Return environment variables of the processes, beside those of this one."""
        return {}

    def start(self, slot: Slot) -> None:
        """Start a process in `slot`."""
        self.started += 1
        name = f"{os.uname().nodename}-{os.getpid()}-{self.started}"
        # -P: in a checkout, its `mixbench/` must not stand in for the copy that is to run.
        command = [sys.executable, "-P", "-m", *self._command(slot, name)]
        environment = {**os.environ, **slot.environment(), **self._environment()}
        log = self._log(name)
        with log.open("wb") if log is not None else contextlib.nullcontext() as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                env=environment,
                # A Ctrl-C at the terminal is the launcher's to handle.
                start_new_session=True,
            )
        self.running.append(Process(popen, slot, name, log))

    def poll(self) -> int:
        """Look after the processes; return how many are running."""
        for process in list(self.running):
            if process.popen.poll() is None and self._is_hung(process):
                process.was_hung = True
                kill(process)
            status = process.popen.poll()
            if status is not None:
                self.running.remove(process)
                self._ended(process, status)
        return len(self.running)

    def stop(self, patience: float | None = None) -> None:
        """Ask all processes to stop; kill those that don't within `patience` seconds."""
        for process in self.running:
            with contextlib.suppress(ProcessLookupError):
                process.popen.send_signal(signal.SIGTERM)
        limit = time.monotonic() + (self.patience if patience is None else patience)
        for process in self.running:
            try:
                process.popen.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                kill(process)
        self.running.clear()

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


def kill(process: Process) -> None:
    """Kill a process and those that it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.popen.pid, signal.SIGKILL)
    process.popen.kill()
    # SIGKILL does not end a process that waits for a driver or a file server.
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.popen.wait(KILL_SECONDS)
