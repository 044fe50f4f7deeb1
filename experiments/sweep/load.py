"""Find a sweep by its name or YAML file, read it, and apply `--set`, `--scale` and `--name`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mixbench.experiments import yaml_file
from mixbench.experiments.config.schema import check_key
from mixbench.experiments.design import tune as tunes
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.sweep import scales
from mixbench.experiments.sweep.expand import KEYS, Sweep, expand

SHIPPED = Path(__file__).parent / "shipped"
_OF_THE_SWEEP = ("seeds", "replicates", "name", "description")
"""What `--set` changes in the sweep itself, rather than in its cells."""
_TUNE = "tune."
_TUNE_MAPPINGS = ("over", "halving")
_TUNE_EXAMPLES = ("over.augmentation.prob", "halving.at", "halving.keep")


def shipped() -> dict[str, Path]:
    """Return the sweeps that come with mixbench: name -> file."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def load(
    name_or_path: str,
    overrides: Sequence[str] = (),
    name: str | None = None,
    scale: str | None = None,
) -> Sweep:
    """Return a shipped sweep, or that of a YAML file, expanded into its runs.

    overrides: `key=value` texts. Each replaces the value in `fixed`, `grid`, `zip` and `include`
    alike; one that begins with `pretrain.NAME.` is for that pretraining alone, one that begins with
    `tune.` for how the sweep tunes. name: the sweep's new name. scale: one of its scales; None is
    the first, where it has any.

    Raises UserError for anything that is not a valid sweep of at least one run.
    """
    spec = scales.select(read_spec(name_or_path), scale)
    changes: dict[str, Any] = {}
    for text in overrides:
        key, value = _parse_sweep_override(text)
        if key in _OF_THE_SWEEP:
            spec[key] = value
        elif key.startswith(_TUNE):
            spec["tune"] = _tuned_with(spec.get("tune"), key.removeprefix(_TUNE), value)
        else:
            changes[key] = value
    if name is not None:
        spec["name"] = name
    return expand(spec, changes)


def read_spec(name_or_path: str) -> dict[str, Any]:
    """Return the description of a shipped sweep or a YAML file, with all its scales."""
    path = find(name_or_path)
    spec = yaml_file.load(path, f"a mapping with the keys {', '.join(KEYS)}")
    spec.setdefault("name", path.stem)
    return spec


def parse_override(text: str, example: str) -> tuple[str, Any]:
    """Return key and value of a `--set key=value`; UserError for anything else, with `example`."""
    key, equals, value_text = text.partition("=")
    key = key.strip()
    if not equals or not key:
        raise UserError(f"--set: got {text!r}, expected key=value, such as {example}")
    try:
        return key, yaml_file.value(value_text)
    except yaml.YAMLError as error:
        raise UserError(
            f"--set {key}: {value_text!r} is not a value that YAML can read: "
            f"{yaml_file.reason(error)}"
        ) from None


def find(name_or_path: str) -> Path:
    """Return the file of a shipped sweep, or of a path; UserError where there is none."""
    known = shipped()
    if name_or_path in known:
        return known[name_or_path]
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml") or "/" in name_or_path:
        try:
            is_file = path.is_file()
        except OSError as error:
            raise UserError(f"sweep file {name_or_path!r}: {error.strerror}") from None
        if not is_file:
            problem = "does not exist as a file" if path.exists() else "does not exist"
            raise UserError(f"sweep file {name_or_path!r} {problem}")
        return path
    raise unknown("sweep", name_or_path, known, " (or the path of a YAML file)")


def _parse_sweep_override(text: str) -> tuple[str, Any]:
    key, value = parse_override(text, "training.epochs=5")
    if key.startswith("pretrain."):
        _, name, rest = [*key.split(".", 2), ""][:3]
        if not rest:
            raise UserError(
                f"--set: got {key!r}, expected a key of a pretraining, such as "
                f"pretrain.{name or 'NAME'}.training.epochs=5"
            )
        check_key(rest, "--set")
    elif key not in _OF_THE_SWEEP and not key.startswith(_TUNE):
        check_key(key, "--set")
    return key, value


def _tuned_with(tune: Any, key: str, value: Any) -> dict[str, Any]:
    """Return the sweep's `tune` with one key replaced: one of its own, or one inside of it."""
    if not isinstance(tune, Mapping):
        raise UserError(f"--set {_TUNE}{key}: the sweep has no `tune`, so nothing is chosen in it")
    first, dot, rest = key.partition(".")
    if first not in tunes.KEYS or (dot and first not in _TUNE_MAPPINGS):
        raise unknown("key of tune in --set", key, [*tunes.KEYS, *_TUNE_EXAMPLES])
    if not dot:
        return {**tune, first: value}
    inside = tune.get(first) or {}
    return {**tune, first: {**(inside if isinstance(inside, Mapping) else {}), rest: value}}
