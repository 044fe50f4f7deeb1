"""A sweep: a YAML file that describes many runs, expanded into their configurations."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from experiments import config
from experiments.config import RunConfig
from experiments.errors import UserError, unknown

SHIPPED = Path(__file__).parent / "sweeps"
KEYS = (
    "name", "description", "baseline", "fallback",
    "fixed", "grid", "zip", "include", "exclude", "seeds",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Sweep:
    """A named list of runs, in order, all different."""

    name: str
    description: str
    runs: tuple[RunConfig, ...]
    spec: dict[str, Any]

    @property
    def cells(self) -> int:
        """How many configurations are compared, seeds aside."""
        return len({run.cell_key for run in self.runs})


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


def load(name_or_path: str, overrides: Sequence[str] = (), name: str | None = None) -> Sweep:
    """The sweep of that name, or in that YAML file, with `key=value` overrides applied.

    An override replaces the value in `fixed`, `grid`, `zip` and `include` alike. `name` renames.
    Raises UserError for anything that is not a valid sweep of at least one run.
    """
    spec = _read(_find(name_or_path))
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
    for key in spec:
        if key not in KEYS:
            raise unknown("key in the sweep", key, KEYS)
    name = check_name(spec.get("name"))
    seeds = _seeds(spec.get("seeds", [0]))
    overrides = overrides or {}
    cells = list(_cells(spec, overrides))
    if not cells:
        raise UserError(f"sweep {name!r} has no runs: exclude removes every cell")
    runs = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(cells, start=1):
        if "seed" in raw:
            raise UserError("seed: give `seeds` at the top of the sweep, a list for all cells")
        cell = config.parse(raw)
        key = cell.cell_key
        if key in seen:
            raise UserError(
                f"sweep {name!r}: cells {seen[key]} and {number} are the same once defaults are "
                f"filled in (augmentation {cell.augmentation['name']})"
            )
        seen[key] = number
        runs += [cell.model_copy(update={"seed": seed}) for seed in seeds]
    if not overrides:
        # With overrides the sweep may no longer hold the cell; the report says so.
        _check_baseline(spec.get("baseline"), runs)
    recorded = {**spec, "overrides": overrides} if overrides else spec
    for part in ("description", "fallback"):
        if not isinstance(spec.get(part) or "", str):
            raise UserError(f"{part}: got {spec[part]!r}, expected text")
    return Sweep(name, str(spec.get("description") or "").strip(), tuple(runs), recorded)


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
        _check_key(key, "baseline")
    if not any(_matches(run.model_dump(mode="json"), pattern) for run in runs):
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
    try:
        spec = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506
    except RecursionError:
        raise UserError(f"{path}: nested too deeply") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{line}: {reason}") from None
    if not isinstance(spec, dict):
        raise UserError(f"{path}: expected a mapping with the keys {', '.join(KEYS)}")
    spec.setdefault("name", path.stem)
    return spec


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, which also refuses a key that is given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            if isinstance(key, str):
                seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1 wants a dot in a float; to a user 1e-3 is a number too.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+\.?\d*[eE][-+]?\d+$"), list("-+0123456789")
)


def override(text: str, example: str) -> tuple[str, Any]:
    """Key and value of a `--set key=value`; UserError for anything else, which shows `example`."""
    key, equals, value_text = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set: got {text!r}, expected key=value, such as {example}")
    try:
        return key, yaml.load(value_text, Loader=_StrictLoader)  # noqa: S506
    except yaml.YAMLError:
        raise UserError(f"--set {key}: {value_text!r} is not a value that YAML can read") from None


def _override(text: str) -> tuple[str, Any]:
    key, value = override(text, "training.epochs=5")
    if key not in ("seeds", "name", "description"):
        _check_key(key, "--set")
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


def _check_key(key: Any, where: str) -> None:
    section, _, rest = str(key).partition(".")
    known = config.fields()
    if section not in known:
        raise unknown(f"section in {where}", section, known)
    if rest and known[section] and rest not in known[section]:
        raise unknown(f"key of {section} in {where}", rest, known[section])


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
    return seeds


def _cells(spec: dict[str, Any], overrides: dict[str, Any]) -> Iterator[dict[str, Any]]:
    # An axis that an override replaces leaves one cell, it does not leave only `include`.
    only_included = "grid" not in spec and "zip" not in spec and bool(spec.get("include"))
    spec = _without_axes(spec, overrides)
    fixed = _mapping(spec, "fixed")
    axes = _axes(spec, "grid")
    rows = _zipped(spec)
    excluded = _partials(spec, "exclude")
    included = _partials(spec, "include")
    points = [] if only_included else itertools.product(*axes, rows)
    used = set()
    for point in points:
        changes = [change for part in point for change in part]
        cell = _merge(fixed, changes, overrides)
        hits = [number for number, item in enumerate(excluded) if _matches(cell, item)]
        used.update(hits)
        if not hits:
            yield cell
    for number, item in enumerate(excluded):
        # An override may well take away what was to be excluded; a slip of the pen may not.
        if number not in used and not overrides:
            raise UserError(f"exclude: {item!r} matches no cell of the grid")
    for extra in included:
        yield _merge(fixed, list(extra.items()), overrides)


def _mapping(spec: dict[str, Any], part: str) -> dict[str, Any]:
    value = spec.get(part)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{part}: got {value!r}, expected a mapping")
    for key in value:
        _check_key(key, part)
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
            _check_key(key, part)
    return value


def _merge(
    fixed: dict[str, Any], changes: list[tuple[str, Any]], overrides: dict[str, Any]
) -> dict[str, Any]:
    cell: dict[str, Any] = {}
    # Whole sections first, then single keys, so that `augmentation` and `augmentation.alpha`
    # combine whatever their order in the file; overrides have the last word.
    ordered = [
        *sorted(fixed.items(), key=lambda item: item[0].count(".")),
        *sorted(changes, key=lambda item: item[0].count(".")),
        *overrides.items(),
    ]
    for key, value in ordered:
        _set(cell, key, value)
    return cell


def _set(cell: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        inner = cell.get(part)
        if part == "augmentation" and isinstance(inner, str):
            inner = {"name": inner}
        cell[part] = dict(inner) if isinstance(inner, dict) else {}
        cell = cell[part]
    cell[last] = _copied(value)


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return value


def _matches(cell: Any, pattern: Any) -> bool:
    """Is everything in `pattern` also in `cell`?  A list in the pattern means any of its values."""
    if isinstance(pattern, dict):
        return all(_matches(_get(cell, key), value) for key, value in pattern.items())
    if isinstance(pattern, list) and not isinstance(cell, list):
        return cell in pattern
    return bool(cell == pattern)


def _get(cell: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(cell, str) and part == "name":
            return cell
        if not isinstance(cell, dict) or part not in cell:
            return None
        cell = cell[part]
    return cell
