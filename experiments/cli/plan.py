"""`mixbench plan`: the runs of a sweep, which are done, and how long the rest will take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mixbench.experiments.cli import adoption, growing, names, prepare, question, reuse, tuning
from mixbench.experiments.cli.options import (
    AnySweepArgument,
    Cluster,
    ClusterOption,
    Device,
    DeviceOption,
    NameOption,
    PerGpuOption,
    ProfileOption,
    ReuseOption,
    ScaleOption,
    SetOption,
    SlurmOption,
    WorkersOption,
)
from mixbench.experiments.cli.workplace import Workplace, WorkplaceOptions
from mixbench.experiments.store.choices import TUNING
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.cli.growing import Change
    from mixbench.experiments.store.reuse import Found
    from mixbench.experiments.sweep.expand import Sweep

MOST_KINDS = 4
"""Kinds of training images that are described."""


def plan(
    name: AnySweepArgument,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    rename: NameOption = None,
    cluster: ClusterOption = Cluster.local,
    profile: ProfileOption = None,
    slurm: SlurmOption = None,
    workers: WorkersOption = None,
    per_gpu: PerGpuOption = None,
    device: DeviceOption = Device.auto,
    reuse_runs: ReuseOption = True,
) -> None:
    """Show the cells and runs of a sweep, what is done, and the hours that the rest will take.

    Of a begun sweep whose YAML has changed: which runs are new, and which are no longer asked for.
    Hours come from measured epochs, where there are any. Nothing is written or started.

    Example: mixbench plan demo --workers 4
    """
    sweep = names.any_sweep(name, overrides or [], rename, scale)
    options = WorkplaceOptions(cluster, profile, workers, per_gpu, device, slurm=slurm or ())
    workplace = options.resolve(len(sweep.runs), devices_per_run(sweep))
    adoption.check(sweep)
    change = growing.preview(sweep, growing.command(name, continues=names.is_begun(name)))
    found = reuse.find(sweep, reuse=reuse_runs)
    settled, _ = tuning.settled(sweep)
    prepare.check_folders(settled, found.sources)
    prepare.check_networks(settled, found.sources)
    show(sweep, workplace, change, found)


def devices_per_run(sweep: Sweep) -> int:
    """Return the largest `training.devices` of the sweep's runs."""
    return max(run.training.devices or 1 for run in sweep.runs)


def show(sweep: Sweep, workplace: Workplace, change: Change | None, found: Found) -> None:
    """Print the cells of a sweep, and how long its missing runs will take at this workplace.

    change: how its plan changes, if it is begun. found: those of its runs that will be taken over
    from other sweeps.
    """
    from mixbench.experiments.cli import forecast
    from mixbench.experiments.manage import estimate
    from mixbench.experiments.manage.observe import Observer
    from mixbench.experiments.manage.plugin_changes import plugin_changes

    per_task = 0
    if workplace.profile is not None:
        # Before anything is printed: the profile may not fit the runs.
        per_task = workplace.profile.workers_for(devices_per_run(sweep))
    asked = sweep
    sweep, places = tuning.settled(asked)
    states = adoption.states(sweep)
    epochs: dict[str, float] = {}
    costs: dict[str, estimate.Cost] = {}
    if change is not None:
        now = Observer(change.folder).snapshot()
        states = {run.run_key: run.state for run in now.runs}
        epochs = {run.run_key: run.epoch for run in now.runs}
        costs = estimate.measured(change.folder, epochs)
        # Those that come back, and those that were put there by hand.
        added = {key for key, place in places.items() if place in change.growth.added}
        states |= {key: change.folder.state_of(key) for key in added}
    odd = adoption.misfits(sweep)
    states |= dict.fromkeys(odd.others, RunState.WAITING)
    _print_cells(sweep, states, tuning.labels_of(asked))
    begun = None if change is None else change.folder
    for line in [*question.lines(asked, begun), *tuning.lines(asked, begun)]:
        print(line)
    if change is not None:
        wanted = {place: states.get(key, RunState.WAITING) for key, place in places.items()}
        print("\n".join([change.counts(wanted), *change.notes(asked)]))
    reuse.show(found)
    shares = tuning.shares(asked)
    missing = [
        forecast.Missing(run, run_key, cell_key, sweep.tune.get(run_key), shares.get(run_key, 1.0))
        for run, (run_key, cell_key) in zip(sweep.runs, sweep.keys, strict=True)
        if states.get(run_key) != RunState.DONE and run_key not in found.sources
    ]
    if not missing:
        print("nothing is left to train" if found.sources else "nothing is missing")
        return
    for line in plugin_changes(change.folder.plan() if change is not None else ()):
        print(line)
    forecast.show(sweep.name, missing, epochs, costs, workplace, per_task)


def _print_cells(sweep: Sweep, states: dict[str, RunState], labels: dict[str, str]) -> None:
    """Print a table of the cells with the states of their runs."""
    from rich.table import Table

    from mixbench.experiments.manage import render
    from mixbench.experiments.sweep import grid

    cells: dict[str, list[RunState]] = {}
    for run_key, cell_key in sweep.keys:
        if sweep.is_tuning(run_key):
            # A line for all settings of a cell.
            tuned = str(sweep.tune[run_key]["of"])
            cell_key = f"{tuned}{TUNING}"
            labels.setdefault(cell_key, f"{labels.get(tuned, tuned[:8])}: tuning runs")
        cells.setdefault(cell_key, []).append(states.get(run_key, RunState.WAITING))
    shown = [RunState.DONE, RunState.FAILED, RunState.RUNNING]
    if RunState.STALE in states.values():
        shown.append(RunState.STALE)
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("cell", no_wrap=True)
    table.add_column("configuration", min_width=12)
    for title in ("runs", *shown):
        table.add_column(title, no_wrap=True, justify="right")
    for key, of_cell in cells.items():
        counts = [len(of_cell), *(of_cell.count(state) for state in shown)]
        only = " (pretraining only)" if key in sweep.pretraining else ""
        table.add_row(
            "" if key.endswith(TUNING) else key[:8], f"{labels[key]}{only}", *map(str, counts)
        )
    print(render.printed(table), end="")
    number = sum(not key.endswith(TUNING) for key in cells)
    print(f"{sweep.name}: {number} cells, {len(sweep.runs)} runs{_dependent_runs(sweep)}")
    for axis, methods in grid.left_out(sweep.spec).items():
        has = "has" if len(methods) == 1 else "have"
        print(f"{axis}: {', '.join(methods)} {has} no such parameter; once, without it")
    _print_folds(sweep)
    _print_what_training_sees(sweep)
    _print_streams(sweep)
    _print_costs(sweep)


def _print_streams(sweep: Sweep) -> None:
    """Print what comes beside the labelled images."""
    from mixbench.experiments.config.data_text import stream_texts

    for text in dict.fromkeys(text for run in sweep.runs for text in stream_texts(run)):
        print(text)


def _print_costs(sweep: Sweep) -> None:
    """Print which methods ask the network, and so take forward passes of their own."""
    from mixbench.experiments.config.method_text import passes_text
    from mixbench.experiments.staging.methods import methods_of

    costs = {
        mix.name: mix.passes
        for run in sweep.runs
        for _, mix in methods_of(run.augmentation, run.phases)
        if mix.passes
    }
    for name, passes in costs.items():
        print(f"{name} costs {passes_text(passes)}")


def _print_folds(sweep: Sweep) -> None:
    """Print what the replicates of data sets with folds test on."""
    from mixbench.experiments.config.data_text import folds_text

    replicates: dict[tuple[str, int], set[int]] = {}
    for run, _ in sweep.compared():
        if run.dataset.folds is not None:
            of_dataset = replicates.setdefault((run.dataset.name, run.dataset.folds), set())
            of_dataset.add(run.replicate or 0)
    for (name, folds), numbers in replicates.items():
        print(folds_text(name, folds, len(numbers), is_tuned=bool(sweep.tune)))


def _print_what_training_sees(sweep: Sweep) -> None:
    """Print what becomes of the images of folders, and of those that are cut at random."""
    from mixbench.experiments.config import datasets
    from mixbench.experiments.config.data_text import training_images

    texts: dict[str, None] = {}
    for run in sweep.runs:
        if run.dataset.fit or run.training.random_crops:
            where = "" if datasets.has_files(run.dataset.name) else f"{run.dataset.name}: "
            texts[f"{where}{training_images(run)}"] = None
    for text in list(texts)[:MOST_KINDS]:
        print(text)
    if len(texts) > MOST_KINDS:
        print(f"and {plural(len(texts) - MOST_KINDS, 'more kind')} of training images")


def _dependent_runs(sweep: Sweep) -> str:
    """Say how many runs start from the weights of how many others."""
    from mixbench.experiments.store.dependencies import SECTIONS, cell_of

    cells = [cell_of(run.model_dump(mode="json", include=set(SECTIONS))) for run in sweep.runs]
    needed_cells = [cell for cell in cells if cell is not None]
    if not needed_cells:
        return ""
    needed = sum(key in set(needed_cells) for _, key in sweep.keys)
    has_teachers = any(run.teacher is not None for run in sweep.runs)
    one, more = ("needs", "need") if has_teachers else ("starts from", "start from")
    verb = one if len(needed_cells) == 1 else more
    return f"; {plural(len(needed_cells), 'run')} {verb} the weights of {needed} others"
