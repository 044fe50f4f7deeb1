"""The cells of a sweep description: `fixed` with every combination of `grid` and `zip`.

Cells that `exclude` matches are left out; each item of `include` adds a cell. An axis over a
parameter that only some methods have leaves a cell of the others, once.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from mixbench.experiments.config.schema import check_key
from mixbench.experiments.errors import UserError
from mixbench.experiments.merge import matches, merge
from mixbench.experiments.staging.methods import parameters_of

MOST_CELLS = 200_000
"""Before `exclude`: far more than anybody trains, and expanded in minutes."""
Change = tuple[str, Any]
"""A dotted key with its value."""


def cells(spec: Mapping[str, Any], overrides: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the cells of a description, unchecked but for their keys.

    overrides: dotted key -> value, set in every cell; an axis of that key is no longer one.
    """
    # An axis that an override replaces leaves one cell, it does not leave only `include`.
    only_included = "grid" not in spec and "zip" not in spec and bool(spec.get("include"))
    spec = _without_axes(spec, overrides)
    base = merge({}, _mapping(spec, "fixed").items())
    last = list(overrides.items())
    axes = _axes(spec, "grid")
    rows = _zipped(spec)
    _check_number(axes, rows)
    excluded = _partial_cells(spec, "exclude")
    included = _partial_cells(spec, "include")
    points = [] if only_included else itertools.product(*axes, rows)
    partial = _PartialAxes(spec, base, last)
    used = set()
    for point in points:
        changes = [change for changes in point for change in changes]
        cell = merge(base, changes, last)
        hits = [number for number, pattern in enumerate(excluded) if matches(cell, pattern)]
        used.update(hits)
        if hits:
            continue
        left = partial.left_out(cell)
        if left:
            cell = merge(base, [change for change in changes if change[0] not in left], last)
        if not left or partial.is_new(cell):
            yield cell
    for number, pattern in enumerate(excluded):
        # An override may have removed the cells to exclude; else the pattern is a mistake.
        if number not in used and not overrides:
            raise UserError(f"exclude: {pattern!r} matches no cell of the grid")
    for extra in included:
        yield merge(base, extra.items(), last)


def left_out(spec: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return axis -> the methods of the grid that have no such parameter, and are there once."""
    overrides = spec.get("overrides") or {}
    spec = _without_axes(spec, overrides)
    partial = _PartialAxes(spec, merge({}, _mapping(spec, "fixed").items()), overrides.items())
    return {key: sorted(partial.methods - having) for key, having in partial.having.items()}


def hint(spec: Mapping[str, Any]) -> str:
    """Return what to do about a cell that is wrong where several axes make up the method."""
    keys = [key for part in ("grid", "zip") for key in spec.get(part) or {}]
    if sum(str(key).partition(".")[0] == "augmentation" for key in keys) < 2:
        return ""
    return " (a grid combines every value with every method; put single cells into `include`)"


class _PartialAxes:
    """The axes over a parameter that some methods of the grid have, and others don't."""

    def __init__(self, spec: Mapping[str, Any], base: dict[str, Any], last: Any) -> None:
        values_of = {
            key: values
            for part in ("grid", "zip")
            for key, values in (spec.get(part) or {}).items()
        }
        inner = [str(key).split(".") for key in values_of]
        axes = [path[1] for path in inner if path[0] == "augmentation" and len(path) == 2]
        self.methods: set[str] = set()
        self.having: dict[str, set[str]] = {}
        self._seen: set[str] = set()
        if not set(axes) - {"name"}:
            return
        named = [
            _method(merge(base, [(key, value)], last))
            for key in ("augmentation", "augmentation.name")
            for value in values_of.get(key) or ()
        ]
        parameters = {
            name: parameters_of(name) for name in named or [_method(merge(base, [], last))]
        }
        self.methods = {name for name, own in parameters.items() if own}
        for axis in axes:
            having = {name for name in self.methods if axis in parameters[name]}
            # What no method has is a mistake, which is told when the cell is parsed.
            if axis != "name" and having and having != self.methods:
                self.having[f"augmentation.{axis}"] = having

    def left_out(self, cell: Mapping[str, Any]) -> list[str]:
        """Return the axes of a cell that its method has no parameter for."""
        name = _method(cell)
        if name not in self.methods:
            return []
        return [key for key, having in self.having.items() if name not in having]

    def is_new(self, cell: Mapping[str, Any]) -> bool:
        """Tell whether a cell without one of its axes comes up for the first time."""
        text = json.dumps(cell, sort_keys=True, default=repr)
        is_new = text not in self._seen
        self._seen.add(text)
        return is_new


def _method(cell: Mapping[str, Any]) -> str:
    section = cell.get("augmentation") or "none"
    return str(section.get("name") if isinstance(section, dict) else section)


def _without_axes(spec: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return `spec` without the grid and zip axes that an override replaces."""
    rest = dict(spec)
    for part in ("grid", "zip"):
        axes = rest.get(part)
        if not isinstance(axes, dict) or not axes:
            continue
        rest[part] = {
            key: values
            for key, values in axes.items()
            if not any(key == name or str(key).startswith(f"{name}.") for name in overrides)
        }
        if not rest[part]:
            del rest[part]
    return rest


def _mapping(spec: Mapping[str, Any], part: str) -> dict[str, Any]:
    value = spec.get(part)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UserError(f"{part}: got {value!r}, expected a mapping")
    for key in value:
        check_key(key, part)
    return value


def _axes(spec: Mapping[str, Any], part: str) -> list[list[list[Change]]]:
    axes = []
    values_of = _mapping(spec, part)
    if part in spec and not values_of:
        raise UserError(f"{part}: empty; leave it out, or give at least one key with values")
    for key, values in values_of.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{part}.{key}: got {values!r}, expected a list of at least one value")
        axes.append([[(key, value)] for value in values])
    return axes


def _check_number(axes: list[list[list[Change]]], rows: list[list[Change]]) -> None:
    number = math.prod(map(len, [*axes, rows]))
    if number > MOST_CELLS:
        sizes = " x ".join(str(len(part)) for part in (*axes, rows) if len(part) > 1)
        raise UserError(
            f"grid: {sizes} = {number:,} cells, expected at most {MOST_CELLS:,}; write several "
            "sweeps, or fewer values"
        )


def _zipped(spec: Mapping[str, Any]) -> list[list[Change]]:
    columns = _axes(spec, "zip")
    if not columns:
        return [[]]
    lengths = {key: len(values) for key, values in spec["zip"].items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{key}: {length}" for key, length in lengths.items())
        raise UserError(f"zip: the lists must have the same length, got {shown}")
    return [[change for column in row for change in column] for row in zip(*columns, strict=True)]


def _partial_cells(spec: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    value = spec.get(part)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) and item for item in value):
        raise UserError(f"{part}: got {value!r}, expected a list of mappings")
    for item in value:
        for key in item:
            check_key(key, part)
    return value
