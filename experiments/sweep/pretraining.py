"""The pretrainings of a sweep: described once under `pretrain:`, started from by cells.

    pretrain:
      other_half: {dataset: {name: fashion_mnist, split_seed: 1}, training: {epochs: 30}}
    grid:
      transfer.weights: [null, pretrain:other_half]

A pretraining takes `model` and `evaluation` from the cell that starts from it, where it does not
say them itself, and nothing else: what it leaves out has its usual default, whatever `fixed` says.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mixbench.experiments.config import schema
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import merge
from mixbench.experiments.store.dependencies import CELL, cell_of
from mixbench.experiments.sweep.grid import Grid

PREFIX = "pretrain:"
FROM_THE_CELL = ("model", "evaluation")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Pretrainings:
    """Finds out which pretraining runs the cells of one sweep need.

    described: `pretrain` of the sweep. overrides: dotted keys below it, NAME.SECTION.KEY.
    """

    def __init__(
        self,
        described: Any,
        seeds: Sequence[int],
        grid: Grid,
        overrides: Mapping[str, Any],
    ) -> None:
        self._described = _checked(described)
        self._seeds = seeds
        self._grid = grid
        self._overrides: dict[str, list[tuple[str, Any]]] = {}
        for key, value in overrides.items():
            name, _, rest = key.partition(".")
            if name not in self._described:
                raise unknown("pretraining in --set", name, self._described)
            self._overrides.setdefault(name, []).append((rest, value))
        self._found: dict[tuple[str, str], str] = {}
        self._named: dict[str, str] = {}
        self.cells: dict[str, tuple[list[str], list[RunConfig]]] = {}
        """Cell key -> run keys and runs, what is needed first."""

    def resolve(self, cell: dict[str, Any], above: tuple[str, ...] = ()) -> dict[str, Any]:
        """The cell with the key of the pretraining that it starts from, if it names one."""
        transfer = cell.get("transfer")
        weights = transfer.get("weights") if isinstance(transfer, dict) else None
        if not isinstance(weights, str):
            return cell
        if weights.startswith(CELL):
            raise UserError(
                f"transfer.weights: got {weights!r}; in a sweep give pretrain:NAME, and describe "
                "NAME under `pretrain`"
            )
        if not weights.startswith(PREFIX):
            return cell
        key = self._cell(weights.removeprefix(PREFIX), cell, above)
        return merge(cell, (), [("transfer.weights", f"{CELL}{key}")])

    def check(self, run: RunConfig) -> None:
        """UserError where the network of `run` is another than that of its pretraining."""
        weights = run.transfer.weights if run.transfer is not None else None
        key = cell_of({"transfer": {"weights": weights}})
        if key is None:
            return
        _, (first, *_) = self.cells[key]
        if _network(first) != _network(run):
            raise UserError(
                f"pretrain.{self._named[key]}: its network is {_network(first)}, but the cell "
                f"that starts from it has {_network(run)}"
            )

    def check_used(self) -> None:
        """UserError for a pretraining that no cell starts from."""
        used = {name for name, _ in self._found}
        for name in self._described:
            if name not in used:
                raise UserError(
                    f"pretrain.{name}: no cell starts from it; give transfer.weights: "
                    f"{PREFIX}{name} to some, or leave it out"
                )

    def _known(self, name: str) -> dict[str, Any]:
        if name in self._described:
            return self._described[name]
        if not self._described:
            raise UserError(
                f"transfer.weights: got {PREFIX + name!r}, but the sweep has no `pretrain`"
            )
        raise unknown("pretraining", name, self._described)

    def _cell(self, name: str, cell: dict[str, Any], above: tuple[str, ...]) -> str:
        """The key of the pretraining that `cell` needs, which is then among `cells`."""
        description = self._known(name)
        if name in above:
            circle = " from ".join([*above[above.index(name) :], name])
            raise UserError(f"pretrain: a circle, {circle}")
        taken = {part: cell[part] for part in FROM_THE_CELL if part in cell}
        place = name, json.dumps(taken, sort_keys=True, default=repr)
        if place in self._found:
            return self._found[place]
        raw = merge(taken, description.items(), self._overrides.get(name, ()))
        raw = self.resolve(raw, (*above, name))
        try:
            if "seed" in raw:
                raise UserError("seed: the pretraining has that of the run that starts from it")
            key, run_keys, made = self._grid.runs(raw, self._seeds)
        except UserError as error:
            raise UserError(f"pretrain.{name}: {error}") from None
        self._named.setdefault(key, name)
        self.check(made[0])
        self.cells[key] = run_keys, made
        self._found[place] = key
        return key


def _checked(described: Any) -> dict[str, dict[str, Any]]:
    if described is None:
        return {}
    if not isinstance(described, dict) or not described:
        raise UserError(f"pretrain: got {described!r}, expected a mapping of names to runs")
    for name, run in described.items():
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UserError(
                f"pretrain: got the name {name!r}, expected letters, digits, dashes and underscores"
            )
        if not isinstance(run, dict) or not run:
            raise UserError(f"pretrain.{name}: got {run!r}, expected sections such as `dataset`")
        for key in run:
            schema.check_key(key, f"pretrain.{name}")
    return described


def _network(run: RunConfig) -> str:
    model = run.model
    width = f" of width {model.width}" if model.width is not None else ""
    return f"{model.name}{width}{' with a small stem' if model.small_stem else ''}"
