"""Merge dotted keys into a cell of a sweep, and match cells against patterns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def merge(
    base: dict[str, Any],
    changes: Iterable[tuple[str, Any]],
    last: Iterable[tuple[str, Any]] = (),
) -> dict[str, Any]:
    """Return `base` with the changes, and then the `last` ones; `base` itself stays as it is."""
    cell = dict(base)
    # Whole sections first, then single keys, so that `augmentation` and `augmentation.alpha`
    # combine whatever their order in the file.
    for key, value in sorted(changes, key=_depth):
        _set(cell, key, value)
    for key, value in last:
        _set(cell, key, value)
    return cell


def _depth(change: tuple[str, Any]) -> int:
    return change[0].count(".")


def _set(cell: dict[str, Any], key: str, value: Any) -> None:
    # Every section on the way is replaced by a copy: cells share what they don't change.
    *path, last = key.split(".")
    for part in path:
        inner = cell.get(part)
        if part in ("augmentation", "staging") and isinstance(inner, str):
            inner = {"name": inner}
        cell[part] = dict(inner) if isinstance(inner, dict) else {}
        cell = cell[part]
    cell[last] = value


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration with dotted keys; lists become JSON text, so are hashable."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat[f"{prefix}{key}"] = json.dumps(list(value))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def matches(cell: Any, pattern: Any) -> bool:
    """Return whether `cell` has all of `pattern`, where a list stands for any of its values."""
    if isinstance(pattern, dict):
        return all(matches(_get(cell, key), value) for key, value in pattern.items())
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
