"""Find finished runs of other sweeps that are the very runs which a sweep still has to do.

A run key says what a run is: its resolved configuration, with the revision of its method and what
its data hold. What it doesn't say is looked up in the result: the code of the package that a method
comes from, and the training whose weights the run started from. Standard library only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.store import dependencies, plugin_code, rights
from mixbench.experiments.store.files import SCHEMA, read_json
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState

CHECKPOINT, PREDICTIONS = "checkpoint.pt", "predictions.npz"
_RUN = "run:"


@dataclass(frozen=True)
class Source:
    """A finished run in the folder of another sweep."""

    sweep: str
    folder: RunFolder
    result: Mapping[str, Any]


@dataclass
class Found:
    """What can be taken over: run_key -> source. refused: run_key -> why not, in one line."""

    sources: dict[str, Source] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """A finished run can't be taken over; the text says why."""


def find(
    sweep: Path, run_keys: Collection[str], load_plan: Callable[[], Sequence[PlannedRun]]
) -> Found:
    """Return which runs of these keys, not begun in `sweep`, the sweeps beside it have finished.

    Folders are looked up by name, and only those of the same key are read. load_plan: gives the
    runs of all keys; called where there is something to look at. Changes nothing.
    """
    wanted = set(run_keys).difference(_entries(sweep / "runs"))
    candidates = _candidates(sweep, wanted) if wanted else {}
    if not candidates:
        return Found()
    plan = load_plan()
    needs = dependencies.needed(plan)
    found = Found()
    for planned in dependencies.by_need(plan, needs):
        for name, runs in candidates.get(planned.run_key, ()):
            # Before anything slower: it may have been begun in a hundred sweeps.
            if not os.path.lexists(f"{runs}/{planned.run_key}/result.json"):
                continue
            try:
                source = _read(name, Path(runs, planned.run_key), planned)
                _check_weights(planned, source, needs, found.sources)
            except Refused as error:
                found.refused[planned.run_key] = f"{name}: {error}"
            except FileNotFoundError:
                # Not finished there, or being deleted.
                continue
            except OSError as error:
                found.refused[planned.run_key] = f"{name}: {reason(error)}"
            else:
                found.sources[planned.run_key] = source
                found.refused.pop(planned.run_key, None)
                break
    _drop_without_weights(plan, needs, found)
    return found


def reason(error: Exception) -> str:
    """Say in a line why a run can't be taken over."""
    if isinstance(error, OSError):
        return rights.describe(error) if rights.is_refusal(error) else str(error.strerror)
    return str(error)


def _candidates(sweep: Path, wanted: Collection[str]) -> dict[str, list[tuple[str, str]]]:
    """Return run_key -> (sweep, its folder of runs), sweeps with the most of the wanted runs first.

    So runs that start from one another come from one sweep where that is possible.
    """
    in_sweeps = []
    for name, runs in _others(sweep):
        keys = [key for key in _entries(runs) if key in wanted]
        if keys:
            in_sweeps.append((name, runs, keys))
    candidates: dict[str, list[tuple[str, str]]] = {}
    for name, runs, keys in sorted(in_sweeps, key=lambda item: (-len(item[2]), item[0])):
        for key in keys:
            candidates.setdefault(key, []).append((name, str(runs)))
    return candidates


def _others(sweep: Path) -> Iterator[tuple[str, Path]]:
    """Yield the name and the folder of runs of each other sweep: none twice, none outside."""
    root = os.path.realpath(sweep.parent)
    seen = {os.path.realpath(sweep / "runs")}
    names = [name for name in _entries(sweep.parent) if not name.startswith(".")]
    # Those that are no links first: a sweep goes by its own name.
    for name in sorted(names, key=lambda name: ((sweep.parent / name).is_symlink(), name)):
        path = sweep.parent / name
        runs = os.path.realpath(path / "runs")
        if runs in seen or os.path.commonpath([root, runs]) != root:
            continue
        # Not `Path.is_file`, which raises where another user keeps a sweep private.
        if os.path.isfile(path / "sweep.json"):
            seen.add(runs)
            yield name, path / "runs"


def _entries(folder: Path) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(folder)
    return []


def _read(name: str, path: Path, planned: PlannedRun) -> Source:
    """Return a finished run; FileNotFoundError if it isn't finished, Refused if it's no good."""
    if not stat.S_ISDIR(path.lstat().st_mode):
        raise Refused("is not a folder")
    _check_is_file(path / "result.json")
    folder = RunFolder(path)
    result = read_json(path / "result.json")
    if result is None or not isinstance(result.get("metrics"), dict):
        raise Refused("result.json can't be read")
    if result.get("schema") != SCHEMA or result.get("run_key") != planned.run_key:
        raise Refused("result.json is of another run, or of another version of mixbench")
    config = read_json(path / "config.json") or {}
    if config.get("run_key") != planned.run_key:
        raise Refused("config.json can't be read, or is of another run")
    for file in (CHECKPOINT, PREDICTIONS):
        with contextlib.suppress(FileNotFoundError):
            check_whole(path / file)
    _check_packages(planned.config, result)
    return Source(name, folder, result)


def _check_is_file(path: Path) -> None:
    if not stat.S_ISREG(path.lstat().st_mode):
        raise Refused(f"{path.name} is a link or not a file")


def check_whole(path: Path, *, every_byte: bool = False) -> None:
    """Raise Refused for a torn or damaged archive; without `every_byte`, look at its end alone."""
    _check_is_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip() if every_byte else None
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
        damaged = path.name
    if damaged:
        raise Refused(f"{path.name} is damaged")


def _check_packages(config: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Raise Refused where the run's methods came from other code of other packages than now."""
    code = plugin_code.current(config)
    if not plugin_code.is_current(result, config, code):
        raise Refused(f"was not made with the code that {', '.join(code) or 'its plug-in'} has now")


def _check_weights(
    planned: PlannedRun,
    source: Source,
    needs: Mapping[str, PlannedRun],
    sources: Mapping[str, Source],
) -> None:
    """Raise Refused unless the run started from the very weights that it would start from here.

    The key names the run that made them. But the same run trained twice, on two kinds of devices,
    say, may leave two networks: it must be the same training, and so have the same result.
    """
    runs = source.folder.path.parent
    other = needs.get(planned.run_key)
    if other is not None:
        there = RunFolder(runs / other.run_key).result()
        taken = sources.get(other.run_key)
        here: Mapping[str, Any] | None = taken.result if taken else other.folder.result()
        _check_same(here, there)
    config = (read_json(source.folder.path / "config.json") or {}).get("config") or {}
    root = planned.folder.path.parents[2]
    of_both = (dependencies.weights_of(planned.config), dependencies.weights_of(config))
    for weights, weights_there in itertools.zip_longest(*of_both, fillvalue=""):
        if weights.startswith(_RUN) and weights != weights_there:
            _check_same(_result_of(root, weights), _result_of(root, weights_there))


def _check_same(here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> None:
    if here is None or here != there:
        raise Refused("it started from weights of another training")


def _result_of(root: Path, weights: str) -> dict[str, Any] | None:
    sweep, _, key = weights.removeprefix(_RUN).partition("/")
    return RunFolder(root / sweep / "runs" / key).result()


def _drop_without_weights(
    plan: Sequence[PlannedRun], needs: Mapping[str, PlannedRun], found: Found
) -> None:
    """Drop runs whose weights were deleted and are needed by a run that is still to be trained."""
    while True:
        to_train = [
            run.run_key
            for run in plan
            if run.run_key in needs
            and run.run_key not in found.sources
            and run.folder.state_on_file() != RunState.DONE
        ]
        useless = {
            other.run_key
            for other in (needs[key] for key in to_train)
            if (source := found.sources.get(other.run_key))
            and not (source.folder.path / CHECKPOINT).exists()
        }
        if not useless:
            return
        for key in sorted(useless | dependencies.dependants(useless, needs)):
            source = found.sources.pop(key, None)
            if source is not None:
                why = "its weights were deleted, and a run that is to be trained starts from them"
                why = why if key in useless else "it started from weights of another training"
                found.refused[key] = f"{source.sweep}: {why}"
