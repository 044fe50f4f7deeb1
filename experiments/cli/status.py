"""`mixbench status`: where a sweep stands."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import names, slurm_queue
from mixbench.experiments.cli.options import JsonOption
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.experiments.manage.status import Status
    from mixbench.experiments.store.sweep_folder import SweepFolder
    from mixbench.slurm.overview import Overview

WATCH_SECONDS = 2.0


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="A sweep; default: all, a line each.")
    ] = None,
    as_json: JsonOption = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Redraw until every run is done or failed.")
    ] = False,
) -> None:
    """Show which runs are done, running, waiting, stale or failed, and why.

    Reads the sweep's folder; needs neither the launcher nor a scheduler.

    Example: mixbench status demo --watch
    """
    if watch and as_json:
        raise UserError("--watch: not together with --json, which is one object")
    if name is None:
        if watch or as_json:
            raise UserError(f"{'--watch' if watch else '--json'}: give the name of a sweep")
        _show_all()
        return
    folder = names.started_sweep(name)
    if watch:
        _watch(folder)
    elif as_json:
        _print_json(folder)
    else:
        _show_one(folder)


def _print_json(folder: SweepFolder) -> None:
    from mixbench.experiments.manage.observe import Observer

    observer = Observer(folder)
    now = observer.snapshot()
    labels = names.cell_names(observer.plan)
    tasks = slurm_queue.look(folder, now.workers)
    if tasks is None:
        shown = now.as_json(labels)
    else:
        counts = (tasks.count(measuring=False), tasks.count(measuring=True))
        shown = now.as_json(labels, *counts, tasks.as_json())
    print(json.dumps(shown, indent=1))


def _show_one(folder: SweepFolder) -> None:
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.observe import Observer

    observer = Observer(folder)
    now = observer.snapshot()
    tasks = slurm_queue.look(folder, now.workers)
    # Naming cells takes longer than all else; most sweeps are done.
    needs_names = bool(now.waited_for) or any(
        run.state not in (RunState.DONE, RunState.WAITING) or run.faults or run.waits_for_choice
        for run in now.runs
    )
    labels = names.cell_names(observer.plan) if needs_names else {}
    print(render.printed(render.panel(now, labels, notes=_notes(folder, now, tasks))), end="")


def _watch(folder: SweepFolder) -> None:
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.observe import Observer

    observer = Observer(folder)
    tasks = None
    asked = float("-inf")
    with render.Display(names.follow_cell_names(observer)) as display:
        while True:
            now = observer.snapshot()
            if time.monotonic() - asked >= slurm_queue.ASK_SECONDS:
                tasks, asked = slurm_queue.look(folder, now.workers), time.monotonic()
            display.show(now, _notes(folder, now, tasks))
            if now.settled or (now.stopped and not now.running):
                return
            time.sleep(WATCH_SECONDS)


def _show_all() -> None:
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.observe import Observer
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    sweeps = SweepFolder.names()
    if not sweeps:
        print(f"no sweep in {root()}; mixbench list sweeps shows those that ship")
        return
    rows: list[tuple[str, Status | str]] = []
    for name in sweeps:
        try:
            rows.append((name, Observer(SweepFolder.open(name)).snapshot()))
        except UserError as error:
            # A sweep that can't be read must not hide the others.
            rows.append((name, str(error)))
    print(render.printed(render.overview(rows)), end="")


def _notes(folder: SweepFolder, now: Status, tasks: Overview | None) -> list[str]:
    """Say which workers run, what SLURM's tasks do, whether all was stopped, what to do next."""
    notes = []
    silent = tasks is None and not now.settled and slurm_queue.was_submitted(folder)
    alive = [worker for worker in now.workers if worker.alive]
    if alive:
        hosts = Counter(worker.host for worker in alive)
        notes.append(f"workers: {', '.join(f'{count} on {host}' for host, count in hosts.items())}")
    if tasks is not None:
        notes += slurm_queue.describe(tasks, settled=now.settled)
    if silent:
        notes.append("SLURM can't be asked here: its tasks are not shown")
    training = tasks is not None and tasks.count(measuring=False)
    if now.stopped:
        notes.append(f"stopped ({now.stopped}); to go on: mixbench sweep {now.sweep}")
    elif not now.settled and not alive and not now.running and not training and not silent:
        notes.append(f"nobody works on it; to go on: mixbench sweep {now.sweep}")
    if now.dropped:
        notes.append(
            f"{plural(len(now.dropped), 'run')} no longer asked for, left out here; to remove: "
            f"mixbench clean {now.sweep} --dropped"
        )
    if now.failed:
        notes.append(f"why a run failed: mixbench logs RUN; once more: mixbench retry {now.sweep}")
    return notes
