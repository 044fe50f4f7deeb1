"""Keep the tables of large sweeps as Parquet, so that reading them again takes no second.

What is kept counts as long as no file that the tables are made of has changed: those of the sweep
(its plan, description and choices), and of every run its result, failure, origin, curves and
evaluations, by inode, size and time of change; and the state of every run that has not ended. It
is kept in the user's cache folder (`$MIXBENCH_CACHE`, else `$XDG_CACHE_HOME/mixbench`), never in
the sweep's.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pandas as pd

import mixbench
from mixbench.analysis.tables import load as loading
from mixbench.analysis.tables.load import Tables
from mixbench.analysis.tables.parquet import read_exact, write_exact
from mixbench.analysis.tables.plugins import PluginUse
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.files import atomic_write, folder_aside, read_json
from mixbench.experiments.store.plugin_code import PluginCode
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder

WORTH = 200
"""Sweeps with fewer begun runs are read in a moment."""
SETTLED_SECONDS = 2.0
"""A file that changed later than so long ago may change again without a trace in its time."""
_MOST_KEPT = 20
_WATCHED = ("result.json", "failure.json", "origin.json", "metrics.jsonl")
_FRAMES = tuple(field.name for field in fields(Tables) if field.type == "pd.DataFrame")


@dataclass(frozen=True)
class _Files:
    """What the tables of a sweep are made of. newest: when the last of it changed, in seconds."""

    digest: str
    runs: int
    newest: float


def load(folder: SweepFolder) -> Tables:
    """Return `mixbench.analysis.tables.load.load(folder)`, kept from before if nothing changed."""
    began = time.time()
    files = _files(folder)
    if files.runs < WORTH:
        return loading.load(folder)
    name = hashlib.sha256(str(folder.path.resolve()).encode()).hexdigest()[:16]
    kept = _cache_folder() / name
    tables = _read(kept, files.digest)
    if tables is None:
        tables = loading.load(folder)
        if files.newest < began - SETTLED_SECONDS:
            # A full disk, or no right to write there: then the next time takes as long again.
            with contextlib.suppress(OSError, TypeError, ValueError):
                _write(kept, files.digest, tables)
    return tables


def _cache_folder() -> Path:
    own = os.environ.get("MIXBENCH_CACHE")
    if own:
        return Path(own) / "tables"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mixbench" / "tables"


def _files(folder: SweepFolder) -> _Files:
    known: list[tuple[Any, ...]] = [(mixbench.__file__, *_code())]
    of_sweep = [entry for entry in _entries(str(folder.path), None) if ".json" in entry[0]]
    known += sorted(of_sweep)
    newest = max((changed / 1e9 for *_, changed in of_sweep), default=0.0)
    begun = sorted(folder.begun())
    for key in begun:
        run = os.path.join(folder.path, "runs", key)
        entries = list(_entries(run, _WATCHED))
        entries += _entries(os.path.join(run, evaluations.FOLDER), None)
        names = {name for name, *_ in entries}
        known.append((key, *sorted(entries)))
        newest = max([newest, *(changed / 1e9 for *_, changed in entries)])
        if not names & {"result.json", "failure.json"}:
            known.append((key, str(RunFolder(Path(run)).state())))
    return _Files(hashlib.sha256(repr(known).encode()).hexdigest(), len(begun), newest)


def _entries(path: str, names: Sequence[str] | None) -> Iterator[tuple[str, int, int, int]]:
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if names is None or entry.name in names:
                    with contextlib.suppress(FileNotFoundError):
                        stat = entry.stat()
                        yield entry.name, stat.st_ino, stat.st_size, stat.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return


def _code() -> tuple[tuple[str, int], ...]:
    """What makes the tables: other code may make others of the same files."""
    paths = sorted(Path(loading.__file__).parent.glob("*.py"))
    return tuple((path.name, path.stat().st_mtime_ns) for path in paths)


def _read(kept: Path, digest: str) -> Tables | None:
    about = read_json(kept / digest / "about.json")
    if about is None:
        return None
    try:
        frames = {name: read_exact(kept / digest / f"{name}.parquet") for name in _FRAMES}
        plugins = [
            PluginUse(
                **{**use, "code": PluginCode(**use["code"]), "earlier": tuple(use["earlier"])}
            )
            for use in about["plugins"]
        ]
        return Tables(
            **frames,
            origins=about["origins"],
            config_columns=tuple(about["config_columns"]),
            metric_columns=tuple(about["metric_columns"]),
            classes=tuple(about["classes"]),
            plugins=tuple(plugins),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(kept: Path, digest: str, tables: Tables) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    aside = folder_aside(kept / digest)
    try:
        for name in _FRAMES:
            frame: pd.DataFrame = getattr(tables, name)
            write_exact(frame, aside / f"{name}.parquet")
        about = {
            "origins": dict(tables.origins),
            "config_columns": tables.config_columns,
            "metric_columns": tables.metric_columns,
            "classes": tables.classes,
            "plugins": [asdict(use) for use in tables.plugins],
        }
        atomic_write(aside / "about.json", json.dumps(about))
        with contextlib.suppress(FileExistsError):
            os.rename(aside, kept / digest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    _drop_old(kept, digest)


def _drop_old(kept: Path, digest: str) -> None:
    for path in kept.iterdir():
        if path.name != digest and not path.name.startswith("."):
            shutil.rmtree(path, ignore_errors=True)
    sweeps = sorted(kept.parent.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in sweeps[_MOST_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
