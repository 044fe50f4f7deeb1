"""`mixbench sweep`: do the missing runs of a sweep."""

from __future__ import annotations

import os
import stat
import sys
import time
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import typer

from mixbench.experiments.cli import (
    adoption,
    growing,
    local_run,
    names,
    plan,
    prepare,
    reuse,
    slurm_queue,
    slurm_watch,
    tuning,
    until_decided,
)
from mixbench.experiments.cli.options import (
    AnySweepArgument,
    Cluster,
    ClusterOption,
    Device,
    DeviceOption,
    DryRunOption,
    HangOption,
    NameOption,
    PerGpuOption,
    ProfileOption,
    ReportOption,
    RetriesOption,
    ReuseOption,
    ScaleOption,
    SetOption,
    SlurmOption,
    TrackOption,
    UntilDecidedOption,
    UriOption,
    WaitOption,
    WorkersOption,
)
from mixbench.experiments.cli.report import conclude
from mixbench.experiments.cli.workplace import Workplace, WorkplaceOptions
from mixbench.experiments.store import rights
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, first_line, plural

if TYPE_CHECKING:
    from mixbench.experiments.manage.status import Status
    from mixbench.experiments.store.plan import Command
    from mixbench.experiments.store.reuse import Found
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.slurm.overview import Overview
    from mixbench.slurm.profile import Profile


def sweep(
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
    retries: RetriesOption = 2,
    hang_seconds: HangOption = 600.0,
    reuse_runs: ReuseOption = True,
    dry_run: DryRunOption = False,
    wait: WaitOption = False,
    until: UntilDecidedOption = False,
    track: TrackOption = True,
    report: ReportOption = True,
    uri: UriOption = None,
) -> None:
    """Do the missing runs of a sweep on this machine's GPUs or CPU cores, or on SLURM.

    Ctrl-C stops it; the same command continues. After a change of the YAML it trains what is new,
    and leaves out what is no longer asked for, also while workers run. With SLURM it submits tasks
    and ends. With --until-decided, cells of undecided contrasts get more replicates, as `decide`
    in the YAML says.

    Example: mixbench sweep demo --set training.epochs=10 --name short
    """
    wanted = names.any_sweep(name, overrides or [], rename, scale)
    rounds = until_decided.Rounds(wanted) if until else None
    wanted = rounds.plan() if rounds else wanted
    options = WorkplaceOptions(cluster, profile, workers, per_gpu, device, wait, slurm or ())
    workplace = options.resolve(len(wanted.runs), plan.devices_per_run(wanted))
    _check_tracking(track, uri)
    command = growing.command(name, continues=names.is_begun(name) and not rounds)
    adoption.check(wanted)
    change = growing.preview(wanted, command)
    if dry_run:
        plan.show(wanted, workplace, change, reuse.find(wanted, reuse=reuse_runs))
        return
    _check_slurm(wanted, workplace)
    wanted = prepare.with_data(wanted, overrides or [], rename)
    found = reuse.find(wanted, reuse=reuse_runs)
    prepare.check_runs(tuning.settled(wanted)[0], found.sources)
    folder, missing = start(
        wanted, command, found, change.checked if change else 0, may_reuse=reuse_runs
    )
    limits = Limits(workers, retries, hang_seconds)
    if missing and workplace.profile is not None and not wait and not rounds:
        _submit(folder, workplace.profile, limits, missing)
        print(f"follow it with: mixbench status {folder.name} --watch")
        print(f"when it is done: mixbench track {folder.name}; mixbench report {folder.name}")
        return
    status = _work(folder, workplace, limits, missing)
    while rounds and status == 0 and rounds.goes_on(folder):
        print("\n".join(until_decided.lines(folder)))
        wanted = rounds.plan()
        found = reuse.find(wanted, reuse=reuse_runs)
        folder, missing = start(wanted, command, found, 0, may_reuse=reuse_runs)
        status = _work(folder, workplace, limits, missing)
    if rounds and status == 0:
        print("\n".join(until_decided.lines(folder)))
    if any(planned.folder.result() for planned in folder.plan()):
        conclude(folder, track=track, report=report, uri=uri)
    raise typer.Exit(status)


@dataclass(frozen=True)
class Limits:
    """How many workers, how often a run may fail, and when a silent worker counts as hung."""

    workers: int | None
    retries: int
    hang_seconds: float


def _work(folder: SweepFolder, workplace: Workplace, limits: Limits, missing: int) -> int:
    """Do the missing runs, here or on SLURM, and wait for them; return the exit status."""
    if not missing:
        return 0
    if workplace.profile is None:
        return _run_workers(folder, workplace, limits, missing)
    _submit(folder, workplace.profile, limits, missing)
    return _watch(folder)


def _check_tracking(track: bool, uri: str | None) -> None:
    from mixbench.experiments import tracking
    from mixbench.experiments.store.sweep_folder import root

    if track:
        tracking.resolve(root(), uri)


def _check_slurm(wanted: Sweep, workplace: Workplace) -> None:
    if workplace.profile is not None:
        from mixbench.slurm import submit

        submit.check_possible(workplace.profile, devices=plan.devices_per_run(wanted))


def start(
    wanted: Sweep, command: Command, found: Found, checked: int, *, may_reuse: bool
) -> tuple[SweepFolder, int]:
    """Create, continue or grow the sweep's folder; return it and how many runs are missing.

    found: runs to take over from other sweeps. checked: see `Change`.
    """
    from mixbench.experiments.manage.contract_checks import contract_warnings
    from mixbench.experiments.manage.plugin_changes import plugin_changes
    from mixbench.experiments.store import provenance
    from mixbench.experiments.store.retry import retry_failed
    from mixbench.experiments.store.sweep_folder import SweepFolder

    adoption.set_aside(wanted)
    folder, growth = SweepFolder.create_or_grow(
        wanted.name, growing.asked(wanted), provenance.commit(), command, checked
    )
    if any(run.folder.state_on_file() != RunState.DONE for run in folder.plan()):
        # Before any worker starts: each would find it out by itself.
        rights.check_writable(folder.path, folder.path / "runs", folder.path / "workers")
    _print_who_can_not_write(folder)
    folder.allow()
    reuse.take(folder, found)
    if wanted.tune:
        tuning.choose(folder)
        # Runs of the settings that are chosen may be finished elsewhere too.
        reuse.take(folder, reuse.find(wanted, reuse=may_reuse))
    retried = retry_failed(folder)
    if retried:
        print(f"{plural(retried, 'failed run')} will be tried again")
    change = growing.Change.of(folder, growth)
    states = folder.states()
    missing = sum(state != RunState.DONE for state in states.values())
    plan_now = folder.plan() if missing else []
    for line in [*plugin_changes(plan_now), *contract_warnings(folder.path, plan_now)]:
        print(line)
    print(f"{folder.name}: {plural(len(states), 'run')}, {change.counts(states)}, in {folder.path}")
    for line in [*change.notes(wanted), *change.how_to_remove()]:
        print(line)
    sys.stdout.flush()
    return folder, missing


def _print_who_can_not_write(folder: SweepFolder) -> None:
    """Say so where a folder that a group shares holds a sweep that the group can't write to."""
    shared, made = folder.path.parent.stat(), folder.path.stat()
    is_shared = shared.st_mode & stat.S_ISGID and shared.st_mode & stat.S_IWGRP
    if is_shared and made.st_uid == os.geteuid() and not made.st_mode & stat.S_IWGRP:
        print(
            f"only you can write to {folder.path}; for your group: "
            f"`chmod -R g+rwX {folder.path}`, and `umask 002` before you start"
        )


def _submit(folder: SweepFolder, profile: Profile, limits: Limits, missing: int) -> None:
    from mixbench.experiments.worker import snapshot
    from mixbench.slurm import submit

    for line in submit.submit(
        folder,
        profile,
        code=snapshot.take(folder),
        missing=missing,
        workers=limits.workers,
        retries=limits.retries,
        hang_seconds=limits.hang_seconds,
    ):
        print(line, flush=True)
    print(f"logs of the tasks: {folder.path / 'slurm'}", flush=True)


def _run_workers(folder: SweepFolder, workplace: Workplace, limits: Limits, missing: int) -> int:
    """Run workers on this machine and show the sweep until they end; return the exit status."""
    from mixbench.experiments.manage.observe import Observer
    from mixbench.experiments.manage.render import Display
    from mixbench.experiments.signals import interruptible
    from mixbench.experiments.worker import snapshot
    from mixbench.slurm.pool import Pool

    code, patience = snapshot.take(folder), limits.hang_seconds
    pool = Pool(folder, code=code, retries=limits.retries, hang_seconds=patience)
    observer = Observer(folder)
    observer.snapshot()
    began = time.monotonic()
    with interruptible() as interrupts, Display(names.follow_cell_names(observer)) as display:
        slots = workplace.slots[:missing]
        ended = local_run.run(pool, slots, interrupts, lambda: display.show(observer.snapshot()))
        now = observer.snapshot()
        display.show(now)
    _print_summary(folder, now, time.monotonic() - began)
    if not ended:
        print("stopped; the same command goes on where it was")
        raise typer.Exit(130)
    if now.settled:
        slurm_queue.leave_queue(folder)
    return _status(folder, now, pool.unusable, held=len(now.running))


def _watch(folder: SweepFolder) -> int:
    """Show the sweep until nothing is left to wait for; Ctrl-C ends the watching, not the sweep."""
    began = time.monotonic()
    watching = slurm_watch.Watching(folder)
    try:
        now = watching.run()
    except KeyboardInterrupt:
        print(f"\nthe jobs go on; mixbench status {folder.name} --watch shows them")
        raise typer.Exit(130) from None
    _print_summary(folder, now, time.monotonic() - began)
    if now.settled:
        slurm_queue.leave_queue(folder)
    elif watching.tasks is not None and now.stopped is None:
        _print_ends(folder, watching.tasks)
        # A run that a task held when it was killed is nobody's, though that does not show yet.
        return _status(folder, now, None, held=0)
    return _status(folder, now, None, held=len(now.running))


def _print_ends(folder: SweepFolder, tasks: Overview) -> None:
    """Say why SLURM's tasks have left work undone, and where to read more."""
    print("no task is left in SLURM's queue that can start, and work remains")
    for line in (
        *tasks.why_waiting(),
        *tasks.why_ended(measuring=False, well=True),
        *tasks.never_began(),
    ):
        print(f"  {line}")
    print(f"what the tasks said: mixbench logs {folder.name}")


def _print_summary(folder: SweepFolder, now: Status, seconds: float) -> None:
    """Print how many runs are done, why runs failed, and which images were skipped."""
    print(f"{now.done} of {now.total} runs done in {duration(seconds)}", flush=True)
    skipped: dict[str, str] = {}
    plan = folder.plan()
    labels = names.cell_names(plan) if now.failed else {}
    for planned in plan:
        failure = planned.folder.failure()
        if failure and planned.folder.state() == RunState.FAILED:
            label = labels.get(planned.cell_key, planned.config["augmentation"]["name"])
            run = f"{planned.run_key[:8]} {label}, seed {planned.config['seed']}"
            print(f"failed: {run}: {first_line(failure['error'])}")
        result = planned.folder.result()
        if result is not None:
            data = result["dataset"]
            files = [_from(path, data.get("source", "")) for path in data.get("skipped", [])]
            skipped |= dict(zip_longest(files, data.get("skipped_because", []), fillvalue=""))
    if skipped:
        some = [f"{path} ({why})" if why else path for path, why in sorted(skipped.items())]
        print(f"{plural(len(skipped), 'image file')} skipped: {names.a_few(some)}")
        print("mixbench inspect FOLDER names them all")
    if now.failed:
        print(f"the tracebacks are in {folder.path / 'runs'}/*/failure.json")


def _from(path: str, folder: str) -> str:
    """Name a file from its folder on."""
    return path.removeprefix(f"{folder}/") if folder else path


def _status(folder: SweepFolder, now: Status, unusable: str | None, held: int) -> int:
    """Say what is left and why; return the exit status. held: runs that other workers hold."""
    if unusable:
        print(unusable)
        return 1
    if folder.stop_reason() and not now.settled:
        print(f"the sweep was stopped ({folder.stop_reason()}); the same command goes on")
        return 1
    if held:
        print(f"{plural(held, 'run')} held by other workers")
    left = now.total - now.done - now.failed - held
    if left:
        print(f"{plural(left, 'run')} left, and the workers have ended; the same command goes on")
    return 1 if now.failed or left else 0
