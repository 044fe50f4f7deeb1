"""`mixbench cancel`: stop the workers of a sweep."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from mixbench.experiments.cli import names, slurm_queue
from mixbench.experiments.cli.options import SweepArgument, YesOption
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import rights
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.manage.status import Status
    from mixbench.experiments.store.sweep_folder import SweepFolder

PATIENCE_SECONDS = 60.0


def cancel(name: SweepArgument, yes: YesOption = False) -> None:
    """Stop all workers of a sweep, here, on other machines and on SLURM; keep all results.

    Unfinished runs save a checkpoint, and `mixbench sweep` continues from it.

    Example: mixbench cancel demo
    """
    from mixbench.experiments.manage.observe import Observer

    folder = names.started_sweep(name)
    if not yes and not sys.stdin.isatty():
        raise UserError("--yes: needed here, there is no terminal to ask at")
    now = Observer(folder).snapshot()
    if now.settled and not slurm_queue.was_submitted(folder):
        print(f"{folder.name}: {now.done} of {now.total} runs done; there is nothing to cancel")
        return
    # The stop file is what reaches workers of other users, and on other machines.
    rights.check_writable(folder.path)
    _print_workers(folder, now)
    question = "stop all workers of the sweep? Results and checkpoints are kept"
    if not yes and input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        print("nothing was changed")
        raise typer.Exit(1)
    if not now.settled:
        folder.ask_to_stop("mixbench cancel")
    try:
        not_stopped = _stop_workers(folder)
    except KeyboardInterrupt:
        print(f"\nthe workers have been told to stop; mixbench status {folder.name} shows them")
        raise
    if not_stopped:
        print(
            f"not yet seen to have stopped: {names.a_few(not_stopped)}; they stop when they next "
            f"look at the folder (mixbench status {folder.name} shows them)"
        )
    else:
        print("stopped")
    _print_what_remains(Observer(folder).snapshot())
    raise typer.Exit(1 if not_stopped else 0)


def _print_workers(folder: SweepFolder, now: Status) -> None:
    from mixbench.experiments.manage import cancel as cancelling

    workers = cancelling.running_workers(now)
    tasks = sum(sum(counts.values()) for counts in slurm_queue.count_tasks(folder) or ())
    where = [plural(len(workers), "worker")] if workers or not tasks else []
    if tasks:
        where.append(plural(tasks, "SLURM task"))
    print(
        f"{folder.name}: {now.done} of {now.total} runs done, {len(now.running)} running on "
        f"{' and '.join(where)}",
        flush=True,
    )
    if not workers and not tasks:
        print("no running worker is known; any that starts will stop at once")


def _stop_workers(folder: SweepFolder) -> list[str]:
    """Stop tasks and workers and wait for them; return those not seen to have stopped."""
    from mixbench.experiments.manage import cancel as cancelling

    if slurm_queue.was_submitted(folder):
        _cancel_tasks(folder)
    cancelling.terminate(folder)
    running: list[str] = []
    for running in cancelling.wait(folder, PATIENCE_SECONDS):
        if running:
            print(f"waiting for {names.a_few(running)}", flush=True)
    return running


def _cancel_tasks(folder: SweepFolder) -> None:

    try:
        print(f"SLURM: {plural(slurm_queue.cancel_tasks(folder), 'task')} cancelled", flush=True)
    except UserError as error:
        # The tasks read in the folder that they must stop.
        print(error, flush=True)


def _print_what_remains(now: Status) -> None:

    part = sum(run.epoch > 0 for run in now.runs if run.state in (RunState.WAITING, RunState.STALE))
    unfinished = f" and the checkpoints of {plural(part, 'unfinished run')}" if part else ""
    # If all runs are done, the cancelled workers were measuring.
    verb = "evaluate" if now.done == now.total else "sweep"
    print(f"kept: {plural(now.done, 'result')}{unfinished}; to go on: mixbench {verb} {now.sweep}")
