"""The tuning of a sweep: what is tried for each of its cells, and the runs that wait for it.

A cell is tuned over the keys of `tune.over` that it has: a method without `alpha` over the others,
and a run without augmentation over none that is about mixing. What has nothing to tune is trained
as it is.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mixbench.experiments.config import keys
from mixbench.experiments.config.schema import RunConfig, check_key
from mixbench.experiments.config.training import TrainingConfig
from mixbench.experiments.design import tune as tunes
from mixbench.experiments.design.tune import Halving, Tune
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.merge import flatten, merge
from mixbench.experiments.store.choices import DEFAULT, TUNED, TUNING
from mixbench.experiments.store.dependencies import SECTIONS, cell_of
from mixbench.experiments.sweep.cell_parser import Cell, CellParser, Draw
from mixbench.experiments.sweep.pretraining import Pretrainings

MOST_SETTINGS = 1000
"""Of one cell: far more than anybody trains."""
_Tried = tuple[dict[str, Any], Cell]
"""A setting, and its runs on all replicates, the final ones first."""


@dataclass(frozen=True)
class TunedCell:
    """A cell with its tuning.

    Attributes:
        tuned: Its final runs, whose keys stand for their places until a setting is chosen.
        default: Its final runs as the sweep has them anyway.
        settings: Its tuning runs, a cell for each setting.
        parts: run_key -> part in the tuning, as the plan holds it.
        left_out: The keys of `tune.over` that it doesn't have.
    """

    tuned: Cell
    default: Cell
    settings: tuple[Cell, ...]
    parts: Mapping[str, Mapping[str, Any]]
    left_out: tuple[str, ...] = ()


@dataclass
class Tuning:
    """Tunes the cells of one sweep, one after the other.

    tune: as the sweep declares it; None tunes nothing. overridden: keys that `--set` fixes.
    """

    tune: Tune | None
    draws: Sequence[Draw]
    parser: CellParser
    pretrainings: Pretrainings
    overridden: Sequence[str] = ()
    untuned: list[RunConfig] = field(default_factory=list)
    """A run of each cell that has nothing to tune."""
    cells: dict[str, TunedCell] = field(default_factory=dict)
    """By the keys of the tuned cells."""

    def __post_init__(self) -> None:
        for key in self.tune.over if self.tune else ():
            check_key(key, "tune.over")

    @property
    def tuning_draws(self) -> list[Draw]:
        """The tuning replicates, each with its number as its seed."""
        return [(number, number) for number in self.tune.replicates] if self.tune else []

    def add(self, raw: dict[str, Any], cell: Cell) -> TunedCell | None:
        """Return the tuning of a cell; None where it has nothing to tune, or nothing is tuned.

        raw: what the cell was made of.
        """
        if self.tune is None:
            return None
        over = self._over(cell.runs[0])
        if not over:
            self.untuned.append(cell.runs[0])
            return None
        number = math.prod(map(len, over.values()))
        if number > MOST_SETTINGS:
            raise UserError(
                f"tune.over: {' x '.join(str(len(values)) for values in over.values())} = "
                f"{number:,} settings of one cell, expected at most {MOST_SETTINGS:,}"
            )
        tried: dict[str, _Tried] = {}
        for values in itertools.product(*over.values()):
            setting = dict(zip(over, values, strict=True))
            one = self._setting(raw, setting)
            if one.key in tried:
                raise UserError(
                    f"tune.over: {_text(tried[one.key][0])} and {_text(setting)} are the same run "
                    f"once defaults are filled in (augmentation {_method(cell)})"
                )
            tried[one.key] = setting, one
        tuned = self._tuned(self.tune, cell, over, list(tried.values()))
        if tuned.tuned.key in self.cells:
            raise UserError(
                f"tune.over: two cells are the same once they are tuned over {', '.join(over)} "
                f"(augmentation {_method(cell)}); leave out one, or what they are tuned over"
            )
        self.cells[tuned.tuned.key] = tuned
        return tuned

    def names(self) -> dict[str, str]:
        """Return "tuned" or "default" for the cells that are either."""
        tuned = dict.fromkeys(self.cells, TUNED)
        return tuned | {cell.default.key: DEFAULT for cell in self.cells.values()}

    def with_needed_draws(self, key: str, pretraining: Cell, is_compared: bool) -> Cell:
        """Return a pretraining without tuning replicates where no tuning run starts from it."""
        number = len(self.draws)
        if len(pretraining.runs) == number:
            return pretraining
        if key not in self._needed():
            return Cell(pretraining.key, pretraining.run_keys[:number], pretraining.runs[:number])
        if is_compared:
            raise UserError(
                "tune: a cell of the sweep is the pretraining of runs that are tuned, and would "
                "have to be trained on the tuning replicates too; leave the cell out of the grid, "
                "or let the pretraining differ from it"
            )
        return pretraining

    def _needed(self) -> set[str]:
        """Return the pretrainings that tuning runs start from, directly or not."""
        waiting = [one.runs[0] for cell in self.cells.values() for one in cell.settings]
        needed: set[str] = set()
        while waiting:
            key = cell_of(waiting.pop().model_dump(include=set(SECTIONS)))
            if key is not None and key not in needed:
                needed.add(key)
                waiting.append(self.pretrainings.cells[key].runs[0])
        return needed

    def check_used(self) -> None:
        """Raise UserError for a key that no cell has, and where nothing is tuned at all."""
        if self.tune is None:
            return
        used = {
            key
            for cell in self.cells.values()
            for key in self.tune.over
            if key not in cell.left_out
        }
        runs = [*self.untuned, *(cell.default.runs[0] for cell in self.cells.values())]
        for key in self.tune.over:
            if key not in used:
                known = sorted({name for run in runs for name in _settings(run) if _has(run, name)})
                raise UserError(
                    f"tune.over: no cell of the sweep has {key!r}{did_you_mean(key, known)}"
                )

    def _over(self, run: RunConfig) -> dict[str, Sequence[Any]]:
        """Return what a run can be tuned over."""
        over = self.tune.over if self.tune else {}
        fixed = tuple(self.overridden)
        return {
            key: values
            for key, values in over.items()
            if _has(run, key)
            and not any(key == name or key.startswith(f"{name}.") for name in fixed)
        }

    def _setting(self, raw: dict[str, Any], values: dict[str, Any]) -> Cell:
        """Return the runs of a setting on all replicates, the final ones first."""
        try:
            changed = merge(raw, values.items())
            return self.parser.parse(
                self.pretrainings.resolve(changed), [*self.draws, *self.tuning_draws]
            )
        except UserError as error:
            raise UserError(f"tune.over ({_text(values)}): {error}") from None

    def _tuned(
        self,
        tune: Tune,
        cell: Cell,
        over: Mapping[str, Sequence[Any]],
        tried: list[_Tried],
    ) -> TunedCell:
        number = len(self.draws)
        how = {
            **tune.how(),
            "over": {key: list(values) for key, values in over.items()},
            "draws": [list(draw) for draw in self.tuning_draws],
        }
        key = _digest([how, [one.key for _, one in tried]])
        places = [_digest([key, *draw]) for draw in self.draws]
        parts: dict[str, Mapping[str, Any]] = {}
        for place, run_key in enumerate(places):
            settings = [
                {"values": values, "cell_key": one.key, "run_key": one.run_keys[place]}
                for values, one in tried
            ]
            parts[run_key] = {"part": TUNED, **how, "settings": settings}
        for _, one in tried if tune.halving else ():
            _check_looks(tune.halving, one.runs[0].training)
        settings_cells = []
        for values, one in tried:
            runs = Cell(one.key, one.run_keys[number:], one.runs[number:])
            settings_cells.append(runs)
            part = {"part": TUNING, "of": key, "values": values}
            parts |= dict.fromkeys(runs.run_keys, part)
        if tune.default:
            part = {"part": DEFAULT, "of": key, "over": list(over)}
            parts |= dict.fromkeys(cell.run_keys, part)
        left_out = tuple(name for name in tune.over if name not in over)
        return TunedCell(Cell(key, places, cell.runs), cell, tuple(settings_cells), parts, left_out)


def _check_looks(halving: Halving | None, training: TrainingConfig) -> None:
    """Raise UserError for two looks at one epoch, one at the end or one without validation."""
    at, epochs = halving.at if halving else (), training.epochs
    looks = [max(1, math.ceil(share * epochs - 1e-9)) for share in at]
    if len({*looks, epochs}) <= len(looks):
        raise UserError(
            f"tune.halving.at: got {list(at)}, which are the epochs "
            f"{', '.join(map(str, looks))} of {epochs}; expected different ones before the last"
        )
    unseen = [look for look in looks if not training.validates(look)]
    if unseen:
        raise UserError(
            f"tune.halving.at: got {list(at)}, which looks at epoch {unseen[0]}, but "
            f"training.validate_every is {training.validate_every}; expected looks at epochs that "
            "are validated"
        )


def _has(run: RunConfig, key: str) -> bool:
    """Has a run what a key is about?"""
    if run.augmentation["name"] == "none" and tunes.is_mixing(key):
        return False
    section, _, rest = key.partition(".")
    if section == "augmentation":
        return rest.partition(".")[0] in run.augmentation
    if section in ("transfer", "teacher"):
        return getattr(run, section) is not None
    if key == "model.width":
        return run.model.width is not None
    return True


def _settings(run: RunConfig) -> list[str]:
    """Return the dotted keys of a run that can be tuned."""
    flat = flatten(run.model_dump(mode="json", include=set(tunes.SECTIONS)))
    return [key for key in flat if "." in key and key != "augmentation.name"]


def _method(cell: Cell) -> str:
    return str(cell.runs[0].augmentation["name"])


def _text(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _digest(value: Any) -> str:
    return hashlib.sha256(keys.to_json(value).encode()).hexdigest()[:16]
