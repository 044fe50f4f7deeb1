"""`mixbench logs`: the log of a run, or of a sweep's SLURM tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli import names, slurm_queue, task_logs
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.states import RunState

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder


def logs(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[SWEEP] RUN",
            help="A run by its key, or the beginning of it, as in git; a sweep alone: its tasks.",
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the run is done or failed.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", min=0, help="Show only the last lines.")
    ] = None,
) -> None:
    """Show the log of a run, its attempts, and the traceback if it failed.

    RUN alone is searched for in all sweeps. With -f the log is followed through restarts. Of a
    sweep that was submitted to SLURM: how the logs of its tasks end.

    Example: mixbench logs 3f2a9c -f
    """
    from mixbench.experiments.manage import logs as run_logs

    tasks_of = _sweep_with_tasks(words)
    if tasks_of is not None:
        if follow:
            raise UserError(f"--follow: got the sweep {tasks_of.name!r}, expected one of its runs")
        task_logs.show(tasks_of, lines)
        return
    folder, planned = names.one_run(words)
    label = names.cell_names(folder.plan())[planned.cell_key]
    print(run_logs.heading(folder, planned, label), flush=True)
    if not follow:
        print(run_logs.report(planned.folder, lines), end="")
        return
    for text in run_logs.follow(planned.folder, lines):
        print(text, end="", flush=True)
    raise typer.Exit(0 if planned.folder.state_on_file() == RunState.DONE else 1)


def _sweep_with_tasks(words: list[str]) -> SweepFolder | None:
    """Return the sweep that is meant, if it is one that was submitted to SLURM, and not a run."""
    from mixbench.experiments.store.sweep_folder import SweepFolder

    word = words[0].rstrip("/")
    if len(words) != 1 or (word not in SweepFolder.names() and not (Path(word) / "runs").is_dir()):
        return None
    folder = names.started_sweep(word)
    return folder if slurm_queue.was_submitted(folder) else None
