"""The pretrainings of a sweep: described under `pretrain:`, used by cells as start or teacher.

    pretrain:
      other_half: {dataset: {name: fashion_mnist, split_seed: 1}, training: {epochs: 30}}
    grid:
      transfer.weights: [null, pretrain:other_half]

A pretraining takes `model` and `evaluation` from the cell that starts from it, unless it has its
own. Everything else that it leaves out has its usual default, whatever `fixed` says. The same for
`teacher.weights`: there the model is `teacher.model`, and unless that is given the teacher has the
network of its pretraining.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mixbench.experiments.config.schema import RunConfig, check_key
from mixbench.experiments.config.teacher import errors_of_teacher, teacher_run
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import merge
from mixbench.experiments.store.dependencies import CELL, cell_of
from mixbench.experiments.sweep.cell_parser import Cell, CellParser, Draw

PREFIX = "pretrain:"
FROM_THE_CELL = ("model", "evaluation")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Pretrainings:
    """The pretraining runs that the cells of one sweep need.

    descriptions: `pretrain` of the sweep. overrides: dotted keys below it, NAME.SECTION.KEY.
    """

    def __init__(
        self,
        descriptions: Any,
        draws: Sequence[Draw],
        parser: CellParser,
        overrides: Mapping[str, Any],
    ) -> None:
        self._descriptions = _checked(descriptions)
        self._draws = draws
        self.tuning_draws: Sequence[Draw] = ()
        """Of runs that tune a method: the pretrainings that they start from are there for these."""
        self._parser = parser
        self._overrides: dict[str, list[tuple[str, Any]]] = {}
        for key, value in overrides.items():
            name, _, rest = key.partition(".")
            if name not in self._descriptions:
                raise unknown("pretraining in --set", name, self._descriptions)
            self._overrides.setdefault(name, []).append((rest, value))
        # (name, sections taken from the cell, as JSON) -> cell key.
        self._cell_keys: dict[tuple[str, str], str] = {}
        self._names: dict[str, str] = {}
        self.cells: dict[str, Cell] = {}
        """The pretrainings' cells by their keys, in the order in which they are needed."""

    def resolve(self, cell: dict[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the cell with the keys of the pretrainings that it names, start and teacher."""
        name = _pretraining_in(cell, "transfer")
        if name is not None:
            key = self._pretraining_key(name, cell, above)
            cell = merge(cell, (), [("transfer.weights", f"{CELL}{key}")])
        name = _pretraining_in(cell, "teacher")
        if name is None:
            return cell
        own = cell["teacher"].get("model")
        as_teacher = cell if own is None else {**cell, "model": own}
        with errors_of_teacher():
            key = self._pretraining_key(name, as_teacher, above)
        model = self.cells[key].runs[0].model.model_dump(mode="json", exclude_none=True)
        changes = [("teacher.weights", f"{CELL}{key}")]
        return merge(cell, (), changes if own is not None else [*changes, ("teacher.model", model)])

    def check_network(self, run: RunConfig) -> None:
        """Raise UserError where the network of `run` is another than that of its pretraining.

        Likewise for its teacher's.
        """
        uses = (run, "starts from it"), (teacher_run(run), "has it as its teacher")
        for user, what in uses:
            weights = user.transfer.weights if user is not None and user.transfer else None
            key = cell_of({"transfer": {"weights": weights}})
            if key is None or user is None:
                continue
            network = _network(self.cells[key].runs[0])
            if network != _network(user):
                raise UserError(
                    f"pretrain.{self._names[key]}: its network is {network}, but the cell that "
                    f"{what} has {_network(user)}"
                )

    def check_used(self) -> None:
        """Raise UserError for a pretraining that no cell starts from."""
        used = {name for name, _ in self._cell_keys}
        for name in self._descriptions:
            if name not in used:
                raise UserError(
                    f"pretrain.{name}: no cell starts from it; give transfer.weights (or "
                    f"teacher.weights): {PREFIX}{name} to some, or leave it out"
                )

    def _description(self, name: str) -> dict[str, Any]:
        if name in self._descriptions:
            return self._descriptions[name]
        if not self._descriptions:
            raise UserError(
                f"transfer.weights: got {PREFIX + name!r}, but the sweep has no `pretrain`"
            )
        raise unknown("pretraining", name, self._descriptions)

    def _pretraining_key(self, name: str, cell: dict[str, Any], above: tuple[str, ...]) -> str:
        """Return the key of the pretraining that `cell` needs, and add it to `cells`."""
        description = self._description(name)
        if name in above:
            circle = " from ".join([*above[above.index(name) :], name])
            raise UserError(f"pretrain: a circle, {circle}")
        inherited = {part: cell[part] for part in FROM_THE_CELL if part in cell}
        identity = name, json.dumps(inherited, sort_keys=True, default=repr)
        if identity in self._cell_keys:
            return self._cell_keys[identity]
        raw = merge(inherited, description.items(), self._overrides.get(name, ()))
        raw = self.resolve(raw, (*above, name))
        try:
            for draw in ("seed", "replicate"):
                if draw in raw:
                    raise UserError(
                        f"{draw}: the pretraining has that of the run that starts from it"
                    )
            pretraining = self._parser.parse(raw, [*self._draws, *self.tuning_draws])
        except UserError as error:
            raise UserError(f"pretrain.{name}: {error}") from None
        self._names.setdefault(pretraining.key, name)
        self.check_network(pretraining.runs[0])
        self.cells[pretraining.key] = pretraining
        self._cell_keys[identity] = pretraining.key
        return pretraining.key


def _pretraining_in(cell: Mapping[str, Any], section: str) -> str | None:
    """Return the name of the pretraining whose weights a section of the cell names, if it does."""
    given = cell.get(section)
    weights = given.get("weights") if isinstance(given, dict) else None
    if not isinstance(weights, str):
        return None
    if weights.startswith(CELL):
        raise UserError(
            f"{section}.weights: got {weights!r}; in a sweep give pretrain:NAME, and describe "
            "NAME under `pretrain`"
        )
    return weights.removeprefix(PREFIX) if weights.startswith(PREFIX) else None


def _checked(descriptions: Any) -> dict[str, dict[str, Any]]:
    if descriptions is None:
        return {}
    if not isinstance(descriptions, dict) or not descriptions:
        raise UserError(f"pretrain: got {descriptions!r}, expected a mapping of names to runs")
    for name, run in descriptions.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"pretrain: got the name {name!r}, expected letters, digits, dashes and underscores"
            )
        if not isinstance(run, dict) or not run:
            raise UserError(f"pretrain.{name}: got {run!r}, expected sections such as `dataset`")
        for key in run:
            check_key(key, f"pretrain.{name}")
    return descriptions


def _network(run: RunConfig) -> str:
    model = run.model
    width = f" of width {model.width}" if model.width is not None else ""
    return f"{model.name}{width}{' with a small stem' if model.small_stem else ''}"
