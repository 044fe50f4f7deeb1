"""`mixbench report`, and copying new results to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import SweepArgument
from mixbench.experiments.cli.track import project
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import rights

if TYPE_CHECKING:
    from mixbench.analysis.report.build import Report
    from mixbench.experiments.store.sweep_folder import SweepFolder


def report(
    name: SweepArgument,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="The cells to compare with."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write it there; default: report/ in the sweep."),
    ] = None,
    publish: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Copy the report there if it is complete and all code was committed.",
        ),
    ] = None,
) -> None:
    """Write report.html, report.md, runs.csv and the figures of a sweep.

    Works on unfinished sweeps; lists missing runs. With --out, nothing in the sweep changes.

    Example: mixbench report demo --baseline augmentation.name=mixup
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    folder = SweepFolder.open(name)
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out: {str(out)!r} is a file, expected a folder")
    if publish is None:
        _write_report(folder, baseline, out)
    else:
        _publish(folder, baseline, out, publish)


def conclude(folder: SweepFolder, *, track: bool, report: bool, uri: str | None) -> None:
    """Copy new results to MLflow and write the report; go on where MLflow is out of reach."""
    if track:
        try:
            project(folder, uri)
        except UserError as error:
            print(f"not copied to MLflow: {error}; later: mixbench track {folder.name}")
    if report:
        _write_report(folder)


def _publish(folder: SweepFolder, baseline: str | None, out: Path | None, target: Path) -> None:
    from mixbench.analysis.report.publish import check_publishable, publish

    check_publishable(folder, target)
    publish(_write_report(folder, baseline, out), target)
    print(f"published: {target}")


def _write_report(
    folder: SweepFolder, baseline: str | None = None, out: Path | None = None
) -> Report:
    from mixbench.analysis.report.build import write_report

    try:
        written = write_report(folder, out, baseline)
    except PermissionError as error:
        if out is not None:
            raise
        raise UserError(
            f"{rights.describe(error, folder.path)}; or write it elsewhere: "
            f"mixbench report {folder.name} --out FOLDER"
        ) from None
    print(f"report: {written.html}")
    return written
