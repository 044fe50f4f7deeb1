"""`mixbench report`, `track` and `dashboard`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import UriOption
from mixbench.experiments.errors import UserError

if TYPE_CHECKING:
    from mixbench.experiments.store.sweep_folder import SweepFolder


def report(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep that was run.")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="The cells to compare with."),
    ] = None,
) -> None:
    """Write report.html, report.md, runs.csv and the figures of a sweep.

    At any time: what is missing is said.

    Example: mixbench report demo --baseline augmentation.name=mixup
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    write_report(SweepFolder.open(name), baseline)


def track(
    name: Annotated[str, typer.Argument(metavar="SWEEP", help="A sweep that was run.")],
    follow: Annotated[
        bool,
        typer.Option("--follow", "-f", help="Go on until every run is done (Ctrl-C ends it)."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Change nothing; compare MLflow with the folders.")
    ] = False,
    uri: UriOption = None,
) -> None:
    """Project a sweep into MLflow; doing it again changes nothing.

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


def conclude(folder: SweepFolder, *, track: bool, report: bool, uri: str | None) -> None:
    """What follows new results; where MLflow can't be had they are there all the same."""
    if track:
        try:
            project(folder, uri)
        except UserError as error:
            print(f"not projected into MLflow: {error}; later: mixbench track {folder.name}")
    if report:
        write_report(folder, None)


def _follow(folder: SweepFolder, uri: str | None) -> None:
    from mixbench.analysis.figures.run import run_figures
    from mixbench.experiments import tracking

    tracking.follow(folder, uri, run_figures)


def _verify(folder: SweepFolder, uri: str | None) -> None:
    from mixbench.experiments import tracking

    verdict = tracking.verify(folder, uri, say_at_once)
    print(verdict)
    if not verdict.equal:
        raise typer.Exit(1)


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    uri: UriOption = None,
) -> None:
    """Open the MLflow dashboard of all projected sweeps (Ctrl-C ends it).

    Example: mixbench dashboard --port 8080
    """
    from mixbench.experiments import tracking
    from mixbench.experiments.store import sweep_folder

    tracking.dashboard(sweep_folder.root(), port=port, uri=uri)


def project(folder: SweepFolder, uri: str | None) -> None:
    """Bring MLflow up to date with the sweep, and say so."""
    from mixbench.analysis.figures.run import run_figures
    from mixbench.experiments import tracking

    summary = tracking.project(folder, uri, run_figures, say_at_once)
    print(summary)
    for problem in summary.problems:
        print(problem)
    print(f"dashboard: {_this_command()} dashboard")


def say_at_once(line: str) -> None:
    """Print a line that somebody is waiting for."""
    print(line, flush=True)


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


def write_report(folder: SweepFolder, baseline: str | None) -> None:
    """Write the report, and say where."""
    from mixbench.analysis.report.build import write_report as write

    written = write(folder, baseline=baseline)
    print(f"report: {written.html}")
