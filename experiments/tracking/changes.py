"""Tell from the times of files which runs of a sweep may have changed.

A run that has ended costs three calls of `stat`; none of its files is read a second time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.states import RunState

SETTLE_SECONDS = 5.0
OLD_SECONDS = 3600.0

Version = tuple[int, ...]
"""Times and sizes of files: another value means that something was written."""


@dataclass(frozen=True)
class _Seen:
    """A run as it was when it was last read. `settled`: it had been like that for a while."""

    version: Version
    since: float
    settled: bool
    running: bool


class Changes:
    """Remembers what was read of which run; `of` says which are to be read (again)."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def of(self, runs: Iterable[PlannedRun]) -> list[PlannedRun]:
        """Those that changed, or may have, since they were read. `runs` have all begun."""
        now = time.monotonic()
        return [run for run in runs if self._may_have_changed(run, now)]

    def _may_have_changed(self, run: PlannedRun, now: float) -> bool:
        seen = self._seen.get(run.run_key)
        if seen is None:
            return True
        if seen.running and run.folder.state() != RunState.RUNNING:
            # A worker that dies changes no file.
            return True
        if version(run.folder.path, with_claims=not seen.running) != seen.version:
            return True
        # Two writes within one tick of the file system's clock leave the same time.
        return not seen.settled and now - seen.since > SETTLE_SECONDS

    def read(self, run: PlannedRun, before: Version, running: bool) -> None:
        """The run was read and dealt with; `before` is its version from before it was read.

        running: a worker held it; then its claim's renewals are no change.
        """
        now = time.monotonic()
        current = before if not running else before[:-1]
        seen = self._seen.get(run.run_key)
        since = seen.since if seen is not None and seen.version == current else now
        settled = now - since > SETTLE_SECONDS or _is_old(before)
        self._seen[run.run_key] = _Seen(current, since, settled, running)


def version(folder: Path, with_claims: bool = True) -> Version:
    """What the file system says of a run's folder, without opening a file."""
    # The folder's time changes with every file renamed into it: all files but two.
    times = [
        _modified(folder),
        _modified(folder / "evaluations"),
        *_modified_and_size(folder / "metrics.jsonl"),
        *_modified_and_size(folder / "attempts.jsonl"),
    ]
    if with_claims:
        times.append(_modified(folder / "claims"))
    return tuple(times)


def _is_old(version: Version) -> bool:
    """Was the last write longer ago than clocks may differ?"""
    return time.time() - max(version) / 1e9 > OLD_SECONDS


def _modified(path: Path) -> int:
    return _modified_and_size(path)[0]


def _modified_and_size(path: Path) -> tuple[int, int]:
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0
    return stat.st_mtime_ns, stat.st_size
