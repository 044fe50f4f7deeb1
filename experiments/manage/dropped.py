"""Find and remove runs that are no longer asked for.

Never one that a worker trains or measures, or whose weights another run, in any sweep, is still to
start from. A run is claimed, then renamed out of the way, then deleted: no worker can begin it
meanwhile, and nobody can ask for it again, because the plan is locked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from mixbench.experiments.manage.clean import awaited, freed_by
from mixbench.experiments.store import claims, dependencies, evaluations
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.states import Outcome
from mixbench.experiments.store.sweep_folder import SweepFolder

ASIDE = ".dropped."


@dataclass
class Dropped:
    """Runs that are no longer asked for, by key: the bytes to free, or why they stay."""

    sizes: dict[str, int] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    remains: dict[Path, int] = field(default_factory=dict)
    """What an earlier removal left, because it was killed, with the bytes to free."""

    @property
    def size(self) -> int:
        """The bytes that removing them frees."""
        return sum(self.sizes.values()) + sum(self.remains.values())


def find(folder: SweepFolder) -> Dropped:
    """Return the sweep's runs that are no longer asked for, and can be removed. Changes nothing."""
    remains = sorted((folder.path / "runs").glob(f"{ASIDE}*"))
    found = Dropped(remains={path: freed_by(path) for path in remains})
    runs = [run for key in folder.dropped() if (run := folder.last_planned(key)) is not None]
    # Claimed, and never begun: neither an old plan nor a configuration says what it was.
    unknown = set(folder.dropped()) - {run.run_key for run in runs}
    runs += [PlannedRun(key, "", {}, RunFolder(folder.path / "runs" / key)) for key in unknown]
    held = {run.run_key for run in runs if _is_held(run.folder)}
    needed = awaited(folder, runs) | {
        other.run_key for key, other in dependencies.needed(runs).items() if key in held
    }
    for run in runs:
        path = run.folder.path
        if run.run_key in held:
            found.kept[run.run_key] = "a worker holds it"
        elif run.run_key in needed:
            found.kept[run.run_key] = "a run is still to start from its weights"
        elif path.is_symlink() or not path.is_dir():
            found.kept[run.run_key] = "it is a link or a file"
        else:
            found.sizes[run.run_key] = freed_by(path)
    return found


def remove(folder: SweepFolder) -> Dropped:
    """Remove what `find` finds; return what was removed, and what stays.

    UserError while the sweep is being grown, or another process removes its runs.
    """
    what = f"removing runs of the sweep {folder.name!r} that are no longer asked for"
    with folder.changing(what) as lock:
        found = find(folder)
        for key in list(found.sizes):
            lock.renew()
            aside = _take_away(RunFolder(folder.path / "runs" / key))
            if aside is None:
                del found.sizes[key]
                found.kept[key] = "a worker holds it"
            else:
                shutil.rmtree(aside)
        for path in found.remains:
            lock.renew()
            shutil.rmtree(path, ignore_errors=True)
    return found


def _is_held(run: RunFolder) -> bool:
    return any(map(claims.holder, (run.path, run.path / evaluations.FOLDER)))


def _take_away(run: RunFolder) -> Path | None:
    """Claim a run, so that no worker can, and rename it; None where somebody else has it."""
    with contextlib.ExitStack() as releasing:
        for place in (run.path, run.path / evaluations.FOLDER):
            if place.is_dir():
                claim = claims.acquire(place, "mixbench clean", Watch(), from_stale=True)
                if claim is None:
                    return None
                releasing.callback(claim.release, Outcome.NOTHING_TO_DO)
        aside = run.path.with_name(f"{ASIDE}{run.run_key}.{uuid.uuid4().hex}")
        os.rename(run.path, aside)
        releasing.pop_all()
    return aside
