"""Runs that other sweeps have finished, for `sweep` and `plan`: look for them, take them over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mixbench.experiments.cli import tuning
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.store.reuse import Found
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep

SHOWN = 3


def find(sweep: Sweep, *, reuse: bool) -> Found:
    """Return which missing runs of the sweep others have finished; none without `reuse`."""
    from mixbench.experiments.store import reuse as reusing
    from mixbench.experiments.store.sweep_folder import root

    if not reuse:
        return reusing.Found()
    path = root() / sweep.name
    sweep, _ = tuning.settled(sweep)
    return reusing.find(path, {run_key for run_key, _ in sweep.keys}, lambda: _plan(sweep))


def show(found: Found) -> None:
    """Print how many runs will be taken over from where, and which can't be."""
    from mixbench.experiments.store import take_over

    sweeps = {run_key: source.sweep for run_key, source in found.sources.items()}
    if sweeps:
        print(f"{take_over.in_words(sweeps)} (--no-reuse trains them here)")
    _show_refused(found.refused)


def take(folder: SweepFolder, found: Found) -> None:
    """Take the runs over that were found; print how many, and which could not be."""
    from mixbench.experiments.store import take_over

    taken = take_over.take_over(folder.path, folder.plan(), found.sources)
    if taken.sweeps:
        print(take_over.in_words(taken.sweeps), flush=True)
    _show_refused(found.refused | taken.refused)


def _show_refused(refused: Mapping[str, str]) -> None:
    for run_key, why in list(refused.items())[:SHOWN]:
        print(f"not taken over: {run_key} of {why}")
    if len(refused) > SHOWN:
        print(f"and {plural(len(refused) - SHOWN, 'run')} more not taken over")


def _plan(sweep: Sweep) -> list[PlannedRun]:
    from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
    from mixbench.experiments.store.sweep_folder import root

    runs = root() / sweep.name / "runs"
    return [
        PlannedRun(run_key, cell_key, config, RunFolder(runs / run_key))
        for run_key, cell_key, config in sweep.rows()
    ]
