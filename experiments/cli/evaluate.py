"""`mixbench evaluate`: measure finished runs from their saved weights."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import local_run, prepare, slurm_queue
from mixbench.experiments.cli.options import (
    AgainOption,
    Cluster,
    ClusterOption,
    Device,
    DeviceOption,
    MeasurementSetOption,
    OnlyOption,
    ProfileOption,
    ReportOption,
    SlurmOption,
    SweepArgument,
    TrackOption,
    UriOption,
    WaitOption,
    WorkersOption,
    names_of,
)
from mixbench.experiments.cli.report import conclude
from mixbench.experiments.cli.workplace import WorkplaceOptions
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import evaluations, rights
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.local import Slot
    from mixbench.slurm.measuring import Order
    from mixbench.slurm.profile import Profile

WATCH_SECONDS = 2.0


def evaluate(
    name: SweepArgument,
    only: OnlyOption = None,
    overrides: MeasurementSetOption = None,
    remeasure: AgainOption = False,
    tuning_runs: Annotated[
        bool,
        typer.Option("--tuning-runs", help="Measure the runs that choose a setting too."),
    ] = False,
    cluster: ClusterOption = Cluster.local,
    profile: ProfileOption = None,
    slurm: SlurmOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = Device.auto,
    wait: WaitOption = False,
    track: TrackOption = True,
    report: ReportOption = True,
    uri: UriOption = None,
) -> None:
    """Measure finished runs from their saved weights, without training.

    Only what is missing; Ctrl-C stops it, and the same command continues. Unfinished runs are left
    for later. With SLURM it submits tasks and ends.

    Example: mixbench evaluate demo --only calibration,attack
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    options = WorkplaceOptions(cluster, profile, workers, None, device, wait, slurm or ())
    options.check()
    folder = SweepFolder.open(name)
    order = _order(only, overrides or [], remeasure)._replace(tuning_runs=tuning_runs)
    everything = _finished_runs(folder)
    finished = order.of(everything)
    if unmeasured := len(everything) - len(finished):
        print(f"{plural(unmeasured, 'tuning run')} left out; --tuning-runs includes them")
    if not finished:
        raise UserError(f"sweep {folder.name!r} has no finished run to measure but tuning runs")
    runs = order.missing(finished)
    workplace = options.resolve(max(1, len(runs)))
    if workplace.profile is not None:
        prepare.check_measuring_profile(workplace.profile)
    if track:
        tracking.resolve(root(), uri)
    prepare.check_weights(runs if _takes_weights(order) else ())
    _check_writable(runs)
    if runs:
        order = prepare.with_data_to_measure(order, runs, by_name=bool(only))
    print(
        f"{folder.name}: {', '.join(order.wanted)} of {plural(len(runs), 'run')}; "
        f"{len(finished) - len(runs)} are measured already",
        flush=True,
    )
    left: list[PlannedRun] = []
    if runs and workplace.profile is not None:
        _submit(folder, workplace.profile, workers, order, runs, wait=wait)
        if not wait:
            return
        left = _watch(folder, order, runs)
    elif runs:
        left = _run_here(folder, order, runs, workplace.slots)
    is_complete = _print_failures(order, finished, left)
    left_out = _print_left_out(finished, order.wanted)
    conclude(folder, track=track and bool(runs), report=report, uri=uri)
    # What can't be measured is a failure where it was asked for by name.
    raise typer.Exit(0 if is_complete and not (only and left_out) else 1)


def _order(only: list[str] | None, overrides: list[str], remeasure: bool) -> Order:
    """Say what is to be measured, with all settings."""
    from mixbench.experiments.evaluation import catalogue
    from mixbench.experiments.sweep.load import parse_override
    from mixbench.slurm.measuring import Order

    names = names_of(only, f"measurements: {', '.join(catalogue.MEASUREMENTS)}")
    changes = dict(parse_override(text, "attack.steps=20") for text in overrides)
    wanted = catalogue.resolve(changes, catalogue.chosen(names))
    return Order(wanted, time.time() if remeasure else None)


def _takes_weights(order: Order) -> bool:
    """Tell whether a network has to be loaded, or saved predictions are enough."""
    from mixbench.experiments.evaluation import catalogue

    return bool(catalogue.by_kind(order.wanted)[0])


def _finished_runs(folder: SweepFolder) -> list[PlannedRun]:
    plan = [run for run in folder.plan() if run.stopped_at is None]
    finished = [run for run in plan if run.folder.state_on_file() == RunState.DONE]
    for run in finished:
        if run.folder.result() is None:
            raise UserError(f"{run.folder.path / 'result.json'}: not readable as JSON")
    if not finished:
        raise UserError(f"sweep {folder.name!r} has no finished run to measure")
    return finished


def _check_writable(runs: Sequence[PlannedRun]) -> None:
    """Raise PermissionError where this user can't write to any of the runs."""
    refusals = []
    for run in runs:
        try:
            rights.check_writable(run.folder.path, evaluations.folder_of(run.folder))
        except PermissionError as error:
            refusals.append(error)
    if refusals and len(refusals) == len(runs):
        raise refusals[0]


def _submit(
    folder: SweepFolder,
    profile: Profile,
    workers: int | None,
    order: Order,
    runs: Sequence[PlannedRun],
    *,
    wait: bool,
) -> None:
    from mixbench.experiments.worker import snapshot
    from mixbench.slurm import submit

    code = snapshot.take(folder)
    for line in submit.submit(
        folder, profile, workers=workers, missing=len(runs), code=code, order=order
    ):
        print(line, flush=True)
    print(f"logs of the tasks: {folder.path / 'slurm'}", flush=True)
    if not wait:
        # With --again the same command would measure everything once more.
        more = "" if order.since is not None else ", or this command with --wait"
        print(f"follow it with: mixbench status {folder.name}{more}")
        print(f"when it is done: mixbench track {folder.name}; mixbench report {folder.name}")


class _Progress:
    """Prints how many of the runs are measured, whenever that changes."""

    def __init__(self, order: Order, runs: Sequence[PlannedRun]) -> None:
        self.left = list(runs)
        self._order = order
        self._total = len(self.left)
        self._shown = -1
        self._began = time.monotonic()

    def update(self) -> None:
        """Look which runs are left, and print how many are measured if that has changed."""
        self.left = self._order.missing(self.left)
        measured = self._total - len(self.left)
        if measured != self._shown:
            self._shown = measured
            print(f"  {measured} of {self._total} runs measured in {self._spent()}", flush=True)

    def finish(self) -> list[PlannedRun]:
        """Print the time it took; return the runs that are left."""
        self.update()
        print(f"done in {self._spent()}")
        return self.left

    def _spent(self) -> str:
        return duration(time.monotonic() - self._began)


def _run_here(
    folder: SweepFolder, order: Order, runs: list[PlannedRun], slots: Sequence[Slot]
) -> list[PlannedRun]:
    """Measure on this machine, a process per slot; return the runs that are left."""
    from mixbench.experiments.signals import interruptible
    from mixbench.slurm.measuring import Measurers

    processes = Measurers(folder, order)
    progress = _Progress(order, runs)
    with interruptible() as interrupts:
        if not local_run.run(processes, slots, interrupts, progress.update):
            on = "goes on where it was" if order.since is None else "begins from the first"
            print(f"stopped; the same command {on}")
            raise typer.Exit(130)
        left = progress.finish()
    if left and processes.unusable:
        print(processes.unusable)
    return left


def _watch(folder: SweepFolder, order: Order, runs: list[PlannedRun]) -> list[PlannedRun]:
    """Watch SLURM's tasks until no run or no task is left; return the runs that are left."""
    from mixbench.slurm import queue

    progress = _Progress(order, runs)
    asked, has_tasks = float("-inf"), True
    try:
        while progress.left and has_tasks:
            if time.monotonic() - asked >= slurm_queue.ASK_SECONDS:
                tasks, asked = queue.tasks(folder), time.monotonic()
                # Where SLURM does not answer, there may be tasks.
                has_tasks = tasks is None or any(
                    task.measure == order.text() and task.can_start for task in tasks
                )
            progress.update()
            if progress.left and has_tasks:
                time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        print(f"\nthe tasks go on; mixbench status {folder.name} shows them")
        raise typer.Exit(130) from None
    left = progress.finish()
    if left:
        print(f"no task is left; their logs: {queue.folder_of(folder)}/*_log.out")
        ends = slurm_queue.look(folder, ())
        for line in () if ends is None else ends.why_ended(measuring=True, well=True):
            print(f"  {line}")
    return left


def _print_failures(
    order: Order, finished: Sequence[PlannedRun], left: Sequence[PlannedRun]
) -> bool:
    """Print which measurements failed and how many runs are left; is everything measured?"""
    # A repeated measurement that failed may still have its earlier result.
    failed = {
        (run.run_key, what): error
        for run in order.missing(finished)
        for what, error in evaluations.failures(run.folder).items()
        if what in evaluations.missing(run.folder, order.wanted, order.since)
    }
    for (key, what), error in failed.items():
        print(f"failed: {key[:8]} {what}: {error}")
    unexplained = {run.run_key for run in left} - {key for key, _ in failed}
    if unexplained:
        print(f"{plural(len(unexplained), 'run')} left to measure; the same command goes on")
    return not failed and not left


def _print_left_out(finished: Sequence[PlannedRun], wanted: Collection[str]) -> set[str]:
    """Print which measurements can't be made of which networks, and why; return their names."""
    counts = Counter(
        (what, why)
        for run in finished
        for what, why in evaluations.left_out(run.folder).items()
        if what in wanted
    )
    for (what, why), count in counts.items():
        print(f"left out: {what} of {plural(count, 'run')}: {why}")
    return {what for what, _ in counts}
