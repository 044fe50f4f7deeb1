"""`mixbench logs`: the log of a run."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli import names
from mixbench.experiments.store.states import RunState


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
        int | None, typer.Option("--lines", "-n", min=0, help="Show only the last lines.")
    ] = None,
) -> None:
    """Show the log of a run, its attempts, and the traceback if it failed.

    RUN alone is searched for in all sweeps. With -f the log is followed through restarts.

    Example: mixbench logs 3f2a9c -f
    """
    from mixbench.experiments.manage import logs as run_logs

    folder, planned = names.one_run(words)
    label = names.cell_names(folder.plan())[planned.cell_key]
    print(run_logs.heading(folder, planned, label), flush=True)
    if not follow:
        print(run_logs.report(planned.folder, lines), end="")
        return
    for text in run_logs.follow(planned.folder, lines):
        print(text, end="", flush=True)
    raise typer.Exit(0 if planned.folder.state_on_file() == RunState.DONE else 1)
