"""`mixbench evaluate`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import results, sweeping, watching
from mixbench.experiments.cli.options import (
    Cluster,
    ClusterOption,
    Device,
    DeviceOption,
    ProfileOption,
    SweepArgument,
    UriOption,
    WaitOption,
    WorkersOption,
    check_cluster,
)
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, plural

if TYPE_CHECKING:
    from mixbench.experiments.store.run_folder import PlannedRun
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.local import Slot
    from mixbench.slurm.measuring import Order
    from mixbench.slurm.profile import Profile


def evaluate(
    name: SweepArgument,
    only: Annotated[
        str | None,
        typer.Option(help="Measurements, with commas: calibration,attack; default: all."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, such as attack.steps=20."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what is measured already.")] = False,
    cluster: ClusterOption = Cluster.local,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = Device.auto,
    wait: WaitOption = False,
    track: Annotated[bool, typer.Option(help="Project into MLflow at the end.")] = True,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    uri: UriOption = None,
) -> None:
    """Measure finished runs anew from their saved weights, without training.

    Only what is missing; Ctrl-C stops it, and the same command goes on. Runs that are not finished
    are left for later. With SLURM it submits and leaves.

    Example: mixbench evaluate demo --only calibration,attack
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.evaluation import catalogue
    from mixbench.experiments.store import evaluations
    from mixbench.experiments.store.sweep_folder import SweepFolder, root
    from mixbench.experiments.sweep.load import parse_override
    from mixbench.experiments.worker import snapshot
    from mixbench.slurm import local
    from mixbench.slurm.measuring import Order

    check_cluster(cluster, profile, workers, None, device, wait)
    folder = SweepFolder.open(name)
    names = [one.strip() for one in (only or "").split(",") if one.strip()]
    if only is not None and not names:
        raise UserError(
            f"--only: got {only!r}, expected measurements: {', '.join(catalogue.MEASUREMENTS)}"
        )
    changes = dict(parse_override(text, "attack.steps=20") for text in overrides or [])
    wanted = catalogue.resolve(changes, catalogue.chosen(names))
    order = Order(wanted, time.time() if again else None)
    done = [run for run in folder.plan() if run.folder.state_on_file() == RunState.DONE]
    for run in done:
        if run.folder.result() is None:
            raise UserError(f"{run.folder.path / 'result.json'}: not readable as JSON")
    if not done:
        raise UserError(f"sweep {name!r} has no finished run to measure")
    todo = order.missing(done)
    slots: list[Slot] = []
    chosen = None
    if cluster is Cluster.slurm:
        chosen = _profile(profile or "")
    else:
        slots = local.slots(workers, max(1, len(todo)), device.value)
    if track:
        tracking.resolve(root(), uri)
    _check_weights(todo)
    if todo:
        _check_data(order, todo, asked=bool(names))
    print(
        f"{folder.name}: {', '.join(wanted)} of {plural(len(todo), 'run')}; "
        f"{len(done) - len(todo)} are measured already",
        flush=True,
    )
    left: list[PlannedRun] = []
    if todo and chosen is not None:
        from mixbench.slurm import submit

        code = snapshot.take(folder)
        for line in submit.submit(
            folder, chosen, workers=workers, missing=len(todo), code=code, order=order
        ):
            print(line, flush=True)
        if not wait:
            # Asked for again, everything would be measured once more.
            more = "" if again else ", or this command with --wait"
            print(f"follow it with: mixbench status {folder.name}{more}")
            print(f"when it is done: mixbench track {folder.name}; mixbench report {folder.name}")
            return
        left = _watch(folder, order, todo)
    elif todo:
        left = _measure(folder, order, todo, slots)
    # What failed when it was made again, and was there before, is there still.
    failed = {
        (run.run_key, what): error
        for run in order.missing(done)
        for what, error in evaluations.failures(run.folder).items()
        if what in evaluations.missing(run.folder, wanted, order.since)
    }
    for (key, what), error in failed.items():
        print(f"failed: {key[:8]} {what}: {error}")
    lacking = _left_out(done, wanted)
    unexplained = {run.run_key for run in left} - {key for key, _ in failed}
    if unexplained:
        print(f"{plural(len(unexplained), 'run')} left to measure; the same command goes on")
    results.conclude(folder, track=track and bool(todo), report=report, uri=uri)
    # What can't be made is a failure where it was asked for by name.
    raise typer.Exit(1 if failed or left or (names and lacking) else 0)


def _left_out(done: list[PlannedRun], wanted: Collection[str]) -> set[str]:
    """Say which of `wanted` can't be made of which runs' networks, and why; their names."""
    from mixbench.experiments.store import evaluations

    counts = Counter(
        (what, why)
        for run in done
        for what, why in evaluations.left_out(run.folder).items()
        if what in wanted
    )
    for (what, why), count in counts.items():
        print(f"left out: {what} of {plural(count, 'run')}: {why}")
    return {what for what, _ in counts}


def _profile(name: str) -> Profile:
    """The profile, if tasks that measure can be had with it; else UserError."""
    from mixbench.slurm import profile as profiles
    from mixbench.slurm import submit

    chosen = profiles.load(name)
    if chosen.nodes > 1:
        raise UserError(
            f"nodes: got {chosen.nodes}, expected 1 to measure finished runs, with the profile "
            f"{chosen.name}"
        )
    submit.check_possible(chosen)
    return chosen


def _check_weights(runs: list[PlannedRun]) -> None:
    """UserError where a run has no saved weights that can be used, before anything is measured.

    Or no place for what is measured.
    """
    from mixbench.experiments.store import checkpoint, evaluations

    for run in runs:
        evaluations.place(run.folder)
    for without, words in (
        ([run for run in runs if not checkpoint.exists(run.folder.path)], "no saved weights of"),
        (
            [run for run in runs if not checkpoint.usable(run.folder.path)],
            "saved weights that are damaged or of another version of mixbench:",
        ),
    ):
        if without:
            keys = ", ".join(run.run_key for run in without[:3])
            more = f" and {len(without) - 3} more" if len(without) > 3 else ""
            raise UserError(
                f"{words} {keys}{more}; they can't be measured without being trained again"
            )


def _check_data(order: Order, runs: list[PlannedRun], *, asked: bool) -> None:
    """UserError where the data of the runs, or what else is needed, can't be had.

    What can't be measured for want of it is said and left out of the order, unless it was `asked`
    for by name.
    """
    from mixbench.experiments.config import resolve
    from mixbench.experiments.evaluation import catalogue

    datasets = dict.fromkeys(resolve.parse(run.config).dataset for run in runs)
    for name, why in catalogue.prepare(order.wanted, datasets).items():
        if asked:
            raise UserError(f"{name}: {why}")
        print(f"left out: {name}: {why}")
        del order.wanted[name]


def _measure(
    folder: SweepFolder, order: Order, todo: list[PlannedRun], slots: list[Slot]
) -> list[PlannedRun]:
    """Measure on this machine, a process per slot; the runs that are left."""
    from mixbench.experiments.signals import interruptible
    from mixbench.slurm.measuring import Measurers

    processes = Measurers(folder, order)
    with interruptible() as interrupts:

        def at_work(_: list[PlannedRun]) -> bool:
            interrupts.check()
            return processes.poll() > 0

        try:
            for slot in slots:
                processes.start(slot)
            left = _show(order, todo, at_work, 0.5)
        except KeyboardInterrupt:
            sweeping.stop(processes)
            on = "goes on where it was" if order.since is None else "begins from the first"
            print(f"stopped; the same command {on}")
            raise typer.Exit(130) from None
        except BaseException:
            processes.stop()
            raise
    if left and processes.unusable:
        print(processes.unusable)
    return left


def _watch(folder: SweepFolder, order: Order, todo: list[PlannedRun]) -> list[PlannedRun]:
    """Watch SLURM's tasks until nothing is left to measure, or no task; the runs that are left."""
    from mixbench.slurm import queue

    asked, there = float("-inf"), True

    def at_work(left: list[PlannedRun]) -> bool:
        nonlocal asked, there
        if left and time.monotonic() - asked >= watching.SCHEDULER_SECONDS:
            tasks, asked = queue.tasks(folder), time.monotonic()
            # Where nobody answers, the tasks may be there.
            there = tasks is None or any(task.measure == order.text() for task in tasks)
        return bool(left) and there

    try:
        left = _show(order, todo, at_work, 2.0)
    except KeyboardInterrupt:
        print(f"\nthe tasks go on; mixbench status {folder.name} shows them")
        raise typer.Exit(130) from None
    if left:
        print(f"no task is left; what they said: {queue.folder_of(folder)}/*_log.out")
    return left


def _show(
    order: Order,
    todo: list[PlannedRun],
    at_work: Callable[[list[PlannedRun]], bool],
    seconds: float,
) -> list[PlannedRun]:
    """Show how many runs are measured while somebody is at work; the runs that are left.

    at_work: is anybody, given the runs that are left. seconds: between two looks.
    """

    began = time.monotonic()
    left, shown = todo, -1
    while True:
        # First, so that what the last one made is seen.
        goes_on = at_work(left)
        left = order.missing(left)
        spent = duration(time.monotonic() - began)
        if len(todo) - len(left) != shown:
            shown = len(todo) - len(left)
            print(f"  {shown} of {len(todo)} runs measured in {spent}", flush=True)
        if not goes_on:
            print(f"done in {spent}")
            return left
        time.sleep(seconds)
