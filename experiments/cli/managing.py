"""`mixbench retry`, `cancel` and `clean`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import SweepArgument, YesOption
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder

PATIENCE_SECONDS = 60.0


def retry(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP] RUN",
            help="Runs by key, or the beginning of it; a sweep alone: all its failed runs.",
        ),
    ] = None,
    failed: Annotated[
        bool, typer.Option("--failed", help="All failed runs; without a sweep, of all sweeps.")
    ] = False,
) -> None:
    """Let failed runs be tried again; what they have done and their attempts stay.

    Workers that are at work take them up, otherwise `mixbench sweep` starts some.

    Example: mixbench retry demo --failed
    """
    from mixbench.experiments.cli import finding
    from mixbench.experiments.store.retry import retry_failed
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if words:
        chosen = finding.runs(words)
        if failed and any(runs for _, runs in chosen.values()):
            raise UserError("--failed: means all failed runs; give a sweep alone, or runs alone")
    elif failed:
        chosen = {name: (SweepFolder.open(name), []) for name in SweepFolder.names()}
    else:
        raise UserError("give a sweep, runs, or --failed (mixbench retry --help)")
    for folder, runs in chosen.values():
        for planned in runs:
            state = planned.folder.state()
            if state != RunState.FAILED:
                raise UserError(
                    f"run {planned.run_key!r} of sweep {folder.name!r} is {state}, "
                    "only a failed one can be tried again"
                )
    forgiven = 0
    for folder, runs in chosen.values():
        count = retry_failed(folder, {planned.run_key for planned in runs} if runs else None)
        forgiven += count
        if count:
            print(f"{folder.name}: {plural(count, 'failed run')} will be tried again")
            print(_who_takes_up(folder))
    if not forgiven:
        print(f"no run of {' and '.join(chosen) or 'any sweep'} has failed")


def cancel(name: SweepArgument, yes: YesOption = False) -> None:
    """Stop all workers of a sweep, here, elsewhere and on SLURM; what they did is kept.

    Runs in their midst leave a checkpoint, and `mixbench sweep` goes on from there.

    Example: mixbench cancel demo
    """
    from mixbench.experiments.cli import finding, scheduler
    from mixbench.experiments.manage import cancel as cancelling
    from mixbench.experiments.manage.status import Observer

    folder = finding.sweep(name)
    _can_ask(yes)
    now = Observer(folder).snapshot()
    names = cancelling.at_work(now)
    tasks = sum(sum(found.values()) for found in scheduler.tasks(folder) or ())
    said = [plural(len(names), "worker")] if names or not tasks else []
    if tasks:
        said.append(plural(tasks, "SLURM task"))
    print(
        f"{folder.name}: {now.done} of {now.total} runs done, {len(now.running)} running on "
        f"{' and '.join(said)}",
        flush=True,
    )
    if not names and not tasks:
        print("no worker is seen at work; any that starts will stop at once")
    _ask("stop all workers of the sweep? Results and checkpoints are kept", yes)
    folder.ask_to_stop("mixbench cancel")
    try:
        if scheduler.was_asked(folder):
            _cancel_tasks(folder)
        cancelling.terminate(folder)
        left: list[str] = []
        for left in cancelling.wait(folder, PATIENCE_SECONDS):
            if left:
                print(f"waiting for {_some(left)}", flush=True)
    except KeyboardInterrupt:
        print(f"\nthe workers have been told to stop; mixbench status {folder.name} shows them")
        raise
    now = Observer(folder).snapshot()
    if left:
        print(
            f"not yet seen to have stopped: {_some(left)}; they stop when they next look at the "
            f"folder (mixbench status {folder.name} shows them)"
        )
    else:
        print("stopped")
    part = sum(run.epoch > 0 for run in now.runs if run.state in (RunState.WAITING, RunState.STALE))
    kept = f" and what {plural(part, 'run')} did in part" if part else ""
    # Where all runs are done, what was cancelled measured them.
    verb = "evaluate" if now.done == now.total else "sweep"
    print(f"kept: {plural(now.done, 'result')}{kept}; to go on: mixbench {verb} {folder.name}")
    raise typer.Exit(1 if left else 0)


def clean(
    name: SweepArgument,
    delete: Annotated[
        bool, typer.Option("--delete", "--yes", "-y", help="Delete; without it only list.")
    ] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also checkpoint.pt of done runs: the networks.")
    ] = False,
) -> None:
    """List what of a sweep's folder is of no use any more; with --delete, delete it.

    That is: checkpoints before the last of done runs, files left half-written, old claims, logs of
    workers that ended, copies of the code that no worker runs, scripts and logs of ended jobs.
    Results, metrics, predictions and whatever an unfinished run needs always stay.

    Example: mixbench clean demo
    """
    from mixbench.experiments.cli import finding, scheduler
    from mixbench.experiments.manage import clean as cleaning

    folder = finding.sweep(name)
    items = cleaning.useless(folder, weights=weights, jobs=scheduler.jobs(folder))
    if not items:
        print(f"{folder.name}: nothing to clean")
        return
    kinds: dict[str, list[int]] = {}
    for item in items:
        kinds.setdefault(item.kind, []).append(item.size)
    width = max(map(len, kinds))
    for kind, sizes in kinds.items():
        print(f"  {kind:{width}}  {len(sizes):6,}  {_bytes(sum(sizes)):>9}")
    total = sum(item.size for item in items)
    if delete:
        print(f"{folder.name}: {_bytes(cleaning.delete(items))} freed")
    else:
        print(
            f"{folder.name}: {_bytes(total)} can be freed; nothing was deleted. "
            f"To do it: mixbench clean {folder.name}{' --weights' if weights else ''} --delete"
        )


def _cancel_tasks(folder: SweepFolder) -> None:
    from mixbench.experiments.cli import scheduler

    try:
        print(f"SLURM: {plural(scheduler.cancel(folder), 'task')} cancelled", flush=True)
    except UserError as error:
        # The tasks see for themselves, in the folder, that they are to stop.
        print(error, flush=True)


def _can_ask(yes: bool) -> None:
    """UserError where there is nobody to ask and it was not said beforehand."""
    if not yes and not sys.stdin.isatty():
        raise UserError("--yes: needed here, there is no terminal to ask at")


def _ask(question: str, yes: bool) -> None:
    """Go on only if the user says so."""
    if not yes and input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was changed")
        raise typer.Exit(1)


def _who_takes_up(folder: SweepFolder) -> str:
    from mixbench.experiments.manage import cancel as cancelling
    from mixbench.experiments.manage.status import Observer

    now = Observer(folder).snapshot()
    names = cancelling.at_work(now)
    if names and not now.stopped:
        return f"the workers at work will take them up ({_some(names)})"
    return f"to start them: mixbench sweep {folder.name}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
