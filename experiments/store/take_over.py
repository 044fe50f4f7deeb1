"""Take finished runs of other sweeps over: their folders, with where they come from on record.

Files that are only ever replaced as a whole are hard-linked, where the disk allows. Others, which
are appended to, are copied: what one sweep writes never changes another's. Standard library only.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import platform
import shutil
import stat
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.store import dependencies, evaluations
from mixbench.experiments.store.files import atomic_write, dump, read_json
from mixbench.experiments.store.reuse import Refused, Source, check_whole, reason
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder

ORIGIN = "origin.json"
ASIDE = ".taken-over-"
"""What the names of folders begin with in which runs are put together."""
_REPLACED_WHOLE = (
    "config.json",
    "mixed.png",
    "checkpoint.pt",
    "predictions.npz",
    "result.json",
)
_LEFT = ("failure.json", "checkpoint.previous.pt", ORIGIN)


@dataclass
class Taken:
    """What was taken over: run_key -> sweep. refused: run_key -> why not, in one line."""

    sweeps: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def take_over(sweep: Path, plan: Sequence[PlannedRun], sources: Mapping[str, Source]) -> Taken:
    """Put the runs of `sources` (run_key -> source) into the folder of `sweep`.

    A run appears whole or not at all; one that somebody has begun meanwhile stays as it is.
    """
    taken = Taken()
    (sweep / "runs").mkdir(exist_ok=True)
    needs = dependencies.needed(plan)
    for planned in dependencies.by_need(plan, needs):
        source = sources.get(planned.run_key)
        if source is None:
            continue
        other = needs.get(planned.run_key)
        try:
            if other is not None and other.folder.result() is None:
                raise Refused("the run that it starts from could not be taken over")
            if _put_together(sweep, planned, source):
                taken.sweeps[planned.run_key] = source.sweep
        except (Refused, OSError) as error:
            taken.refused[planned.run_key] = f"{source.sweep}: {reason(error)}"
    return taken


def origin(run: RunFolder) -> dict[str, Any] | None:
    """Return `origin.json` of a run that was taken over: sweep, path, run_key, time, by, earlier.

    path: below the folder of the sweeps. earlier: the origin of the run where it was taken from.
    """
    return read_json(run.path / ORIGIN)


def in_words(sweeps: Mapping[str, str]) -> str:
    """Return "4 taken over from alpha, 2 from beta" of run_key -> sweep."""
    counts = Counter(sweeps.values()).most_common()
    return ", ".join(
        f"{count} {'' if place else 'taken over '}from {name}"
        for place, (name, count) in enumerate(counts)
    )


def _put_together(sweep: Path, planned: PlannedRun, source: Source) -> bool:
    """Put one run into place; False if somebody was faster."""
    # Beside `runs`, where nobody takes it for a run. As `mkdir` makes folders, so that rights are
    # those of the sweep.
    aside = sweep / f"{ASIDE}{planned.run_key}.{uuid.uuid4().hex[:8]}"
    aside.mkdir()
    try:
        for path in _files(source.folder.path):
            to = aside / path.relative_to(source.folder.path)
            to.parent.mkdir(exist_ok=True)
            _link_or_copy(path, to)
        for archive in sorted(aside.glob("*.pt")) + sorted(aside.glob("*.npz")):
            check_whole(archive, every_byte=True)
        if read_json(aside / "result.json") != source.result:
            raise Refused("it changed while it was taken over")
        atomic_write(aside / ORIGIN, dump(_origin(planned, source)))
        try:
            # A worker may have made the folder and not yet claimed the run: it finds it done.
            os.rename(aside, planned.folder.path)
        except OSError:
            if planned.folder.path.is_dir():
                return False
            raise
        return True
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _files(folder: Path) -> Iterator[Path]:
    """Yield what belongs to the run: files of its folder and of its evaluations, never links."""
    measured = folder / evaluations.FOLDER
    within = [] if measured.is_symlink() else measured.glob("*")
    for path in (*folder.iterdir(), *within):
        if path.name.startswith(".") or path.name in _LEFT:
            continue
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _link_or_copy(path: Path, to: Path) -> None:
    whole = to.parent.name == evaluations.FOLDER or to.name in _REPLACED_WHOLE
    try:
        if whole:
            with contextlib.suppress(OSError):
                # Other file systems, and files of other people, can't be linked.
                os.link(path, to, follow_symlinks=False)
                return
        with path.open("rb") as source, to.open("xb") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.fsync(copy.fileno())
        info = path.stat()
        os.utime(to, ns=(info.st_atime_ns, info.st_mtime_ns))
    except FileNotFoundError:
        if to.name == "result.json":
            raise
        # Replaced or deleted meanwhile, as a repeated measurement is.
        to.unlink(missing_ok=True)


def _origin(planned: PlannedRun, source: Source) -> dict[str, Any]:
    record = {
        "sweep": source.sweep,
        "path": f"{source.sweep}/runs/{planned.run_key}",
        "run_key": planned.run_key,
        "time": time.time(),
        "by": f"{_user()}@{platform.node()}",
    }
    earlier = origin(source.folder)
    return {**record, "earlier": earlier} if earlier else record


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
