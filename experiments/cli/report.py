"""`mixbench report`, and copying new results to MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import OptionalSweepArgument
from mixbench.experiments.cli.track import project
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import rights

if TYPE_CHECKING:
    from mixbench.analysis.report.build import Report
    from mixbench.experiments.store.sweep_folder import SweepFolder


def report(
    name: OptionalSweepArgument = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="The cells to compare with."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="csv:FILE", help="Results from elsewhere, not a sweep's."),
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

    A CSV has columns method, replicate (or seed), further factors, and one per metric.

    Example: mixbench report demo --baseline augmentation.name=mixup
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out: {str(out)!r} is a file, expected a folder")
    if source is not None:
        _report_csv(name, source, out, baseline, publish)
        return
    if name is None:
        raise UserError("name a sweep, or results with --from csv:FILE")
    folder = SweepFolder.open(name)
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


def _report_csv(
    name: str | None, source: str, out: Path | None, baseline: str | None, publish: Path | None
) -> None:
    from mixbench.analysis.report.csv_report import write_csv_report

    kind, colon, file = source.partition(":")
    if kind != "csv" or not colon or not file:
        raise UserError(f"--from: got {source!r}, expected csv:FILE")
    if name is not None or publish is not None:
        other = f"the sweep {name!r}" if name is not None else "--publish"
        raise UserError(f"--from: reports a file, and can't be combined with {other}")
    if out is None:
        raise UserError("--from: name the folder of the report with --out DIR")
    written = write_csv_report(Path(file), out, baseline)
    for note in written.notes:
        print(note)
    print(written.headline)
    print(f"report: {written.html}")


def _write_report(
    folder: SweepFolder, baseline: str | None = None, out: Path | None = None
) -> Report:
    from mixbench.analysis.report.build import write_report

    try:
        # Before minutes of drawing.
        rights.check_folder(out or folder.path / "report")
        written = write_report(folder, out, baseline)
    except OSError as error:
        if out is not None or not rights.is_write_refusal(error):
            raise
        raise UserError(
            f"{rights.describe(error, folder.path)}; or write it elsewhere: "
            f"mixbench report {folder.name} --out FOLDER"
        ) from None
    print(f"report: {written.html}")
    return written
