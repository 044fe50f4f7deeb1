"""Find and delete files of a sweep that are no longer needed.

Never a result, a configuration, metrics, predictions, a log of a run, or anything of a run that is
not done; never anything outside the folder, but decoded pictures in the cache, which are made again
when they are needed: links are not followed, and not removed.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixbench.experiments.config import datasets
from mixbench.experiments.data import picture_cache
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import cache, claims, dependencies, evaluations, take_over, workers
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder

OLD_SECONDS = 3600.0
"""Seconds; younger files may still be being written, by a process on another machine."""
_CLAIM = re.compile(r"\d{6}\.json")


@dataclass(frozen=True)
class Item:
    """A file, or a folder with all that is in it, that can be deleted.

    size: the bytes that it frees. is_shared: another sweep has the file too, so it frees none.
    """

    path: Path
    size: int
    kind: str
    is_shared: bool = False


def unneeded(
    folder: SweepFolder, *, weights: bool = False, jobs: set[str] | None = None
) -> list[Item]:
    """Return what can be deleted.

    weights: also the last checkpoints of done runs, their trained networks, but for those from
    which an unfinished run starts.

    jobs: ids of the sweep's SLURM jobs that wait or run; None when nobody can say, and then what
    belongs to jobs stays.
    """
    now = time.time()
    items: list[Item] = []
    begun = folder.begun()
    plan = folder.plan()
    needed = awaited(folder, plan) if weights else set()
    for planned in plan:
        if planned.run_key in begun:
            can_go = weights and planned.run_key not in needed
            items += _of_run(planned.folder, can_go, now)
    items += _temporary(folder.path, now)
    items += _half_taken_over(folder.path, now)
    for path in folder.earlier_plans():
        # A worker may be reading one.
        if _age(path, now) > OLD_SECONDS:
            items += _file(path, "earlier plans of the sweep")
    people = workers.workers(folder)
    items += _of_workers(folder.path / "workers", people, now)
    somebody = any(_may_live(worker, now) for worker in people)
    if not somebody and jobs is not None and not jobs:
        items += _of_code(folder.path / "code", now)
    items += _of_jobs(folder.path / "slurm", jobs, now)
    items += _decoded_pictures(folder, plan, now)
    return items


def delete(items: list[Item]) -> int:
    """Delete the items and return the bytes freed; what is gone already counts as 0."""
    freed = 0
    for item in items:
        try:
            # Check once more without following links: it may have been replaced.
            mode = item.path.lstat().st_mode
            if stat.S_ISLNK(mode):
                continue
            if stat.S_ISDIR(mode):
                shutil.rmtree(item.path)
            else:
                item.path.unlink()
        except FileNotFoundError:
            continue
        freed += item.size
    return freed


def awaited(folder: SweepFolder, runs: Sequence[PlannedRun]) -> set[str]:
    """Return which of the runs an unfinished one is to start from, in this sweep or another."""
    plan = folder.plan()
    needed = {
        other.run_key
        for key, other in dependencies.needed(plan).items()
        if not _is_done(folder, key)
    }
    prefix = f"run:{folder.name}/"
    for name in SweepFolder.names():
        try:
            others = SweepFolder.open(name)
            wanted = [
                (run.run_key, weights)
                for run in others.plan()
                for weights in dependencies.weights_of(run.config)
            ]
        except UserError:
            continue
        for key, weights in wanted:
            if weights.startswith(prefix) and not _is_done(others, key):
                start = weights.removeprefix(prefix)
                needed |= {run.run_key for run in runs if run.run_key.startswith(start)}
    return needed & {run.run_key for run in runs}


def _is_done(folder: SweepFolder, key: str) -> bool:
    return RunFolder(folder.path / "runs" / key).state_on_file() == RunState.DONE


def _of_run(folder: RunFolder, weights: bool, now: float) -> Iterator[Item]:
    if not _is_folder(folder.path):
        return
    if claims.holder(folder.path) or claims.holder(folder.path / evaluations.FOLDER):
        # Trained, or measured from its weights.
        return
    yield from _temporary(folder.path, now)
    in_claims = folder.path / "claims"
    if _is_folder(in_claims):
        yield from _temporary(in_claims, now)
    if folder.state_on_file() != RunState.DONE:
        # An unfinished run needs its checkpoints and claims.
        return
    yield from _file(folder.path / "checkpoint.previous.pt", "checkpoints before the last")
    if weights:
        yield from _file(folder.path / "checkpoint.pt", "trained networks")
    if _is_folder(in_claims):
        numbered = sorted(p for p in in_claims.iterdir() if _CLAIM.fullmatch(p.name))
        for path in numbered[:-1]:
            yield from _file(path, "old claims of done runs")


def _temporary(folder: Path, now: float) -> Iterator[Item]:
    """Hidden files directly in the folder, left half-written by a kill or a crash."""
    for path in folder.iterdir():
        if path.name.startswith(".") and _age(path, now) > OLD_SECONDS:
            yield from _file(path, "files left half-written")


def _half_taken_over(folder: Path, now: float) -> Iterator[Item]:
    for path in folder.glob(f"{take_over.ASIDE}*"):
        if _is_folder(path) and _age(path, now) > OLD_SECONDS:
            yield Item(path, freed_by(path), "files left half-written")


def _of_workers(folder: Path, people: list[workers.Worker], now: float) -> Iterator[Item]:
    if not _is_folder(folder):
        return
    staying = {worker.path.stem for worker in people if _may_live(worker, now)}
    known = {worker.path.stem for worker in people}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix not in (".json", ".log"):
            continue
        # A worker that is starting has a log and no file yet.
        if path.stem not in staying and (path.stem in known or _age(path, now) > OLD_SECONDS):
            yield from _file(path, "logs of workers that ended")


def _may_live(worker: workers.Worker, now: float) -> bool:
    """May the worker be alive? One elsewhere that holds no run counts as ended after a day."""
    if worker.alive is None:
        return _age(worker.path, now) < 24 * OLD_SECONDS
    return worker.alive


def _of_code(folder: Path, now: float) -> Iterator[Item]:
    if not _is_folder(folder):
        return
    copies = [path for path in folder.iterdir() if _is_folder(path)]
    whole = [path for path in copies if not path.name.startswith(".")]
    latest = max(whole, key=lambda path: path.stat().st_mtime, default=None)
    for path in sorted(copies):
        if path != latest and _age(path, now) > OLD_SECONDS:
            yield Item(path, freed_by(path), "copies of the code that no worker runs")


def _of_jobs(folder: Path, jobs: set[str] | None, now: float) -> Iterator[Item]:
    if jobs is None or not _is_folder(folder):
        return
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.name == "jobs.jsonl" or any(
            _is_link(folder / p) for p in [inside, *inside.parents]
        ):
            continue
        numbers = set(re.findall(r"\d+", str(inside)))
        # Without a number its job is unknown.
        if numbers and not numbers & jobs and _age(path, now) > OLD_SECONDS:
            yield from _file(path, "scripts and logs of SLURM jobs that ended")


def _decoded_pictures(folder: SweepFolder, plan: list[PlannedRun], now: float) -> Iterator[Item]:
    """What the cache has of the sweep's image folders, and of those that are gone.

    Not of a folder on which a worker of any sweep may be at work.
    """
    cached = picture_cache.entries()
    if not cached and not cache.folder().is_dir():
        return
    own, used = _image_folders(plan), set[str]()
    for name in SweepFolder.names():
        try:
            other = folder if name == folder.name else SweepFolder.open(name)
            if any(_may_live(worker, now) for worker in workers.workers(other)):
                used |= own if other is folder else _image_folders(other.plan())
        except UserError:
            continue
    for entry in cached:
        is_gone = not Path(entry.source).is_dir()
        if entry.source not in used and (entry.source in own or is_gone):
            yield Item(entry.path, entry.size, "decoded pictures, made again when needed")
    for path in picture_cache.left_by_the_killed():
        if _age(path, now) > OLD_SECONDS:
            yield Item(path, freed_by(path), "files left half-written")


def _image_folders(plan: list[PlannedRun]) -> set[str]:
    names = {str(planned.config["dataset"]["name"]) for planned in plan}
    return {path for name in names if (path := datasets.root_of_files(name)) is not None}


def _file(path: Path, kind: str) -> Iterator[Item]:
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISREG(info.st_mode):
        yield Item(path, _freed(info), kind, info.st_nlink > 1)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_link(path: Path) -> bool:
    return path.is_symlink()


def _age(path: Path, now: float) -> float:
    try:
        return now - path.lstat().st_mtime
    except FileNotFoundError:
        return 0.0


def _freed(info: os.stat_result) -> int:
    """Return the bytes that deleting a file frees; a run that was taken over shares its files."""
    return info.st_size if info.st_nlink == 1 else 0


def freed_by(folder: Path) -> int:
    """Return the bytes that deleting a folder frees."""
    return sum(
        _freed(os.lstat(os.path.join(parent, name)))
        for parent, _, names in os.walk(folder)
        for name in names
    )
