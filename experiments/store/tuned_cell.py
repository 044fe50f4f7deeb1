"""A cell whose setting is chosen: its tuning runs, the looks at them, and the choice.

Looks and choices hold nothing but what follows from what the runs left, so that they are the same
whoever makes them; each is written once, whole. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixbench.experiments.design import selection
from mixbench.experiments.design.selection import Tried
from mixbench.experiments.design.tune import METRICS, Halving
from mixbench.experiments.store.files import dump, read_json, write_once
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import first_line

SCHEMA = 1
TUNING, TUNED, DEFAULT = "tuning", "tuned", "default"
DOSE = "mix/dose"

Draw = tuple[int | None, int | None]


@dataclass(frozen=True)
class Setting:
    """One of the settings of a cell: its values, and its runs on the tuning replicates."""

    values: Mapping[str, Any]
    cell_key: str
    runs: tuple[PlannedRun, ...]

    def epoch_of(self, share: float) -> int:
        """The epoch at which so much of its training is done."""
        return self.runs[0].epoch_of(share)


@dataclass(frozen=True)
class TunedCell:
    """A cell whose setting is chosen.

    sweep: the sweep's folder. how: what decides, as the plan has it. looks: those that were taken
    at its tuning runs, where poor settings are stopped early.
    """

    cell_key: str
    sweep: Path
    how: Mapping[str, Any]
    settings: tuple[Setting, ...]
    looks: tuple[Mapping[str, Any], ...] = ()

    @property
    def path(self) -> Path:
        """Where the choice is."""
        return self.sweep / f"choice.{self.cell_key}.json"

    @property
    def runs(self) -> list[PlannedRun]:
        """Its tuning runs."""
        return [run for setting in self.settings for run in setting.runs]

    @property
    def shares(self) -> tuple[float, ...]:
        """The shares of a training at which it is looked at."""
        return tuple((self.how.get("halving") or {}).get("at", ()))

    def left(self) -> list[Setting]:
        """The settings that go on after the looks so far."""
        kept = set(self.looks[-1]["kept"]) if self.looks else None
        return [one for one in self.settings if kept is None or one.cell_key in kept]

    def stopped_at(self, setting: Setting) -> int | None:
        """The epoch after which a setting was stopped; None if it goes on."""
        for look in self.looks:
            if setting.cell_key not in look["kept"]:
                return setting.epoch_of(look["share"])
        return None

    def until(self, setting: Setting) -> int | None:
        """The epoch after which its runs wait for the next look; None if none comes."""
        if len(self.looks) == len(self.shares):
            return None
        return setting.epoch_of(self.shares[len(self.looks)])

    def mean_share(self) -> float:
        """The mean share of their training that the settings get which go on after the looks."""
        first = count = len(self.left())
        halving = Halving(self.shares, (self.how.get("halving") or {}).get("keep", 1.0))
        before, total = 0.0, 0.0
        for level, share in enumerate((*self.shares, 1.0)):
            total += count * (share - before)
            before = share
            if level >= len(self.looks):
                count = halving.left(count, 1)
        return total / first

    def ended(self) -> int:
        """How many of its tuning runs are done, or stopped."""
        left = [run for setting in self.left() for run in setting.runs]
        done = sum(run.folder.state_on_file() == RunState.DONE for run in left)
        return len(self.runs) - len(left) + done

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
        path = look_path(self.sweep, self.cell_key, len(self.looks) + 1)
        if len(self.looks) < len(self.shares) and path.exists() and read_json(path) is None:
            return f"{path.name} can't be used; without it a worker looks again"
        left = [run for setting in self.left() for run in setting.runs]
        for run in left:
            if run.folder.state_on_file() == RunState.FAILED:
                error = first_line((run.folder.failure() or {}).get("error"))
                return f"the tuning run {_named(run)} failed: {error or 'no reason is known'}"
        if any(len(setting.runs) < len(self.how["draws"]) for setting in self.settings):
            return "not all of its tuning runs are planned"
        if not all(run.folder.state_on_file() == RunState.DONE for run in left):
            return ""
        metric = self.how["metric"]
        for run in left:
            if _number(run, metric) is None:
                return f"the tuning run {_named(run)} has no {metric}"
            for share in self.shares[len(self.looks) :]:
                if _at(run, metric, run.epoch_of(share)) is None:
                    return f"the tuning run {_named(run)} has no {metric} of an earlier epoch"
        return ""

    def make(self) -> bool:
        """Take the next look, or choose, if that is possible and nobody has; was it done here?"""
        if self.path.exists() or self.problem():
            return False
        if len(self.looks) < len(self.shares):
            look = self.next_look()
            path = look_path(self.sweep, self.cell_key, len(self.looks) + 1)
            return look is not None and not path.exists() and write_once(path, dump(look))
        left = [run for setting in self.left() for run in setting.runs]
        if not all(run.folder.state_on_file() == RunState.DONE for run in left):
            return False
        return write_once(self.path, dump(self.decide()))

    def next_look(self) -> dict[str, Any] | None:
        """Which settings go on, by the epochs so far; None while a run has not got there."""
        metric, level = str(self.how["metric"]), len(self.looks)
        share, left = self.shares[level], self.left()
        rows = []
        for setting in left:
            epoch = setting.epoch_of(share)
            scores = [_at(run, metric, epoch) for run in setting.runs]
            known = [score for score in scores if score is not None]
            if len(known) < len(scores):
                return None
            rows.append((setting, epoch, Tried(setting.values, tuple(known))))
        halving = self.how["halving"]
        number = Halving(tuple(halving["at"]), halving["keep"]).left(len(left), 1)
        order = selection.ranked([tried for _, _, tried in rows], METRICS[metric])
        kept = {rows[place][0].cell_key for place in order[:number]}
        return {
            "schema": SCHEMA,
            "cell_key": self.cell_key,
            "share": share,
            "metric": metric,
            "kept": [setting.cell_key for setting in left if setting.cell_key in kept],
            "settings": [
                {
                    "values": dict(setting.values),
                    "cell_key": setting.cell_key,
                    "epoch": epoch,
                    "scores": list(tried.scores),
                    "mean": tried.mean,
                    "standard_error": tried.standard_error,
                }
                for setting, epoch, tried in rows
            ],
        }

    def decide(self) -> dict[str, Any]:
        """What the choice is, by the results of the tuning runs."""
        metric, left = str(self.how["metric"]), self.left()
        tried = [_tried(setting, metric) for setting in left]
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
            "chosen": left[chosen].cell_key,
            "values": dict(left[chosen].values),
            "best": left[selection.best(tried, better)].cell_key,
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
                for setting, one in zip(left, tried, strict=True)
            ],
            **({"stopped": list(self._stopped())} if self.looks else {}),
        }

    def _stopped(self) -> Iterator[dict[str, Any]]:
        """The settings that were stopped early, with their scores at that time."""
        for look in self.looks:
            for one in look["settings"]:
                if one["cell_key"] not in look["kept"]:
                    yield one


def look_path(sweep: Path, cell_key: str, number: int) -> Path:
    """Where a look at the tuning runs of a cell is; the first is number 1."""
    return sweep / f"look.{cell_key}.{number}.json"


def tuned_cells(sweep: Path, runs: Sequence[PlannedRun]) -> list[TunedCell]:
    """The cells of a plan whose settings are chosen, with the runs that they are chosen by."""
    by_draw: dict[tuple[str, Draw], PlannedRun] = {}
    of_cell: dict[str, PlannedRun] = {}
    for run in runs:
        if run.part == TUNING:
            # As it is on disk, whatever it waits for.
            own = replace(run, folder=RunFolder(run.folder.path))
            by_draw[(run.tune or {})["setting"], _draw(run.config)] = own
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
        cells.append(TunedCell(key, sweep, how, settings, tuple(_looks(sweep, key, how))))
    return cells


def _looks(sweep: Path, cell_key: str, how: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The looks that were taken, in order; a later one is none without those before it."""
    left = {setting["cell_key"] for setting in how["settings"]}
    for number in range(1, len((how.get("halving") or {}).get("at", ())) + 1):
        look = read_json(look_path(sweep, cell_key, number)) or {}
        kept = set(look.get("kept") or ())
        if look.get("cell_key") != cell_key or not kept or not kept <= left:
            return
        left = kept
        yield look


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
    return _finite(((run.folder.result() or {}).get("metrics") or {}).get(metric))


def _at(run: PlannedRun, metric: str, epoch: int) -> float | None:
    """A metric of a run after an epoch; None before that."""
    rows = (row for row in run.folder.metrics() if row.get("epoch") == epoch)
    return _finite(next(rows, {}).get(metric))


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _draw(config: Mapping[str, Any]) -> Draw:
    return config.get("replicate"), config.get("seed")


def _named(run: PlannedRun) -> str:
    values = ", ".join(f"{key} {value}" for key, value in (run.tune or {})["values"].items())
    return f"{run.run_key[:8]} ({run.config['augmentation']['name']}, {values})"
