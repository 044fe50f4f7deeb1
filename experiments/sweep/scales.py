"""The sizes of a sweep: `scales:` says what differs in each; `--scale NAME` selects one.

scales:
  quick: {fixed: {training: {epochs: 20}}, seeds: [0, 1, 2]}
  paper: {fixed: {dataset: {name: cifar100}, training: {epochs: 200}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.merge import merge

BY_KEY = ("grid", "zip", "pretrain")
"""Replaced key by key: null removes an axis or a pretraining."""
WHOLE = (
    *("include", "exclude", "seeds", "replicates", "tune", "baseline", "question", "decide"),
    "fallback",
)
KEYS = ("description", "fixed", *BY_KEY, *WHOLE)


def names(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the scales of a sweep description, in order; UserError for an invalid `scales`."""
    if "scales" not in spec:
        return ()
    scales = spec["scales"]
    is_filled = isinstance(scales, dict) and bool(scales)
    if not is_filled or not all(isinstance(part, dict) for part in scales.values()):
        raise UserError(
            f"scales: got {scales!r}, expected a mapping of names to what is different there, "
            "such as {quick: {seeds: [0, 1, 2]}}"
        )
    return tuple(str(name) for name in scales)


def select(spec: Mapping[str, Any], scale: str | None) -> dict[str, Any]:
    """Return `spec` at one of its scales, by default the first, named NAME_SCALE.

    `fixed` is merged key by key at every depth, where a section with another `name` replaces the
    section; `grid`, `zip` and `pretrain` are replaced key by key, all else as a whole, and a
    `description` is added to the sweep's. UserError for a scale that it does not have.
    """
    if "scale" in spec:
        raise unknown("key in the sweep", "scale", ["scales"])
    known = names(spec)
    if not known:
        if scale is not None:
            raise UserError(
                f"--scale: got {scale!r}, but the sweep {spec.get('name')!r} has only one size; "
                "leave the option out"
            )
        return dict(spec)
    if scale is None:
        scale = known[0]
    if scale not in known:
        raise unknown("scale", scale, known)
    selected = {key: value for key, value in spec.items() if key != "scales"}
    by_name = {str(name): part for name, part in spec["scales"].items()}
    for key, value in by_name[scale].items():
        _change(selected, key, value, scale)
    name = selected.get("name")
    if isinstance(name, str):
        selected["name"] = f"{name}_{scale}"
    selected["scale"] = {"sweep": name, "scale": scale}
    return selected


def _change(spec: dict[str, Any], key: str, value: Any, scale: str) -> None:
    """Change one key of `spec` in place, as its scale says."""
    if key not in KEYS:
        raise unknown(f"key of scales.{scale}", key, KEYS)
    if key == "description":
        spec[key] = f"{str(spec.get(key) or '').strip()} {value}".strip()
    elif key in WHOLE:
        spec[key] = value
    elif not isinstance(value, dict):
        raise UserError(f"scales.{scale}.{key}: got {value!r}, expected a mapping")
    elif key == "fixed":
        spec[key] = _merged(_nested(spec.get(key)), _nested(value))
    else:
        parts = {**_mapping(spec.get(key)), **value}
        spec[key] = {name: part for name, part in parts.items() if part is not None}
        if not spec[key]:
            del spec[key]


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _nested(section: Any) -> dict[str, Any]:
    """Return the section with `training.epochs` as a key of `training`."""
    return merge({}, ((str(key), value) for key, value in _mapping(section).items()))


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        # Don't merge with the parameters of another method, network or data set.
        if (
            isinstance(old, dict)
            and isinstance(value, dict)
            and value.get("name", old.get("name")) == old.get("name")
        ):
            value = _merged(old, value)
        merged[key] = value
    return merged
