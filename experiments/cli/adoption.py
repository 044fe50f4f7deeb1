"""Folders of a sweep that were put together by hand, for `sweep` and `plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.store.adopt import Misfits
    from mixbench.experiments.store.states import RunState
    from mixbench.experiments.sweep.expand import Sweep


def check(sweep: Sweep) -> None:
    """Raise UserError where something else than a sweep is in the place of the sweep's folder."""
    from mixbench.experiments.store import adopt
    from mixbench.experiments.store.sweep_folder import root

    adopt.check_destination(root() / sweep.name)


def states(sweep: Sweep) -> dict[str, RunState]:
    """Return the states of the sweep's runs in a folder that has no plan yet; {} for others."""
    from mixbench.experiments.store import adopt
    from mixbench.experiments.store.run_folder import RunFolder
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    path = root() / sweep.name
    if not adopt.check_destination(path):
        return {}
    begun = SweepFolder(path).begun()
    keys = [run_key for run_key, _ in sweep.keys if run_key in begun]
    return {run_key: RunFolder(path / "runs" / run_key).state() for run_key in keys}


def misfits(sweep: Sweep) -> Misfits:
    """Return which folders of runs in the sweep's folder don't count, and print which they are."""
    from mixbench.experiments.store import adopt
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    folder = SweepFolder(root() / sweep.name)
    planned = {run_key for run_key, _ in sweep.keys}
    for part in sweep.tune.values():
        # What a run of a chosen setting was before the choice was lost, it may be again.
        planned |= {setting["run_key"] for setting in part.get("settings", ())}
    begun = folder.begun()
    known: set[str] = set()
    if not begun <= planned and (folder.path / "sweep.json").exists():
        known = {run.run_key for run in folder.plan()} | set(folder.dropped())
    found = adopt.misfits(folder.path / "runs", begun, planned, known)
    if found.unplanned:
        count = plural(len(found.unplanned), "folder")
        print(
            f"{count} in runs of no run of this sweep, not counted: {adopt.a_few(found.unplanned)}"
        )
    for run_key, inside in found.others.items():
        print(f"runs/{run_key} holds another run, {inside}, and is not counted")
    return found


def set_aside(sweep: Sweep) -> None:
    """Move folders out of the way that hold other runs than their names say; print where to."""
    from mixbench.experiments.store import adopt
    from mixbench.experiments.store.sweep_folder import root

    runs = root() / sweep.name / "runs"
    for run_key, place in adopt.set_aside(runs, misfits(sweep).others).items():
        print(f"runs/{run_key} is {place.relative_to(runs.parent)} now")
