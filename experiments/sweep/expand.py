"""A sweep description becomes its runs, all of them different."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mixbench.experiments.config.schema import RunConfig, check_key
from mixbench.experiments.config.tasks import task_in
from mixbench.experiments.design import decide
from mixbench.experiments.design import tune as tunes
from mixbench.experiments.design.tune import Tune
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import matches
from mixbench.experiments.store import choices
from mixbench.experiments.sweep import declared, grid, scales
from mixbench.experiments.sweep.cell_parser import Cell, CellParser, Draw
from mixbench.experiments.sweep.pretraining import Pretrainings
from mixbench.experiments.sweep.tuning import Tuning

KEYS = (
    *("name", "description", "baseline", "fallback", "fixed", "grid", "zip", "include"),
    *("exclude", "seeds", "replicates", "tune", "question", "decide", "pretrain", "scales"),
)
MOST_RUNS = 200_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Sweep:
    """A named list of runs, in order, all different."""

    name: str
    description: str
    runs: tuple[RunConfig, ...]
    keys: tuple[tuple[str, str], ...]
    """The run key and the cell key of each run."""
    spec: dict[str, Any]
    pretraining: frozenset[str] = frozenset()
    """The cells that are there only because others start from their weights."""
    tune: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """run_key -> the run's part in the tuning of a method, see `store.choices`."""

    @property
    def cells(self) -> int:
        """How many configurations are compared, seeds and replicates aside."""
        return len({cell_key for _, (_, cell_key) in self.compared()})

    def compared(self) -> Iterator[tuple[RunConfig, tuple[str, str]]]:
        """Yield the runs that are compared, with their run and cell keys.

        Not those that are there for others: pretrainings, and the tuning of methods.
        """
        for run, pair in zip(self.runs, self.keys, strict=True):
            if pair[1] not in self.pretraining and not self.is_tuning(pair[0]):
                yield run, pair

    def is_tuning(self, run_key: str) -> bool:
        """Is a run there only to choose the setting of others?"""
        return self.tune.get(run_key, {}).get("part") == choices.TUNING

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield (run_key, cell_key, configuration) of each run, for `SweepFolder.create`."""
        cell: tuple[str, dict[str, Any]] = ("", {})
        for run, (run_key, cell_key) in zip(self.runs, self.keys, strict=True):
            if cell[0] != cell_key:
                cell = (cell_key, run.model_dump(mode="json"))
            yield run_key, cell_key, _with_draw(cell[1], run)


def united(sweeps: Sequence[Sweep]) -> Sweep:
    """Return the first sweep with the runs that only others of the same name have."""
    first, *others = sweeps
    if not others:
        return first
    runs = {keys: run for one in sweeps for keys, run in zip(one.keys, one.runs, strict=True)}
    tune = {key: part for one in reversed(sweeps) for key, part in one.tune.items()}
    compared = {cell for one in sweeps for _, cell in one.keys if cell not in one.pretraining}
    only = frozenset(cell for _, cell in runs if cell not in compared)
    # Pretrainings come first, as they are the first to be done.
    keys = sorted(runs, key=lambda pair: pair[1] not in only)
    return replace(
        first,
        runs=tuple(runs[pair] for pair in keys),
        keys=tuple(keys),
        pretraining=only,
        tune=tune,
    )


def expand(spec: dict[str, Any], overrides: dict[str, Any] | None = None) -> Sweep:
    """Return all runs of a sweep description; UserError if it is wrong or describes no run.

    overrides: dotted key -> value, set in every cell; an axis of that key is no longer one. Keys
    that begin with `pretrain.NAME.` are for that pretraining alone.
    """
    if not isinstance(spec, dict):
        raise UserError(f"a sweep is a mapping with the keys {', '.join(KEYS)}, got {spec!r}")
    if "scales" in spec:
        spec = scales.select(spec, None)
    for key in spec:
        if key not in (*KEYS, "scale"):
            raise unknown("key in the sweep", key, KEYS)
    name = checked_name(spec.get("name"))
    draws = checked_draws(spec)
    overrides = overrides or {}
    for_cells, for_pretrainings = _split_overrides(overrides)
    raw_cells = list(grid.cells(spec, for_cells))
    spec = declared.with_metrics(spec, task_in(raw_cells[:1]))
    question = declared.read(spec)
    looks = decide.read(spec)
    tune = _read_tune(spec, draws)
    if not raw_cells:
        raise UserError(f"sweep {name!r} has no runs: exclude removes every cell")
    if len(raw_cells) * len(draws) > MOST_RUNS:
        raise UserError(
            f"sweep {name!r}: {len(raw_cells):,} cells with {len(draws):,} runs each are "
            f"{len(raw_cells) * len(draws):,} runs, expected at most {MOST_RUNS:,}"
        )
    parser = CellParser()
    pretrainings = Pretrainings(spec.get("pretrain"), draws, parser, for_pretrainings)
    tuning = Tuning(tune, draws, parser, pretrainings, tuple(for_cells))
    pretrainings.tuning_draws = tuning.tuning_draws
    cells = _parse_cells(name, spec, raw_cells, tuning)
    if not overrides:
        # An override may have removed the baseline, or what is asked about; the report says so.
        _check_baseline(spec.get("baseline"), cells)
        question = question if looks is None else looks.question
        if question is not None:
            compared = {key: cell.runs[0] for key, cell in cells.items()}
            declared.check(question, compared, spec.get("baseline"), tuning.names())
        pretrainings.check_used()
        tuning.check_used()
    only = {
        key: tuning.with_needed_draws(key, cell, key in cells)
        for key, cell in pretrainings.cells.items()
    }
    only = {key: cell for key, cell in only.items() if key not in cells}
    for part in ("description", "fallback"):
        if not isinstance(spec.get(part) or "", str):
            raise UserError(f"{part}: got {spec[part]!r}, expected text")
    # Pretrainings come first in the plan, as they are the first to be done.
    tried = [setting for cell in tuning.cells.values() for setting in cell.settings]
    planned = [*only.values(), *tried, *cells.values()]
    return Sweep(
        name=name,
        description=str(spec.get("description") or "").strip(),
        runs=tuple(run for cell in planned for run in cell.runs),
        keys=tuple((run_key, cell.key) for cell in planned for run_key in cell.run_keys),
        spec={**spec, "overrides": overrides} if overrides else spec,
        pretraining=frozenset(only),
        tune={key: part for cell in tuning.cells.values() for key, part in cell.parts.items()},
    )


def size(spec: dict[str, Any]) -> tuple[int, int]:
    """Return how many cells and runs a description has, pretrainings aside.

    The cells are not checked, so that no library has to be imported for it, but for those of a
    sweep that tunes: what is tuned depends on what its methods have.
    """
    if spec.get("tune") is not None:
        found = expand(spec)
        tuning = sum(found.is_tuning(run_key) for run_key, _ in found.keys)
        return found.cells, sum(1 for _ in found.compared()) + tuning
    cells = sum(1 for _ in grid.cells(spec, {}))
    return cells, cells * len(checked_draws(spec))


def checked_name(name: Any) -> str:
    """Return `name` if it can be a folder's name and nothing more; UserError otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"name: got {name!r}, expected letters, digits, dots, dashes and underscores "
            "(at most 100, the first a letter or digit)"
        )
    return name


def _with_draw(config: dict[str, Any], run: RunConfig) -> dict[str, Any]:
    """Return a cell's configuration with the seed and the training subset of one of its runs."""
    if run.replicate is None:
        # As configurations were before there were replicates.
        return {name: value for name, value in config.items() if name != "replicate"} | {
            "seed": run.seed
        }
    dataset = {**config["dataset"], "split_seed": run.dataset.split_seed}
    return {**config, "dataset": dataset, "seed": run.seed, "replicate": run.replicate}


def checked_draws(spec: dict[str, Any]) -> list[Draw]:
    """Return the replicates and seeds of every cell; UserError if they are wrong.

    Without `seeds`, the seed of a replicate is its number; with both, they are crossed.
    """
    replicates = spec.get("replicates")
    if replicates is None:
        return [(None, seed) for seed in _checked_seeds(spec)]
    is_count = type(replicates) is int and 0 < replicates <= MOST_RUNS
    numbers = list(range(replicates)) if is_count else replicates
    are_numbers = isinstance(numbers, list) and all(
        type(number) is int and 0 <= number < 2**31 for number in numbers
    )
    if not are_numbers or not numbers or len(set(numbers)) != len(numbers):
        raise UserError(
            f"replicates: got {replicates!r}, expected how many, or a list of whole numbers from "
            "0, each once"
        )
    if spec.get("seeds") is None:
        return [(number, number) for number in numbers]
    return [(number, seed) for number in numbers for seed in _checked_seeds(spec)]


def _checked_seeds(spec: dict[str, Any]) -> list[int]:
    seeds = spec.get("seeds", [0])
    are_seeds = isinstance(seeds, list) and all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 for seed in seeds
    )
    if not are_seeds or not seeds:
        raise UserError(
            f"seeds: got {seeds!r}, expected a list of at least one whole number, each from 0 to "
            "2**63 - 1"
        )
    if len(set(seeds)) != len(seeds):
        raise UserError(f"seeds: got {seeds!r}, expected each seed once")
    return list(seeds)


def _split_overrides(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the overrides of the cells, and those of pretrainings without `pretrain.`."""
    for_cells = {key: value for key, value in overrides.items() if not key.startswith("pretrain.")}
    for_pretrainings = {
        key.removeprefix("pretrain."): value
        for key, value in overrides.items()
        if key.startswith("pretrain.")
    }
    return for_cells, for_pretrainings


def _read_tune(spec: dict[str, Any], draws: Sequence[Draw]) -> Tune | None:
    tune = tunes.read(spec)
    if tune is not None:
        final = [replicate for replicate, _ in draws]
        tunes.check_disjoint(tune, final, spec["tune"].get("replicates"))
    return tune


def _parse_cells(
    name: str, spec: dict[str, Any], raw_cells: list[dict[str, Any]], tuning: Tuning
) -> dict[str, Cell]:
    """Return the cells by their keys; UserError for one that is wrong, or there twice.

    A cell that is tuned is there with its choice, and with its default if that is trained too.
    """
    pretrainings = tuning.pretrainings
    cells: dict[str, Cell] = {}
    numbers: dict[str, int] = {}
    for number, raw in enumerate(raw_cells, start=1):
        if "seed" in raw:
            raise UserError("seed: give `seeds` at the top of the sweep, a list for all cells")
        if "replicate" in raw:
            raise UserError("replicate: give `replicates` at the top of the sweep, for all cells")
        try:
            cell = tuning.parser.parse(pretrainings.resolve(raw), tuning.draws)
        except UserError as error:
            more = grid.hint(spec) if str(error).startswith("augmentation") else ""
            raise UserError(f"{error}{more}") from None
        pretrainings.check_network(cell.runs[0])
        if cell.key in numbers:
            raise UserError(
                f"sweep {name!r}: cells {numbers[cell.key]} and {number} are the same once "
                f"defaults are filled in (augmentation {cell.runs[0].augmentation['name']})"
            )
        numbers[cell.key] = number
        tuned = tuning.add(raw, cell)
        if tuned is not None:
            cells[tuned.tuned.key] = tuned.tuned
        if tuned is None or (tuning.tune is not None and tuning.tune.default):
            cells[cell.key] = cell
    return cells


def _check_baseline(baseline: Any, cells: dict[str, Cell]) -> None:
    """Raise UserError unless `baseline` is a pattern that matches a cell."""
    if baseline is None:
        return
    pattern = {"augmentation.name": baseline} if isinstance(baseline, str) else baseline
    if not isinstance(pattern, dict) or not pattern:
        raise UserError(
            f"baseline: got {baseline!r}, expected a mapping such as {{augmentation.name: none}}"
        )
    for key in pattern:
        check_key(key, "baseline")
    runs = (run for cell in cells.values() for run in cell.runs)
    if not any(matches(run.model_dump(mode="json"), pattern) for run in runs):
        raise UserError(f"baseline: got {baseline!r}, which is none of the sweep's cells")
