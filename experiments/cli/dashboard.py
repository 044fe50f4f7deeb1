"""`mixbench dashboard`."""

from __future__ import annotations

from typing import Annotated

import typer

from mixbench.experiments.cli.options import UriOption


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    uri: UriOption = None,
) -> None:
    """Open the MLflow dashboard of all tracked sweeps (Ctrl-C stops it).

    Example: mixbench dashboard --port 8080
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.store import sweep_folder

    tracking.dashboard(sweep_folder.root(), port=port, uri=uri)
