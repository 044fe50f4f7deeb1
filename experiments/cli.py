"""The command `mixbench`. The only file that knows every folder; it imports them when needed."""

from __future__ import annotations

import errno
import re
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from experiments.errors import UserError, unknown

if TYPE_CHECKING:
    from experiments.store import SweepFolder
    from experiments.sweep import Sweep
    from slurm.local import LocalWorkers

app = typer.Typer(
    help="Benchmark and ablation suite for mixing augmentations.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Device(StrEnum):
    """Where runs are trained."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Shown(StrEnum):
    """What `mixbench list` can show."""

    all = "all"
    augmentations = "augmentations"
    datasets = "datasets"
    models = "models"
    sweeps = "sweeps"


SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override, such as training.epochs=5."),
]
UriOption = Annotated[
    str | None,
    typer.Option(help="MLflow tracking URI; default: $MLFLOW_TRACKING_URI, else a local store."),
]


@app.callback(invoke_without_command=True)
def mixbench(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Benchmark and ablation suite for mixing augmentations."""
    if version:
        from importlib.metadata import version as installed

        print(f"mixbench {installed('mixbench')}")
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def sweep(
    name: Annotated[str, typer.Argument(help="A shipped sweep (see `mixbench list`) or a YAML.")],
    overrides: SetOption = None,
    rename: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    workers: Annotated[int | None, typer.Option(help="Workers; default: GPUs, else cores.")] = None,
    device: Annotated[Device, typer.Option(help="Where to train.")] = Device.auto,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the runs, start none.")] = False,
    track: Annotated[bool, typer.Option(help="Project into MLflow at the end.")] = True,
    report: Annotated[bool, typer.Option(help="Write the report at the end.")] = True,
    uri: UriOption = None,
) -> None:
    """Run a sweep: only what is missing, on this machine's GPUs or CPU cores."""
    from experiments import sweep as sweeps
    from experiments import tracking
    from experiments.store import SweepFolder, root
    from slurm import local

    wanted = sweeps.load(name, overrides or [], rename)
    local.slots(workers, len(wanted.runs), device.value)
    if track:
        tracking.resolve(root(), uri)
    if (root() / wanted.name / "sweep.json").exists():
        SweepFolder.open(wanted.name).check_same({run.run_key for run in wanted.runs})
    if dry_run:
        _show_plan(wanted, workers, device.value)
        return
    wanted = _with_data(wanted, overrides or [], rename)
    _check_runs(wanted)
    folder = _create(wanted)
    retried = folder.forgive()
    if retried:
        print(f"{retried} failed run{'s' if retried > 1 else ''} will be tried again")
    status = _run_workers(folder, workers, device.value)
    _finish(folder, track=track, report=report, uri=uri)
    raise typer.Exit(status)


@app.command("list")
def list_(
    what: Annotated[Shown, typer.Argument(help="What to list.")] = Shown.all,
) -> None:
    """Augmentations with their parameters and papers, data sets, models, sweeps."""
    from experiments import listing

    listing.show(what.value)


@app.command()
def preview(
    method: Annotated[str, typer.Argument(help="An augmentation, such as cutmix.")],
    dataset: Annotated[
        str, typer.Option(help="A data set, or imagefolder:/path.")
    ] = "fashion_mnist",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A parameter, such as alpha=0.2."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The PNG; default: preview_METHOD.png.")] = None,
    rows: Annotated[int, typer.Option(min=1, max=20)] = 4,
    columns: Annotated[int, typer.Option(min=1, max=10)] = 3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Write a picture of mixed images with their label weights."""
    from experiments import config
    from experiments import sweep as sweeps

    augmentation: dict[str, Any] = {"name": method}
    for text in overrides or []:
        key, value = sweeps.override(text, "alpha=0.2")
        augmentation[key.removeprefix("augmentation.")] = value
    checked = config.parse({"dataset": {"name": dataset}, "augmentation": augmentation})
    path = out or Path(f"preview_{method}.png")
    if not path.parent.is_dir():
        raise UserError(f"--out: the folder {str(path.parent)!r} does not exist")
    if path.is_dir():
        raise UserError(f"--out: {str(path)!r} is a folder, expected the name of a PNG")

    from experiments import pictures, store
    from experiments.data.load import load

    loaded = load(checked.dataset, "cpu")
    picture = pictures.preview(loaded, checked.augmentation, rows=rows, columns=columns, seed=seed)
    store.atomic_write(path, picture)
    print(f"wrote {path}")


@app.command()
def report(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep that was run.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="The cells to compare with."),
    ] = None,
) -> None:
    """Write report.html, report.md, runs.csv and the figures of a sweep."""
    from experiments.store import SweepFolder

    _write_report(SweepFolder.open(name), baseline)


@app.command()
def track(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep that was run.")],
    uri: UriOption = None,
) -> None:
    """Project a sweep into MLflow; doing it again changes nothing."""
    from experiments.store import SweepFolder

    _project(SweepFolder.open(name), uri)


@app.command()
def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    uri: UriOption = None,
) -> None:
    """Open the MLflow dashboard of all projected sweeps (Ctrl-C ends it)."""
    from experiments import store, tracking

    tracking.dashboard(store.root(), port=port, uri=uri)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Exit status: 0 good, 1 some runs failed, 2 wrong input, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = app(args=given or ["--help"], standalone_mode=False)
    except UserError as error:
        return _complain(str(error))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            raise
        # Nothing is wrong with the command, and results are written whole or not at all.
        _complain(
            f"{error.strerror}: {error.filename or 'the sweep folder'}; what was done is kept"
        )
        return 1
    except Exception as error:
        # typer's own complaints about the command line carry their exit status and text.
        text = getattr(error, "format_message", None)
        if text is None or not hasattr(error, "exit_code"):
            raise
        return _complain(_reworded(text() or str(error)))
    return status if isinstance(status, int) else 0


def _reworded(message: str) -> str:
    """typer's complaint, with the valid commands where none was named."""
    no_such = re.fullmatch(r"No such command '(.*)'\.", message)
    if no_such:
        commands = [c.name or getattr(c.callback, "__name__", "") for c in app.registered_commands]
        return str(unknown("command", no_such[1], commands))
    return message.replace("Value error, ", "")


def _complain(message: str) -> int:
    print(f"mixbench: {' '.join(message.split())}", file=sys.stderr)
    return 2


def _create(wanted: Sweep) -> SweepFolder:
    from experiments import provenance
    from experiments.store import SweepFolder

    return SweepFolder.create(
        wanted.name,
        wanted.description,
        wanted.spec,
        ((run.run_key, run.cell_key, run.model_dump(mode="json")) for run in wanted.runs),
        provenance.commit(),
    )


def _with_data(
    wanted: Sweep, overrides: list[str], rename: str | None, *, may_fall_back: bool = True
) -> Sweep:
    """Have the data before any worker needs it; fall back where the sweep says so and it can't."""
    from experiments import data
    from experiments import sweep as sweeps

    try:
        for name in dict.fromkeys(run.dataset.name for run in wanted.runs):
            data.ensure(name)
    except UserError as error:
        other = wanted.spec.get("fallback")
        # Data that is there but damaged is not to be replaced in silence.
        if not other or not may_fall_back or data.available_offline(name):
            raise
        print(f"{error}\n{wanted.name}: falling back to the sweep {other!r}", flush=True)
        return _with_data(
            sweeps.load(other, overrides, rename), overrides, rename, may_fall_back=False
        )
    return wanted


def _check_runs(wanted: Sweep) -> None:
    """What can only be known from the data or the network, before any run begins."""
    for dataset in dict.fromkeys(run.dataset for run in wanted.runs):
        # Far from the limits there is no need to pay for torch's import.
        size = dataset.train_size
        if ":" in dataset.name or (size and size * dataset.validation_fraction < 100):
            from experiments.data.load import check

            check(dataset)
    for model in dict.fromkeys(run.model for run in wanted.runs):
        if model.small_stem:
            from experiments.models.build import build

            build(model, channels=3, classes=10, size=32, seed=0)


def _show_plan(wanted: Sweep, workers: int | None, device: str) -> None:
    from analysis.labels import cell_labels
    from experiments import estimate, listing, progress
    from experiments.store import SweepFolder, root
    from slurm import local

    states: dict[str, str] = {}
    seconds = None
    if (root() / wanted.name / "sweep.json").exists():
        folder = SweepFolder.open(wanted.name)
        states = folder.states()
        seconds = estimate.from_results(folder.plan())
    cells = {run.cell_key: run.model_dump(mode="json") for run in wanted.runs}
    listing.show_plan(wanted, states, cell_labels(cells))
    missing = [run for run in wanted.runs if states.get(run.run_key) != "done"]
    if not missing:
        print("nothing is missing")
        return
    slots = local.slots(workers, len(missing), device)
    if seconds is not None:
        total, source = seconds * len(missing), "from the runs that are done"
    else:
        total = estimate.by_timing(missing, slots[0].threads, slots[0].gpu is not None)
        source = "from a few training steps timed now, start-up not counted"
    where = ", ".join(f"{slots.count(slot)} x {slot.describe()}" for slot in dict.fromkeys(slots))
    print(
        f"{len(missing)} runs to do on {where}: about "
        f"{progress.duration(total / len(slots))} ({source})"
    )


def _run_workers(folder: SweepFolder, workers: int | None, device: str) -> int:
    from experiments.progress import Display, Progress, duration
    from slurm.local import LocalWorkers, slots

    progress = Progress(folder)
    now = progress.snapshot()
    missing = now.total - now.done
    print(f"{folder.name}: {now.total} runs, {now.done} done, in {folder.path}", flush=True)
    if not missing:
        return 0
    pool = LocalWorkers(folder)
    began = time.monotonic()
    stopped = False
    with _terminable(), Display(folder.name) as display:
        try:
            for slot in slots(workers, missing, device):
                pool.start(slot)
            while pool.poll():
                display.show(progress.snapshot())
                time.sleep(0.5)
        except KeyboardInterrupt:
            stopped = True
            _stop(pool)
        except BaseException:
            pool.stop()
            raise
        now = progress.snapshot()
        display.show(now)
    return _summary(folder, now, pool, stopped, duration(time.monotonic() - began))


def _stop(pool: LocalWorkers) -> None:
    print("\nstopping the workers", flush=True)
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool.stop()
    signal.signal(signal.SIGINT, previous)


class _terminable:
    """Within it, SIGTERM is a Ctrl-C: the workers must not be left behind by accident."""

    def __enter__(self) -> None:
        self.previous = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self.previous)


def _summary(folder: SweepFolder, now: Any, pool: LocalWorkers, stopped: bool, spent: str) -> int:
    print(f"{now.done} of {now.total} runs done in {spent}", flush=True)
    for planned in folder.plan():
        failure = planned.folder.failure()
        if failure and planned.folder.state() == "failed":
            first = failure["error"].splitlines()[0]
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
    if pool.unusable:
        print(pool.unusable)
        return 1
    if now.running:
        print(f"{len(now.running)} runs are being done by other workers")
    return 1 if now.failed else 0


def _what(config: dict[str, Any]) -> str:
    return f"{config['augmentation']['name']} seed {config['seed']}"


def _finish(folder: SweepFolder, *, track: bool, report: bool, uri: str | None) -> None:
    """What follows the training; its failure must not hide that the runs are done."""
    if not any(planned.folder.result() for planned in folder.plan()):
        return
    if track:
        try:
            _project(folder, uri)
        except UserError as error:
            print(f"not projected into MLflow: {error}; later: mixbench track {folder.name}")
    if report:
        _write_report(folder, None)


def _project(folder: SweepFolder, uri: str | None) -> None:
    from analysis.figures import run_figures
    from experiments import tracking

    summary = tracking.project(folder, uri, run_figures)
    print(summary)
    for problem in summary.problems:
        print(problem)
    print(f"dashboard: {_this_command()} dashboard")


def _this_command() -> str:
    """How the user calls us: by name if that works, else by path."""
    called = Path(sys.argv[0])
    found = shutil.which("mixbench")
    if found and Path(found).resolve() == called.resolve():
        return "mixbench"
    try:
        return str(called.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(called)


def _write_report(folder: SweepFolder, baseline: str | None) -> None:
    from analysis.report import write_report

    written = write_report(folder, baseline=baseline)
    print(f"report: {written.html}")


if __name__ == "__main__":
    sys.exit(main())
