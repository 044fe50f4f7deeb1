"""What was measured of a finished run after its training: `evaluations/NAME.json` in its folder.

Each file has `settings`, `changed` (those that are no defaults), `metrics`, `curves`, `seconds` and
`provenance`, and is written whole. The run's own `result.json` stays as it is. A measurement that
failed has a `NAME.failed.json`. Standard library only.
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


def folder_of(run: RunFolder) -> Path:
    """Where the files are, or will be. UserError where something else has that name.

    Results must not be written outside of the run's folder, not even through a link.
    """
    path = run.path / FOLDER
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        kind = "a link" if path.is_symlink() else "a file"
        raise UserError(f"{path}: is {kind}, expected a folder; remove it to measure the run")
    return path


def read(run: RunFolder) -> dict[str, dict[str, Any]]:
    """name -> measurement, of all whose files can be read and hold what they should."""
    measurements = {}
    for path in sorted((run.path / FOLDER).glob("*.json")):
        measurement = None if path.name.endswith(_FAILED) else _read_measurement(path)
        if measurement is not None:
            measurements[path.stem] = measurement
    return measurements


def missing(
    run: RunFolder, wanted: Mapping[str, Mapping[str, Any]], since: float | None = None
) -> list[str]:
    """The names of `wanted` (name -> settings) that are not measured with these settings.

    What can't be measured with them is not missing. since: a time in seconds; what is older counts
    as missing.
    """
    path = run.path / FOLDER
    return [
        name
        for name, settings in wanted.items()
        if not _matches(_read_measurement(path / f"{name}.json"), settings, since)
        and not _matches(read_json(path / f"{name}{_FAILED}"), settings, since)
    ]


def measured(run: RunFolder) -> dict[str, Any] | None:
    """`result.json` with the metrics and curves of all evaluations; None while there is none."""
    result = run.result()
    if result is None:
        return None
    metrics, curves = dict(result.get("metrics") or {}), dict(result.get("curves") or {})
    for name, measurement in read(run).items():
        metrics |= measurement.get("metrics") or {}
        curves |= {name: measurement["curves"]} if measurement.get("curves") else {}
    return {**result, "metrics": metrics, "curves": curves}


def fail(run: RunFolder, name: str, error: str, settings: Mapping[str, Any] | None = None) -> None:
    """Record that a measurement failed; an earlier result stays.

    settings: given when the measurement can't be made with them of this network and these data: it
    is not tried again with the same settings.
    """
    failure = {"error": error, "provenance": {"finished": time.time()}}
    if settings is not None:
        failure["settings"] = dict(settings)
    atomic_write(_failure_file(run, name), dump(failure))


def clear_failure(run: RunFolder, name: str) -> None:
    """Delete the record that a measurement failed, after it succeeded."""
    _failure_file(run, name).unlink(missing_ok=True)


def failures(run: RunFolder) -> dict[str, str]:
    """name -> error, of the measurements that failed and were not made since."""
    return {name: error for name, (error, is_final) in _failed(run).items() if not is_final}


def left_out(run: RunFolder) -> dict[str, str]:
    """name -> why, of the measurements that can't be made of this network and these data."""
    return {name: error for name, (error, is_final) in _failed(run).items() if is_final}


def tried_since(run: RunFolder, since: float) -> set[str]:
    """The measurements that failed after this time, in seconds, and were not made since."""
    records = ((name, read_json(_failure_file(run, name))) for name in _failed(run))
    return {name for name, failure in records if _is_since(failure or {}, since)}


def _failure_file(run: RunFolder, name: str) -> Path:
    return run.path / FOLDER / f"{name}{_FAILED}"


def _failed(run: RunFolder) -> dict[str, tuple[str, bool]]:
    """Return name -> (error, is it final) of all recorded failures."""
    failed = {}
    for path in sorted((run.path / FOLDER).glob(f"*{_FAILED}")):
        failure = read_json(path) or {}
        name = path.name.removesuffix(_FAILED)
        failed[name] = str(failure.get("error")), "settings" in failure
    return failed


def _matches(
    record: Mapping[str, Any] | None, settings: Mapping[str, Any], since: float | None
) -> bool:
    """Is the record of these settings, and not older than `since`?"""
    if record is None or record.get("settings") != settings:
        return False
    return since is None or _is_since(record, since)


def _is_since(record: Mapping[str, Any], since: float) -> bool:
    provenance = record.get("provenance")
    finished = provenance.get("finished") if isinstance(provenance, dict) else None
    return isinstance(finished, int | float) and finished >= since


def _read_measurement(path: Path) -> dict[str, Any] | None:
    """What a measurement's file holds; None where somebody wrote something else into it."""
    measurement = read_json(path)
    if measurement is None or not isinstance(measurement.get("curves") or {}, dict):
        return None
    metrics = measurement.get("metrics") or {}
    if not isinstance(metrics, dict) or not all(map(_is_metric, metrics.values())):
        return None
    return measurement


def _is_metric(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return value is None or (isinstance(value, int | float) and math.isfinite(value))
