"""The processes of one machine that measure a sweep's finished runs:
`mixbench.experiments.worker.evaluate`.

`mixbench evaluate` has them on this machine, every SLURM task that measures has them in its
allocation. They find their runs themselves, by claims.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from mixbench.experiments.signals import describe_exit
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm.local import Slot

PATIENCE_SECONDS = 10.0


class Order(NamedTuple):
    """What is to be measured of a sweep's finished runs.

    wanted: measurement -> all its settings. since: a time in seconds; what is older counts as
    missing.
    """

    wanted: dict[str, dict[str, Any]]
    since: float | None = None

    @classmethod
    def parse(cls, text: str) -> Order:
        """The one of which `text` was made."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """As a SLURM task is given it, and as the record of its job keeps it."""
        return json.dumps(self._asdict())

    def missing(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """The finished ones of `runs` of which something is missing."""
        return [
            run
            for run in runs
            if run.folder.state_on_file() == RunState.DONE and self._missing(run)
        ]

    def made(self, runs: Sequence[PlannedRun]) -> int:
        """How many of the measurements of `runs` there are."""
        return sum(len(self.wanted) - len(self._missing(run)) for run in runs)

    def _missing(self, run: PlannedRun) -> list[str]:
        return evaluations.missing(run.folder, self.wanted, self.since)


class Measurers:
    """The measuring processes of one launcher or SLURM task; used as `mixbench.slurm.pool.Pool` is.

    deadline: seconds from now at which they are stopped. `unusable` says, when all have ended, how
    those ended that did not do all they could. None is replaced: what one of them can't measure, or
    dies of, the next one couldn't either, and its runs fall to the others.
    """

    def __init__(self, folder: SweepFolder, order: Order, deadline: float | None = None) -> None:
        self.folder = folder
        self.order = order
        self.unusable: str | None = None
        self._deadline = None if deadline is None else time.monotonic() + deadline
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ends: list[str] = []
        self._started = 0

    def start(self, slot: Slot) -> None:
        """Start a process in `slot`; it prints where this one prints."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(slot.threads)}
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
        self._started += 1
        command = [
            # -P: an `experiments` folder of the user's must not stand in for ours.
            *(
                sys.executable,
                "-P",
                "-m",
                "mixbench.experiments.worker.evaluate",
                str(self.folder.path),
            ),
            *("--device", "cpu" if slot.gpu is None else "cuda", "--threads", str(slot.threads)),
            *("--name", f"{os.uname().nodename}-{os.getpid()}-{self._started}"),
            *("--wanted", json.dumps(self.order.wanted)),
            *(["--since", repr(self.order.since)] if self.order.since is not None else []),
        ]
        # In a session of its own: a Ctrl-C at the terminal is the launcher's to handle.
        self._processes.append(
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        )

    def poll(self) -> int:
        """Look after the processes; how many are alive."""
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stop()
            return 0
        for process in list(self._processes):
            status = process.poll()
            if status is None:
                continue
            self._processes.remove(process)
            if status:
                self._ends.append(describe_exit(status))
        if self._ends and not self._processes:
            ends = ", ".join(dict.fromkeys(self._ends))
            self.unusable = f"measuring processes that did not measure everything: {ends}"
        return len(self._processes)

    def stop(self, patience: float = PATIENCE_SECONDS) -> None:
        """Ask all processes to stop, and end those that don't within `patience` seconds."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        limit = time.monotonic() + patience
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, limit - time.monotonic()))
            process.kill()
        self._processes.clear()
