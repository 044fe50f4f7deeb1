"""The settings that a sweep chooses while it runs, and the runs that wait for the choice.

A row of the plan may have a part in the tuning of a method:

- "tuning": a run of one setting on a tuning replicate, which is there for the choice alone.
- "tuned": a final run. Its line holds the settings to choose from, each with the key that the run
  has with it, and how one is chosen. Until then the run is *pending*: it has no folder, its key
  stands for its place, and nobody can claim it.
- "default": a final run of the same cell with the setting that the sweep gives it anyway.

The choice is `choice.CELL.json` in the sweep's folder, with all scores. It holds nothing but what
follows from the results, so that it is the same whoever makes it, and is made once. Nothing else
is written: what a pending run becomes is read from the plan and the choice. Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mixbench.experiments.design import selection
from mixbench.experiments.design.selection import Tried
from mixbench.experiments.design.tune import METRICS
from mixbench.experiments.store.files import dump, read_json, write_once
from mixbench.experiments.store.plan import PlanRow
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line

SCHEMA = 1
TUNING, TUNED, DEFAULT = "tuning", "tuned", "default"
DOSE = "mix/dose"
_FILE = re.compile(r"choice\.[0-9a-f]{16}\.json")

Draw = tuple[int | None, int | None]


@dataclass(frozen=True)
class Setting:
    """One of the settings of a cell: its values, and its runs on the tuning replicates."""

    values: Mapping[str, Any]
    cell_key: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True)
class Tuned:
    """A cell whose setting is chosen: how, from which settings, and the file of the choice."""

    cell_key: str
    path: Path
    how: Mapping[str, Any]
    settings: tuple[Setting, ...]

    @property
    def runs(self) -> list[PlannedRun]:
        """Its tuning runs."""
        return [run for setting in self.settings for run in setting.runs]

    def choice(self) -> dict[str, Any] | None:
        """The choice; None while there is none, or none that can be used."""
        choice = read_json(self.path)
        is_own = choice is not None and choice.get("cell_key") == self.cell_key
        known = {setting.cell_key for setting in self.settings}
        return choice if is_own and choice and choice.get("chosen") in known else None

    def problem(self) -> str:
        """Why no setting can be chosen as things stand; "" where nothing is in the way."""
        if self.path.exists() and self.choice() is None:
            return f"{self.path.name} can't be used; without it a worker chooses again"
        for run in self.runs:
            if run.folder.state_on_file() == RunState.FAILED:
                error = first_line((run.folder.failure() or {}).get("error"))
                return f"the tuning run {_named(run)} failed: {error or 'no reason is known'}"
        if any(len(setting.runs) < len(self.how["draws"]) for setting in self.settings):
            return "not all of its tuning runs are planned"
        if not self.is_due():
            return ""
        metric = self.how["metric"]
        for run in self.runs:
            if _number(run, metric) is None:
                return f"the tuning run {_named(run)} has no {metric}"
        return ""

    def is_due(self) -> bool:
        """Are all tuning runs done, so that a setting can be chosen?"""
        return all(run.folder.state_on_file() == RunState.DONE for run in self.runs)

    def make(self) -> bool:
        """Choose a setting if that is possible and nobody has; was it chosen here?"""
        if self.path.exists() or not self.is_due() or self.problem():
            return False
        return write_once(self.path, dump(self.decide()))

    def decide(self) -> dict[str, Any]:
        """What the choice is, by the results of the tuning runs."""
        metric = str(self.how["metric"])
        tried = [_tried(setting, metric) for setting in self.settings]
        better, over = METRICS[metric], self.how["over"]
        chosen = selection.choose(tried, better, self.how["rule"], over)
        return {
            "schema": SCHEMA,
            "cell_key": self.cell_key,
            "method": self.runs[0].config["augmentation"]["name"],
            "metric": metric,
            "better": "higher" if better > 0 else "lower",
            "rule": self.how["rule"],
            "replicates": [run.config.get("replicate") for run in self.settings[0].runs],
            "chosen": self.settings[chosen].cell_key,
            "values": dict(self.settings[chosen].values),
            "best": self.settings[selection.best(tried, better)].cell_key,
            "settings": [
                {
                    "values": dict(setting.values),
                    "cell_key": setting.cell_key,
                    "runs": [run.run_key for run in setting.runs],
                    "scores": list(one.scores),
                    "mean": one.mean,
                    "standard_error": one.standard_error,
                    "dose": one.dose,
                }
                for setting, one in zip(self.settings, tried, strict=True)
            ],
        }


@dataclass(frozen=True)
class Pending(RunFolder):
    """The place of a run whose setting is still to be chosen: there is no folder.

    It is waiting, or failed where no setting can be chosen, for as long as that is so.
    """

    tuned: Tuned | None = field(default=None, compare=False)

    def state_on_file(self) -> RunState | None:
        """FAILED where no setting can be chosen; None otherwise."""
        return RunState.FAILED if self.failure() else None

    def state(self) -> RunState:
        """FAILED where no setting can be chosen, else WAITING."""
        return self.state_on_file() or RunState.WAITING

    def failure(self) -> dict[str, Any] | None:
        """Why no setting can be chosen; None where nothing is in the way."""
        problem = self.tuned.problem() if self.tuned else ""
        error = f"its setting can't be chosen: {problem}"
        return {"error": error, "traceback": "", "attempt": 0} if problem else None


def count(names: Iterable[str]) -> int:
    """How many choices there are among the names of a sweep's files."""
    return sum(_FILE.fullmatch(name) is not None for name in names)


def path_of(sweep: Path, cell_key: str) -> Path:
    """Where the choice of a cell is."""
    return sweep / f"choice.{cell_key}.json"


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
    found = []
    for row, run in zip(rows, runs, strict=True):
        if run.part != TUNED:
            found.append(run)
        elif row.cell_key in choices:
            found.append(_chosen(sweep, row, cells[row.cell_key], choices[row.cell_key]))
        else:
            folder = Pending(run.folder.path, cells[row.cell_key])
            found.append(replace(run, folder=folder, pending=True))
    chosen = {run.run_key for run in found if run.part == TUNED}
    return [run if run.part == TUNED or run.run_key not in chosen else None for run in found]


def as_planned(sweep: Path, row: PlanRow) -> PlannedRun:
    """The run of a row as it is without any choice."""
    folder = RunFolder(sweep / "runs" / row.run_key)
    return PlannedRun(row.run_key, row.cell_key, row.config, folder, row.pretraining, row.tune)


def tuned_cells(sweep: Path, runs: Sequence[PlannedRun]) -> list[Tuned]:
    """The cells of a plan whose settings are chosen, with the runs that they are chosen by."""
    by_draw: dict[tuple[str, Draw], PlannedRun] = {}
    of_cell: dict[str, PlannedRun] = {}
    for run in runs:
        if run.part == TUNING:
            by_draw[run.cell_key, _draw(run.config)] = run
        elif run.part == TUNED:
            of_cell.setdefault(run.cell_key, run)
    cells = []
    for key, run in of_cell.items():
        how = run.tune or {}
        draws: list[Draw] = [(replicate, seed) for replicate, seed in how["draws"]]
        settings = tuple(
            Setting(
                setting["values"],
                setting["cell_key"],
                tuple(
                    by_draw[setting["cell_key"], draw]
                    for draw in draws
                    if (setting["cell_key"], draw) in by_draw
                ),
            )
            for setting in how["settings"]
        )
        cells.append(Tuned(key, path_of(sweep, key), how, settings))
    return cells


def still_to_choose(sweep: Path, plan: Sequence[PlannedRun]) -> list[Tuned]:
    """The cells of a plan with runs that wait for the choice of their setting."""
    pending = {run.cell_key for run in plan if run.pending}
    return [cell for cell in tuned_cells(sweep, plan) if cell.cell_key in pending]


def make(cells: Iterable[Tuned]) -> list[str]:
    """Choose the settings that can be chosen now; return the cells for which it was done here."""
    return [cell.cell_key for cell in cells if cell.make()]


def _chosen(sweep: Path, row: PlanRow, cell: Tuned, choice: Mapping[str, Any]) -> PlannedRun:
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


def _tried(setting: Setting, metric: str) -> Tried:
    scores = [_number(run, metric) for run in setting.runs]
    doses = [_number(run, DOSE) for run in setting.runs]
    known = [dose for dose in doses if dose is not None]
    return Tried(
        setting.values,
        tuple(score for score in scores if score is not None),
        math.fsum(known) / len(known) if known else None,
    )


def _number(run: PlannedRun, metric: str) -> float | None:
    value = ((run.folder.result() or {}).get("metrics") or {}).get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _draw(config: Mapping[str, Any]) -> Draw:
    return config.get("replicate"), config.get("seed")


def _named(run: PlannedRun) -> str:
    values = ", ".join(f"{key} {value}" for key, value in (run.tune or {})["values"].items())
    return f"{run.run_key[:8]} ({run.config['augmentation']['name']}, {values})"
