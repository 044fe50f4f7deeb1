"""`mixbench dashboard`."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli.options import OptionalSweepArgument, UriOption


def dashboard(
    name: OptionalSweepArgument = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    uri: UriOption = None,
) -> None:
    """Open the MLflow dashboard of all tracked sweeps (Ctrl-C stops it).

    With a sweep, give the address of its prepared view: charts by method, each cell above its runs.

    Example: mixbench dashboard demo --port 8080
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.store import sweep_folder

    sweep = None if name is None else sweep_folder.SweepFolder.open(name)
    root = sweep_folder.root() if sweep is None else sweep.path.parent
    tracking.dashboard(root, port=port, uri=uri, sweep=sweep)
