"""What was measured of a finished run after its training: `evaluations/NAME.json` in its folder.

Each file has `settings`, `changed` (those that are no defaults), `metrics`, `curves`, `seconds` and
`provenance`, and is written whole. The run's own `result.json` stays as it is. Standard library
only.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write, dump, read_json
from mixbench.experiments.store.run_folder import RunFolder

FOLDER = "evaluations"
_FAILED = ".failed.json"


def place(folder: RunFolder) -> Path:
    """Where the files are, or will be. UserError where something else is in that place.

    What is measured must not be written outside of the run: not even through a link.
    """
    path = folder.path / FOLDER
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        kind = "a link" if path.is_symlink() else "a file"
        raise UserError(f"{path}: is {kind}, expected a folder; remove it to measure the run")
    return path


def read(folder: RunFolder) -> dict[str, dict[str, Any]]:
    """name -> what was measured, of all that can be read and are what they should be."""
    found = {}
    for path in sorted((folder.path / FOLDER).glob("*.json")):
        made = None if path.name.endswith(_FAILED) else _made(path)
        if made is not None:
            found[path.stem] = made
    return found


def missing(
    folder: RunFolder, wanted: Mapping[str, Mapping[str, Any]], since: float | None = None
) -> list[str]:
    """Those of `wanted` (name -> settings) that are not there with these settings.

    Neither are those missing that can't be made. since: a time in seconds; what is older counts as
    missing.
    """
    path = folder.path / FOLDER
    return [
        name
        for name, settings in wanted.items()
        if not _is_there(_made(path / f"{name}.json"), settings, since)
        and not _is_there(read_json(path / f"{name}{_FAILED}"), settings, since)
    ]


def measured(folder: RunFolder) -> dict[str, Any] | None:
    """`result.json` with the metrics and curves of all evaluations; None while there is none."""
    result = folder.result()
    if result is None:
        return None
    metrics, curves = dict(result.get("metrics") or {}), dict(result.get("curves") or {})
    for name, made in read(folder).items():
        metrics |= made.get("metrics") or {}
        curves |= {name: made["curves"]} if made.get("curves") else {}
    return {**result, "metrics": metrics, "curves": curves}


def fail(
    folder: RunFolder, name: str, error: str, settings: Mapping[str, Any] | None = None
) -> None:
    """Put on record that a measurement failed; one that is there stays.

    settings: those with which it can't be made of this network and these data, where that is known:
    with them it is not tried again.
    """
    failure = {"error": error, "provenance": {"finished": time.time()}}
    if settings is not None:
        failure["settings"] = dict(settings)
    atomic_write(_failure(folder, name), dump(failure))


def forgive(folder: RunFolder, name: str) -> None:
    """A measurement that failed once was made after all."""
    _failure(folder, name).unlink(missing_ok=True)


def failures(folder: RunFolder) -> dict[str, str]:
    """name -> error, of the measurements that failed and were not made since."""
    return {name: error for name, (error, is_final) in _failed(folder).items() if not is_final}


def tried_since(folder: RunFolder, since: float) -> set[str]:
    """The measurements that failed after this time, in seconds, and were not made since."""
    places = ((name, read_json(_failure(folder, name))) for name in _failed(folder))
    return {name for name, failure in places if _is_since(failure or {}, since)}


def left_out(folder: RunFolder) -> dict[str, str]:
    """name -> why, of the measurements that can't be made of this network and these data."""
    return {name: error for name, (error, is_final) in _failed(folder).items() if is_final}


def _failure(folder: RunFolder, name: str) -> Path:
    return folder.path / FOLDER / f"{name}{_FAILED}"


def _failed(folder: RunFolder) -> dict[str, tuple[str, bool]]:
    found = {}
    for path in sorted((folder.path / FOLDER).glob(f"*{_FAILED}")):
        failure = read_json(path) or {}
        name = path.name.removesuffix(_FAILED)
        found[name] = str(failure.get("error")), "settings" in failure
    return found


def _is_there(
    made: Mapping[str, Any] | None, settings: Mapping[str, Any], since: float | None
) -> bool:
    if made is None or made.get("settings") != settings:
        return False
    return since is None or _is_since(made, since)


def _is_since(made: Mapping[str, Any], since: float) -> bool:
    provenance = made.get("provenance")
    finished = provenance.get("finished") if isinstance(provenance, dict) else None
    return isinstance(finished, int | float) and finished >= since


def _made(path: Path) -> dict[str, Any] | None:
    """What a measurement's file holds; None where somebody wrote something else into it."""
    made = read_json(path)
    if made is None or not isinstance(made.get("curves") or {}, dict):
        return None
    metrics = made.get("metrics") or {}
    if not isinstance(metrics, dict) or not all(map(_is_value, metrics.values())):
        return None
    return made


def _is_value(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
