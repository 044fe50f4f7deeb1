"""A sweep: a YAML file that describes many runs, expanded into their configurations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments import yaml_file
from mixbench.experiments.config import schema
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import matches, merge
from mixbench.experiments.sweep import scales
from mixbench.experiments.sweep.grid import Grid
from mixbench.experiments.sweep.pretraining import Pretrainings

SHIPPED = Path(__file__).parent / "shipped"
KEYS = (
    "name",
    "description",
    "baseline",
    "fallback",
    "fixed",
    "grid",
    "zip",
    "include",
    "exclude",
    "seeds",
    "pretrain",
    "scales",
)
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

    @property
    def cells(self) -> int:
        """How many configurations are compared, seeds aside."""
        return len({cell_key for _, cell_key in self.keys} - self.pretraining)

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """(run_key, cell_key, configuration) of each run, as `SweepFolder.create` takes them."""
        cell: tuple[str, dict[str, Any]] = ("", {})
        for run, (run_key, cell_key) in zip(self.runs, self.keys, strict=True):
            if cell[0] != cell_key:
                cell = (cell_key, run.model_dump(mode="json"))
            yield run_key, cell_key, {**cell[1], "seed": run.seed}


def shipped() -> dict[str, Path]:
    """The sweeps that come with mixbench: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def check_name(name: Any) -> str:
    """`name` if it can be a folder's name and nothing more; UserError otherwise."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"name: got {name!r}, expected letters, digits, dots, dashes and underscores "
            "(at most 100, the first a letter or digit)"
        )
    return name


def load(
    name_or_path: str,
    overrides: Sequence[str] = (),
    name: str | None = None,
    scale: str | None = None,
) -> Sweep:
    """The sweep of that name, or in that YAML file, with `key=value` overrides applied.

    An override replaces the value in `fixed`, `grid`, `zip` and `include` alike; one that begins
    with `pretrain.NAME.` is for that pretraining alone. `name` renames. scale: one of the sweep's;
    None is the first, where it has any. Raises UserError for anything that is not a valid sweep of
    at least one run.
    """
    spec = scales.chosen(_read(_find(name_or_path)), scale)
    changes: dict[str, Any] = {}
    for text in overrides:
        key, value = _override(text)
        if key in ("seeds", "name", "description"):
            spec[key] = value
        else:
            changes[key] = value
    if name is not None:
        spec["name"] = name
    return expand(spec, changes)


def expand(spec: dict[str, Any], overrides: dict[str, Any] | None = None) -> Sweep:
    """All runs of a sweep description; UserError if it is wrong or describes no run.

    overrides: dotted key -> value; it has the last word in every cell, and an axis that it names
    is no longer an axis.
    """
    if not isinstance(spec, dict):
        raise UserError(f"a sweep is a mapping with the keys {', '.join(KEYS)}, got {spec!r}")
    if "scales" in spec:
        spec = scales.chosen(spec, None)
    for key in spec:
        if key not in (*KEYS, "scale"):
            raise unknown("key in the sweep", key, KEYS)
    name = check_name(spec.get("name"))
    seeds = _seeds(spec.get("seeds", [0]))
    overrides = overrides or {}
    for_cells, for_pretraining = _by_target(overrides)
    cells = list(_cells(spec, for_cells))
    if not cells:
        raise UserError(f"sweep {name!r} has no runs: exclude removes every cell")
    runs = []
    keys = []
    seen: dict[str, int] = {}
    grid = Grid()
    pretrainings = Pretrainings(spec.get("pretrain"), seeds, grid, for_pretraining)
    for number, raw in enumerate(cells, start=1):
        if "seed" in raw:
            raise UserError("seed: give `seeds` at the top of the sweep, a list for all cells")
        key, run_keys, made = grid.runs(pretrainings.resolve(raw), seeds)
        pretrainings.check(made[0])
        if key in seen:
            raise UserError(
                f"sweep {name!r}: cells {seen[key]} and {number} are the same once defaults are "
                f"filled in (augmentation {made[0].augmentation['name']})"
            )
        seen[key] = number
        runs += made
        keys += [(run_key, key) for run_key in run_keys]
    if not overrides:
        # With overrides the sweep may no longer hold the cell; the report says so.
        _check_baseline(spec.get("baseline"), runs)
        pretrainings.check_used()
    only = {key: cell for key, cell in pretrainings.cells.items() if key not in seen}
    # First in the plan, as they are the first to be done.
    runs[:0] = [run for _, made in only.values() for run in made]
    keys[:0] = [(run_key, key) for key, (run_keys, _) in only.items() for run_key in run_keys]
    recorded = {**spec, "overrides": overrides} if overrides else spec
    for part in ("description", "fallback"):
        if not isinstance(spec.get(part) or "", str):
            raise UserError(f"{part}: got {spec[part]!r}, expected text")
    description = str(spec.get("description") or "").strip()
    return Sweep(name, description, tuple(runs), tuple(keys), recorded, frozenset(only))


def size(spec: dict[str, Any]) -> tuple[int, int]:
    """How many cells and runs a description means, pretrainings aside.

    Nothing of the cells is checked, so no library has to be imported for that.
    """
    cells = len(list(_cells(spec, {})))
    return cells, cells * len(_seeds(spec.get("seeds", [0])))


def described(name_or_path: str) -> dict[str, Any]:
    """The description of the sweep of that name, or in that YAML file, with all its scales."""
    return _read(_find(name_or_path))


def _by_target(overrides: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The overrides of the cells, and those of pretrainings, from their name on."""
    mine = {key: value for key, value in overrides.items() if not key.startswith("pretrain.")}
    theirs = {
        key.removeprefix("pretrain."): value
        for key, value in overrides.items()
        if key.startswith("pretrain.")
    }
    return mine, theirs


def _check_baseline(baseline: Any, runs: list[RunConfig]) -> None:
    """UserError unless `baseline` says which cells to compare with, and there is such a cell."""
    if baseline is None:
        return
    pattern = {"augmentation.name": baseline} if isinstance(baseline, str) else baseline
    if not isinstance(pattern, dict) or not pattern:
        raise UserError(
            f"baseline: got {baseline!r}, expected a mapping such as {{augmentation.name: none}}"
        )
    for key in pattern:
        schema.check_key(key, "baseline")
    if not any(matches(run.model_dump(mode="json"), pattern) for run in runs):
        raise UserError(f"baseline: got {baseline!r}, which is none of the sweep's cells")


def _find(name_or_path: str) -> Path:
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        if not path.is_file():
            raise UserError(f"sweep file {name_or_path!r} does not exist")
        return path
    raise unknown("sweep", name_or_path, known, " (or the path of a YAML file)")


def _read(path: Path) -> dict[str, Any]:
    spec = yaml_file.load(path, f"a mapping with the keys {', '.join(KEYS)}")
    spec.setdefault("name", path.stem)
    return spec


def override(text: str, example: str) -> tuple[str, Any]:
    """Key and value of a `--set key=value`; UserError for anything else, which shows `example`."""
    key, equals, value_text = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set: got {text!r}, expected key=value, such as {example}")
    try:
        return key, yaml_file.value(value_text)
    except yaml.YAMLError:
        raise UserError(f"--set {key}: {value_text!r} is not a value that YAML can read") from None


def _override(text: str) -> tuple[str, Any]:
    key, value = override(text, "training.epochs=5")
    if key.startswith("pretrain."):
        _, name, rest = [*key.split(".", 2), ""][:3]
        if not rest:
            raise UserError(
                f"--set: got {key!r}, expected a key of a pretraining, such as "
                f"pretrain.{name or 'NAME'}.training.epochs=5"
            )
        schema.check_key(rest, "--set")
    elif key not in ("seeds", "name", "description"):
        schema.check_key(key, "--set")
    return key, value


def _without_axes(spec: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """`spec` without the grid and zip axes that an override replaces."""
    kept = dict(spec)
    for part in ("grid", "zip"):
        axes = kept.get(part)
        if not isinstance(axes, dict) or not axes:
            continue
        kept[part] = {
            key: values
            for key, values in axes.items()
            if not any(key == name or str(key).startswith(f"{name}.") for name in overrides)
        }
        if not kept[part]:
            del kept[part]
    return kept


def _seeds(seeds: Any) -> list[int]:
    valid = isinstance(seeds, list) and all(
        isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**63 for seed in seeds
    )
    if not valid or not seeds:
        raise UserError(
            f"seeds: got {seeds!r}, expected a list of at least one whole number, each from 0 to "
            "2**63 - 1"
        )
    if len(set(seeds)) != len(seeds):
        raise UserError(f"seeds: got {seeds!r}, expected each seed once")
    return list(seeds)


def _cells(spec: dict[str, Any], overrides: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # An axis that an override replaces leaves one cell, it does not leave only `include`.
    only_included = "grid" not in spec and "zip" not in spec and bool(spec.get("include"))
    spec = _without_axes(spec, overrides)
    base = merge({}, _mapping(spec, "fixed").items())
    last = list(overrides.items())
    axes = _axes(spec, "grid")
    rows = _zipped(spec)
    excluded = _partials(spec, "exclude")
    included = _partials(spec, "include")
    points = [] if only_included else itertools.product(*axes, rows)
    used = set()
    for point in points:
        changes = [change for part in point for change in part]
        cell = merge(base, changes, last)
        hits = [number for number, item in enumerate(excluded) if matches(cell, item)]
        used.update(hits)
        if not hits:
            yield cell
    for number, item in enumerate(excluded):
        # An override may well take away what was to be excluded; a slip of the pen may not.
        if number not in used and not overrides:
            raise UserError(f"exclude: {item!r} matches no cell of the grid")
    for extra in included:
        yield merge(base, extra.items(), last)


def _mapping(spec: dict[str, Any], part: str) -> dict[str, Any]:
    value = spec.get(part)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{part}: got {value!r}, expected a mapping")
    for key in value:
        schema.check_key(key, part)
    return value


def _axes(spec: dict[str, Any], part: str) -> list[list[list[tuple[str, Any]]]]:
    axes = []
    values_of = _mapping(spec, part)
    if part in spec and not values_of:
        raise UserError(f"{part}: empty; leave it out, or give at least one key with values")
    for key, values in values_of.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{part}.{key}: got {values!r}, expected a list of at least one value")
        axes.append([[(key, value)] for value in values])
    return axes


def _zipped(spec: dict[str, Any]) -> list[list[tuple[str, Any]]]:
    columns = _axes(spec, "zip")
    if not columns:
        return [[]]
    lengths = {key: len(values) for key, values in spec["zip"].items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise UserError(f"zip: the lists must have the same length, got {shown}")
    return [[change for column in row for change in column] for row in zip(*columns, strict=True)]


def _partials(spec: dict[str, Any], part: str) -> list[dict[str, Any]]:
    value = spec.get(part)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) and item for item in value):
        raise UserError(f"{part}: got {value!r}, expected a list of mappings")
    for item in value:
        for key in item:
            schema.check_key(key, part)
    return value
