"""The processes of one machine that measure finished runs: `mixbench.experiments.worker.evaluate`.

`mixbench evaluate` has them on this machine, every SLURM task that measures has them in its
allocation. They find their runs themselves, by claims.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from mixbench.experiments.signals import describe_exit
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.store.tuned_cell import TUNING
from mixbench.slurm.local import Slot
from mixbench.slurm.processes import Process, Processes


class Order(NamedTuple):
    """What to measure of a sweep's finished runs.

    wanted: measurement -> all its settings. since: a time in seconds; what is older counts as
    missing. tuning_runs: measure the runs that choose a setting too.
    """

    wanted: dict[str, dict[str, Any]]
    since: float | None = None
    tuning_runs: bool = False

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read what `text` wrote."""
        return cls(**json.loads(text))

    def text(self) -> str:
        """Write it as a SLURM task is given it, and as the record of its job keeps it."""
        return json.dumps(self._asdict())

    def of(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Return the ones of `runs` that are to be measured at all."""
        return [run for run in runs if self.tuning_runs or run.part != TUNING]

    def missing(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Return the finished ones of `runs` of which something is missing."""
        return [
            run
            for run in self.of(runs)
            if run.folder.state_on_file() == RunState.DONE and self._missing(run)
        ]

    def count_measured(self, runs: Sequence[PlannedRun]) -> int:
        """Count the measurements of `runs` that exist."""
        return sum(len(self.wanted) - len(self._missing(run)) for run in self.of(runs))

    def _missing(self, run: PlannedRun) -> list[str]:
        return evaluations.missing(run.folder, self.wanted, self.since)


class Measurers(Processes):
    """The measuring processes of one launcher or SLURM task.

    deadline: seconds from now at which they are stopped. `unusable` says, when all have ended, how
    those ended that failed. None is replaced: a new process would fail at the same measurement, and
    the others take over its runs.
    """

    patience: ClassVar[float] = 10.0

    def __init__(self, folder: SweepFolder, order: Order, deadline: float | None = None) -> None:
        super().__init__(folder, deadline)
        self.order = order
        self._failures: list[str] = []

    def poll(self) -> int:
        if self._deadline is not None and time.monotonic() > self._deadline:
            self.stop()
            return 0
        return super().poll()

    def _command(self, slot: Slot, name: str) -> list[str]:
        since = self.order.since
        return [
            *("mixbench.experiments.worker.evaluate", str(self.folder.path)),
            *("--device", "cpu" if slot.gpu is None else "cuda"),
            *("--threads", str(slot.threads), "--name", name),
            *("--wanted", json.dumps(self.order.wanted)),
            *(["--since", repr(since)] if since is not None else []),
            *(["--tuning-runs"] if self.order.tuning_runs else []),
        ]

    def _ended(self, _process: Process, status: int) -> None:
        if status:
            self._failures.append(describe_exit(status))
        if self._failures and not self.running:
            failures = ", ".join(dict.fromkeys(self._failures))
            self.unusable = f"measuring processes that did not measure everything: {failures}"
