"""`mixbench track`: copy a sweep to MLflow."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.cell_statistics import cell_statistics
from mixbench.experiments.cli.options import SweepArgument, UriOption
from mixbench.experiments.errors import UserError

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder


def track(
    name: SweepArgument,
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Update until every run is done (Ctrl-C stops it)."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare MLflow with the folders; change nothing.")
    ] = False,
    uri: UriOption = None,
) -> None:
    """Copy a sweep to MLflow; repeating it changes nothing.

    Example: mixbench track demo --follow
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if follow and verify:
        raise UserError("--follow and --verify: give one of them")
    folder = SweepFolder.open(name)
    if verify:
        _verify(folder, uri)
    elif follow:
        _follow(folder, uri)
    else:
        project(folder, uri)


def project(folder: SweepFolder, uri: str | None) -> None:
    """Bring MLflow up to date with the sweep and print a summary."""
    from mixbench.analysis.figures.run import run_figures
    from mixbench.experiments import tracking

    summary = tracking.project(folder, uri, run_figures, _print_now, cell_statistics())
    print(summary)
    for problem in summary.problems:
        print(problem)
    print(f"dashboard: {_dashboard_command(folder.name, uri)}")


def _follow(folder: SweepFolder, uri: str | None) -> None:
    from mixbench.analysis.figures.run import run_figures
    from mixbench.experiments import tracking

    tracking.follow(folder, uri, run_figures, statistics=cell_statistics())


def _verify(folder: SweepFolder, uri: str | None) -> None:
    from mixbench.experiments import tracking

    verdict = tracking.verify(folder, uri, _print_now, cell_statistics())
    print(verdict)
    if not verdict.equal:
        raise typer.Exit(1)


def _dashboard_command(sweep: str, uri: str | None) -> str:
    """Return the command that shows this sweep in this store."""
    from mixbench.experiments.tracking import local_store

    option = "" if uri is None else f" --uri {shlex.quote(local_store.shown(uri))}"
    return f"{_this_command()} dashboard {shlex.quote(sweep)}{option}"


def _print_now(line: str) -> None:
    print(line, flush=True)


def _this_command() -> str:
    """Return how the user calls us: by name if that works, else by path."""
    called = Path(sys.argv[0])
    on_path = shutil.which("mixbench")
    if on_path and Path(on_path).resolve() == called.resolve():
        return "mixbench"
    try:
        return str(called.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(called)
