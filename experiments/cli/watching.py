"""`mixbench status` and `mixbench logs`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState

if TYPE_CHECKING:
    from mixbench.experiments.cli.scheduler import Tasks
    from mixbench.experiments.manage.status import Status
    from mixbench.experiments.store.sweep_folder import SweepFolder

WATCH_SECONDS = 2.0
SCHEDULER_SECONDS = 30.0
"""How often the scheduler is asked: it serves everybody."""


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[SWEEP]", help="A sweep; default: all, a line each.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object: every run, for programs.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Redraw until every run is done or failed.")
    ] = False,
) -> None:
    """Where a sweep stands: done, running, waiting, failed and why, stale.

    Read from the sweep's folder, so it is true with or without a launcher or a scheduler.

    Example: mixbench status demo --watch
    """
    from mixbench.experiments.cli import finding

    if watch and as_json:
        raise UserError("--watch: not together with --json, which is one object")
    if name is None:
        if watch or as_json:
            raise UserError(f"{'--watch' if watch else '--json'}: give the name of a sweep")
        _overview()
        return
    folder = finding.sweep(name)
    if watch:
        _watch(folder)
    else:
        _once(folder, as_json)


def logs(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[SWEEP] RUN", help="A run by its key, or the beginning of it, as in git."
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is done or failed.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="The log's last lines only.")
    ] = None,
) -> None:
    """Show what a run logged, its attempts, and the traceback if it failed.

    RUN alone is looked for in all sweeps. With -f the log is followed through restarts.

    Example: mixbench logs 3f2a9c -f
    """
    from mixbench.experiments.cli import finding
    from mixbench.experiments.manage import logs as following

    folder, planned = finding.run(words)
    label = finding.labels(folder.plan())[planned.cell_key]
    print(following.heading(folder, planned, label), flush=True)
    if not follow:
        print(following.report(planned.folder, lines), end="")
        return
    for text in following.follow(planned.folder, lines):
        print(text, end="", flush=True)
    raise typer.Exit(0 if planned.folder.state_on_file() == RunState.DONE else 1)


def _once(folder: SweepFolder, as_json: bool) -> None:
    from mixbench.experiments.cli import finding, scheduler
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.status import Observer

    observer = Observer(folder)
    now = observer.snapshot()
    tasks = scheduler.tasks(folder)
    if as_json:
        print(json.dumps(now.as_json(finding.labels(observer.plan), *(tasks or ())), indent=1))
        return
    shown = bool(now.waited_for) or any(
        run.state not in (RunState.DONE, RunState.WAITING) or run.faults for run in now.runs
    )
    labels = finding.labels(observer.plan) if shown else {}
    print(render.printed(render.panel(now, labels, notes=_notes(now, tasks))), end="")


def _watch(folder: SweepFolder) -> None:
    from mixbench.experiments.cli import finding, scheduler
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.status import Observer

    observer = Observer(folder)
    tasks = None
    asked = float("-inf")
    with render.Display(finding.labels(observer.plan)) as display:
        while True:
            if time.monotonic() - asked >= SCHEDULER_SECONDS:
                tasks, asked = scheduler.tasks(folder), time.monotonic()
            now = observer.snapshot()
            display.show(now, _notes(now, tasks))
            if now.settled or (now.stopped and not now.running):
                return
            time.sleep(WATCH_SECONDS)


def _overview() -> None:
    from mixbench.experiments.manage import render
    from mixbench.experiments.manage.status import Observer
    from mixbench.experiments.store.sweep_folder import SweepFolder, root

    names = SweepFolder.names()
    if not names:
        print(f"no sweep in {root()}; mixbench list sweeps shows those that ship")
        return
    rows: list[tuple[str, Status | str]] = []
    for name in names:
        try:
            rows.append((name, Observer(SweepFolder.open(name)).snapshot()))
        except UserError as error:
            # One sweep that can't be read must not hide the others.
            rows.append((name, str(error)))
    print(render.printed(render.overview(rows)), end="")


def _notes(now: Status, tasks: Tasks | None) -> list[str]:
    """What the tables don't say: who works, what stops them, and what to do next."""
    notes = []
    alive = [worker for worker in now.workers if worker.alive]
    if alive:
        hosts: dict[str, int] = {}
        for worker in alive:
            hosts[worker.host] = hosts.get(worker.host, 0) + 1
        places = ", ".join(f"{count} on {host}" for host, count in hosts.items())
        notes.append(f"workers: {places}")
    for what, found in zip(("", " that measure"), tasks or (), strict=False):
        if found:
            said = ", ".join(f"{n} {state}" for state, n in found.items())
            notes.append(f"SLURM tasks{what}: {said}")
    if now.stopped:
        notes.append(f"stopped ({now.stopped}); to go on: mixbench sweep {now.sweep}")
    elif not now.settled and not alive and not now.running and not (tasks and tasks.training):
        notes.append(f"nobody works on it; to go on: mixbench sweep {now.sweep}")
    if now.failed:
        notes.append(f"why a run failed: mixbench logs RUN; once more: mixbench retry {now.sweep}")
    return notes
