"""The settings that a sweep chooses while it runs, and the runs that wait for the choice.

A row of the plan may have a part in the tuning of a method:

- "tuning": a run of one setting on a tuning replicate, which is there for the choice alone.
- "tuned": a final run. Its line holds the settings to choose from, each with the key that the run
  has with it, and how one is chosen. Until then the run is *pending*: it has no folder, its key
  stands for its place, and nobody can claim it.
- "default": a final run of the same cell with the setting that the sweep gives it anyway.

The choice is `choice.CELL.json` in the sweep's folder, with all scores; a look that stops poor
settings is `look.CELL.N.json`. Nothing else is written: what a run becomes with them is read from
the plan and these files. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mixbench.experiments.store.plan import PlanRow
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.tuned_cell import DEFAULT, TUNED, TUNING, TunedCell, tuned_cells

__all__ = ["DEFAULT", "TUNED", "TUNING", "TunedCell", "tuned_cells"]
_FILE = re.compile(r"choice\.[0-9a-f]{16}\.json|look\.[0-9a-f]{16}\.\d+\.json")


@dataclass(frozen=True)
class Pending(RunFolder):
    """The place of a run whose setting is still to be chosen: there is no folder.

    It is waiting, or failed where no setting can be chosen, for as long as that is so.
    """

    cell: TunedCell | None = field(default=None, compare=False)

    def state_on_file(self) -> RunState | None:
        """FAILED where no setting can be chosen; None otherwise."""
        return RunState.FAILED if self.failure() else None

    def state(self) -> RunState:
        """FAILED where no setting can be chosen, else WAITING."""
        return self.state_on_file() or RunState.WAITING

    def failure(self) -> dict[str, Any] | None:
        """Why no setting can be chosen; None where nothing is in the way."""
        problem = self.cell.problem() if self.cell else ""
        return _because(f"its setting can't be chosen: {problem}") if problem else None


@dataclass(frozen=True)
class Halved(RunFolder):
    """The folder of a tuning run of settings of which poor ones are stopped early.

    A run that was stopped is done, without a result. One that waits for a look is waiting, or
    failed where the look can't be taken, for as long as that is so.
    """

    cell: TunedCell | None = field(default=None, compare=False)
    until: int | None = field(default=None, compare=False)
    stopped: bool = field(default=False, compare=False)

    def state_on_file(self) -> RunState | None:
        """As of any run, but DONE where it was stopped."""
        own = super().state_on_file()
        if own == RunState.DONE or self.stopped:
            return RunState.DONE
        return RunState.FAILED if own or self._waits_in_vain() else None

    def failure(self) -> dict[str, Any] | None:
        """As of any run; or why the look that it waits for can't be taken."""
        own = super().failure()
        if own is not None or not self._waits_in_vain():
            return own
        problem = self.cell.problem() if self.cell else ""
        return _because(f"the look that it waits for can't be taken: {problem}")

    def _waits_in_vain(self) -> bool:
        return bool(self.cell and self.is_paused() and self.cell.problem())

    def is_paused(self) -> bool:
        """Has it got as far as it goes before the next look?"""
        if self.until is None:
            return False
        rows = self.metrics()
        return bool(rows) and int(rows[-1].get("epoch") or 0) >= self.until


def _because(error: str) -> dict[str, Any]:
    return {"error": error, "traceback": "", "attempt": 0}


def count(names: Iterable[str]) -> int:
    """How many choices and looks there are among the names of a sweep's files."""
    return sum(_FILE.fullmatch(name) is not None for name in names)


def planned(sweep: Path, rows: Sequence[PlanRow]) -> list[PlannedRun]:
    """The runs of a plan, those with a chosen setting as what they are with it.

    A run of the default setting that is chosen too is one run, and counts as the chosen one.
    """
    return [run for run in by_row(sweep, rows) if run is not None]


def by_row(sweep: Path, rows: Sequence[PlanRow]) -> list[PlannedRun | None]:
    """As `planned`, for each row: None where its run is that of another row."""
    runs = [as_planned(sweep, row) for row in rows]
    if all(row.tune is None for row in rows):
        return list(runs)
    cells = {cell.cell_key: cell for cell in tuned_cells(sweep, runs)}
    choices = {key: choice for key, cell in cells.items() if (choice := cell.choice())}
    halved = dict(_halved(cells.values()))
    found = []
    for row, run in zip(rows, runs, strict=True):
        if run.part != TUNED:
            found.append(halved.get(run.run_key, run))
        elif row.cell_key in choices:
            found.append(_chosen(sweep, row, cells[row.cell_key], choices[row.cell_key]))
        else:
            folder = Pending(run.folder.path, cells[row.cell_key])
            found.append(replace(run, folder=folder, pending=True))
    # By keys, the first row of each; a default that was chosen too comes after the chosen one.
    first = {run.run_key: place for place, run in reversed(list(enumerate(found)))}
    first |= {
        run.run_key: place for place, run in reversed(list(enumerate(found))) if run.part == TUNED
    }
    return [run if first[run.run_key] == place else None for place, run in enumerate(found)]


def as_planned(sweep: Path, row: PlanRow) -> PlannedRun:
    """The run of a row as it is without any choice.

    Tuning runs are cells of their own: a final cell may have the same setting.
    """
    folder = RunFolder(sweep / "runs" / row.run_key)
    cell_key, tune = row.cell_key, row.tune
    if tune is not None and tune["part"] == TUNING:
        tune = {**tune, "setting": cell_key}
        cell_key = hashlib.sha256(f"{tune['of']} {cell_key}".encode()).hexdigest()[:16]
    return PlannedRun(row.run_key, cell_key, row.config, folder, row.pretraining, tune)


def still_to_choose(sweep: Path, plan: Sequence[PlannedRun]) -> list[TunedCell]:
    """The cells of a plan with runs that wait for the choice of their setting."""
    pending = {run.cell_key for run in plan if run.pending}
    return [cell for cell in tuned_cells(sweep, plan) if cell.cell_key in pending]


def make(cells: Iterable[TunedCell]) -> list[str]:
    """Choose the settings that can be chosen now; return the cells for which it was done here."""
    return [cell.cell_key for cell in cells if cell.make()]


def _halved(cells: Iterable[TunedCell]) -> Iterator[tuple[str, PlannedRun]]:
    """The tuning runs, by their keys, that wait for a look or were stopped by one."""
    known = list(cells)
    uses = Counter(run.run_key for cell in known for run in cell.runs)
    for cell in known:
        for setting in cell.settings if cell.shares else ():
            # What two sweeps at once tune in two ways is trained to the end.
            runs = [run for run in setting.runs if uses[run.run_key] == 1]
            stopped_at = cell.stopped_at(setting) if runs else None
            until = cell.until(setting) if runs and stopped_at is None else None
            for run in runs if stopped_at or until else ():
                folder = Halved(run.folder.path, cell, until, stopped_at is not None)
                yield run.run_key, replace(run, folder=folder, until=until, stopped_at=stopped_at)


def _chosen(sweep: Path, row: PlanRow, cell: TunedCell, choice: Mapping[str, Any]) -> PlannedRun:
    """The final run of a row with the setting that was chosen."""
    at = next(at for at, one in enumerate(cell.settings) if one.cell_key == choice["chosen"])
    run_key = (row.tune or {})["settings"][at]["run_key"]
    tried = cell.settings[at].runs[0].config
    # As the tuning runs were, but for what is drawn.
    draws = {key: row.config[key] for key in ("dataset", "seed", "replicate") if key in row.config}
    config = {key: value for key, value in tried.items() if key != "replicate"} | draws
    folder = RunFolder(sweep / "runs" / run_key)
    tune = {**(row.tune or {}), "chosen": choice["values"]}
    return PlannedRun(run_key, row.cell_key, config, folder, False, tune, row.config)
