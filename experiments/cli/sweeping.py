"""`mixbench sweep`."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mixbench.experiments.cli import finding, planning, results
from mixbench.experiments.cli.options import (
    Cluster,
    ClusterOption,
    Device,
    DeviceOption,
    NameOption,
    PerGpuOption,
    ProfileOption,
    ScaleOption,
    SetOption,
    UriOption,
    WaitOption,
    WorkersOption,
    check_cluster,
)
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import duration, first_line, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mixbench.experiments.config.schema import RunConfig
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.experiments.sweep.expand import Sweep
    from mixbench.slurm.local import Slot
    from mixbench.slurm.measuring import Measurers
    from mixbench.slurm.pool import Pool


def sweep(
    name: Annotated[str, typer.Argument(help="A shipped sweep (see `mixbench list`) or a YAML.")],
    scale: ScaleOption = None,
    overrides: SetOption = None,
    rename: NameOption = None,
    cluster: ClusterOption = Cluster.local,
    profile: ProfileOption = None,
    workers: WorkersOption = None,
    per_gpu: PerGpuOption = None,
    device: DeviceOption = Device.auto,
    retries: Annotated[
        int,
        typer.Option(min=0, help="How often a run that crashed or hung is tried again in vain."),
    ] = 2,
    hang_seconds: Annotated[
        float,
        typer.Option("--hang-after", min=10, help="Seconds without a sign of life: a hung worker."),
    ] = 600.0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the runs, start none; as `mixbench plan`.")
    ] = False,
    wait: WaitOption = False,
    track: Annotated[bool, typer.Option(help="Project into MLflow at the end.")] = True,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    uri: UriOption = None,
) -> None:
    """Run a sweep: only what is missing, on this machine's GPUs or CPU cores, or on SLURM.

    Ctrl-C stops it, and the same command goes on where it was. With SLURM it submits and leaves.

    Example: mixbench sweep demo --set training.epochs=10 --name short
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.store.retry import retry_failed
    from mixbench.experiments.store.sweep_folder import SweepFolder, root
    from mixbench.experiments.worker import snapshot

    wanted = finding.wanted(name, overrides or [], rename, scale)
    check_cluster(cluster, profile, workers, per_gpu, device, wait)
    devices = max(run.training.devices or 1 for run in wanted.runs)
    local_slots: list[Slot] = []
    chosen = None
    if cluster is Cluster.slurm:
        from mixbench.slurm import profile as profiles

        chosen = profiles.load(profile or "")
    else:
        from mixbench.slurm import local

        local_slots = local.slots(
            workers, len(wanted.runs), device.value, per_gpu=per_gpu or 1, devices=devices
        )
    if track:
        tracking.resolve(root(), uri)
    if (root() / wanted.name / "sweep.json").exists():
        keys = {run_key for run_key, _ in wanted.keys}
        SweepFolder.open(wanted.name).check_same(keys, wanted.spec)
    if dry_run:
        planning.show(wanted, local_slots, chosen, workers=workers, per_gpu=per_gpu)
        return
    if chosen is not None:
        from mixbench.slurm import submit

        submit.check_possible(chosen, per_gpu=per_gpu, devices=devices)
    wanted = _with_data(wanted, overrides or [], rename)
    _check_runs(wanted)
    folder = _create(wanted)
    folder.allow()
    retried = retry_failed(folder)
    if retried:
        print(f"{plural(retried, 'failed run')} will be tried again")
    states = list(folder.states().values())
    missing = len(states) - states.count(RunState.DONE)
    print(f"{folder.name}: {len(states)} runs, {len(states) - missing} done, in {folder.path}")
    sys.stdout.flush()
    status = 0
    if missing and chosen is not None:
        from mixbench.slurm import submit

        code = snapshot.take(folder)
        for line in submit.submit(
            folder,
            chosen,
            workers=workers,
            missing=missing,
            code=code,
            retries=retries,
            hang_seconds=hang_seconds,
            per_gpu=per_gpu,
        ):
            print(line, flush=True)
        if not wait:
            print(f"follow it with: mixbench status {folder.name} --watch")
            print(f"when it is done: mixbench track {folder.name}; mixbench report {folder.name}")
            return
        status = _watch(folder)
    elif missing:
        from mixbench.slurm.pool import Pool

        pool = Pool(folder, code=snapshot.take(folder), retries=retries, hang_seconds=hang_seconds)
        status = _run_workers(folder, pool, local_slots[:missing])
    if any(planned.folder.result() for planned in folder.plan()):
        results.conclude(folder, track=track, report=report, uri=uri)
    raise typer.Exit(status)


def _create(wanted: Sweep) -> SweepFolder:
    from mixbench.experiments.store import provenance
    from mixbench.experiments.store.sweep_folder import SweepFolder

    return SweepFolder.create(
        wanted.name,
        wanted.description,
        wanted.spec,
        wanted.rows(),
        provenance.commit(),
        wanted.pretraining,
    )


def _with_data(
    wanted: Sweep, overrides: list[str], rename: str | None, *, may_fall_back: bool = True
) -> Sweep:
    """Have the data before any worker needs it; fall back where the sweep says so and it can't."""
    from mixbench.experiments.config import datasets
    from mixbench.experiments.sweep.load import load

    try:
        for name in dict.fromkeys(run.dataset.name for run in wanted.runs):
            datasets.ensure(name)
    except UserError as error:
        other = wanted.spec.get("fallback")
        # Data that is there but damaged is not to be replaced in silence.
        if not other or not may_fall_back or datasets.available_offline(name):
            raise
        print(f"{error}\n{wanted.name}: falling back to the sweep {other!r}", flush=True)
        return _with_data(load(other, overrides, rename), overrides, rename, may_fall_back=False)
    return wanted


def _check_runs(wanted: Sweep) -> None:
    """What can only be known from the data or the network, before any run begins."""
    for dataset in dict.fromkeys(run.dataset for run in wanted.runs):
        # Far from the limits there is no need to pay for torch's import.
        size = dataset.train_size
        if ":" in dataset.name or (size and size * dataset.validation_fraction < 100):
            from mixbench.experiments.data.load import check

            check(dataset)
    for model in dict.fromkeys(run.model for run in wanted.runs):
        if model.small_stem:
            from mixbench.experiments.models.build import build

            build(model, channels=3, classes=10, size=32, seed=0)
    if any(run.transfer is not None for run in wanted.runs):
        from mixbench.experiments.transfer import dry_check, load

        dry_check.check(wanted.runs)
        keys = (cell_key for _, cell_key in wanted.keys)
        load.check(_not_done(wanted), dict(zip(keys, wanted.runs, strict=True)))


def _not_done(wanted: Sweep) -> Iterator[RunConfig]:
    """Its runs that are still to be done: what the others started from may be gone by now."""
    from mixbench.experiments.store.run_folder import RunFolder
    from mixbench.experiments.store.sweep_folder import root

    runs = root() / wanted.name / "runs"
    for run, (run_key, _) in zip(wanted.runs, wanted.keys, strict=True):
        if RunFolder(runs / run_key).state_on_file() != RunState.DONE:
            yield run


def _run_workers(folder: SweepFolder, pool: Pool, slots: list[Slot]) -> int:
    from mixbench.experiments.manage.render import Display
    from mixbench.experiments.manage.status import Observer
    from mixbench.experiments.signals import interruptible

    progress = Observer(folder)
    progress.snapshot()
    began = time.monotonic()
    stopped = False
    with interruptible() as interrupts, Display(finding.labels(progress.plan)) as display:
        try:
            for slot in slots:
                pool.start(slot)
            while pool.poll():
                interrupts.check()
                display.show(progress.snapshot())
                time.sleep(0.5)
        except KeyboardInterrupt:
            stopped = True
            stop(pool)
        except BaseException:
            pool.stop()
            raise
        now = progress.snapshot()
        display.show(now)
    spent = duration(time.monotonic() - began)
    return _summary(folder, now, pool.unusable, stopped, spent)


def _watch(folder: SweepFolder) -> int:
    """Show the sweep until nothing is left; a Ctrl-C ends the watching, not the sweep."""
    from mixbench.experiments.manage.render import Display
    from mixbench.experiments.manage.status import Observer

    progress = Observer(folder)
    began = time.monotonic()
    try:
        with Display(finding.labels(progress.plan)) as display:
            while True:
                now = progress.snapshot()
                display.show(now)
                if now.done + now.failed == now.total or folder.stop_reason():
                    break
                time.sleep(1.0)
    except KeyboardInterrupt:
        print(f"\nthe jobs go on; mixbench status {folder.name} --watch shows them")
        raise typer.Exit(130) from None
    return _summary(folder, now, None, False, duration(time.monotonic() - began))


def stop(pool: Pool | Measurers) -> None:
    """End the processes of this machine; another Ctrl-C does not leave any behind."""
    print("\nstopping the workers", flush=True)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool.stop()
    signal.signal(signal.SIGINT, previous)


def _summary(folder: SweepFolder, now: Any, unusable: str | None, stopped: bool, spent: str) -> int:
    print(f"{now.done} of {now.total} runs done in {spent}", flush=True)
    for planned in folder.plan():
        failure = planned.folder.failure()
        if failure and planned.folder.state() == RunState.FAILED:
            first = first_line(failure["error"])
            print(f"failed: {planned.run_key[:8]} {_what(planned.config)}: {first}")
    skipped = sorted(
        {
            path
            for planned in folder.plan()
            for path in (planned.folder.result() or {"dataset": {}})["dataset"].get("skipped", [])
        }
    )
    if skipped:
        more = f" and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        print(f"images that could not be read were skipped: {', '.join(skipped[:3])}{more}")
    if now.failed:
        print(f"the tracebacks are in {folder.path / 'runs'}/*/failure.json")
    if stopped:
        print("stopped; the same command goes on where it was")
        raise typer.Exit(130)
    if unusable:
        print(unusable)
        return 1
    if folder.stop_reason():
        print(f"the sweep was stopped ({folder.stop_reason()}); the same command goes on")
        return 1
    if now.running:
        print(f"{len(now.running)} runs are being done by other workers")
    left = now.total - now.done - now.failed - len(now.running)
    if left:
        print(f"{left} runs are left, and the workers have ended; the same command goes on")
    return 1 if now.failed or left else 0


def _what(config: dict[str, Any]) -> str:
    return f"{config['augmentation']['name']} seed {config['seed']}"
