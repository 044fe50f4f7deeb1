"""`mixbench report`, and copying new results to MLflow."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import OptionalSweepsArgument
from mixbench.experiments.cli.track import project
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import rights

if TYPE_CHECKING:
    from mixbench.analysis.report.build import Report
    from mixbench.experiments.store.sweep_folder import SweepFolder


def report(
    names: OptionalSweepsArgument = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="KEY=VALUE", help="The cells to compare with."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="csv:FILE: results, or published numbers, of others; mlflow:URI: a store.",
        ),
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
    """Write report.html, report.md, runs.csv, tables and figures of a sweep, or of several.

    Works on unfinished sweeps; lists missing runs. With --out, nothing in the sweep changes.
    Several sweeps are joined by the settings that they share, and methods are ranked over data
    sets.

    A CSV has columns method, replicate (or seed), further factors, and one per metric; rows without
    a replicate are published numbers, with protocol and source.

    Example: mixbench report demo --baseline augmentation.name=mixup

    Example: mixbench report main dose --out both
    """
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out: {str(out)!r} is a file, expected a folder")
    named = list(names or ())
    if source is not None:
        _report_source(named, source, out, baseline, publish)
        return
    if not named:
        raise UserError("name a sweep, or results with --from csv:FILE or mlflow:URI")
    if len(named) > 1:
        _report_joined(named, out, baseline, publish, None)
        return
    folder = SweepFolder.open(named[0])
    if publish is None:
        _write_report(folder, baseline, out)
    else:
        _publish(folder, baseline, out, publish)


def conclude(folder: SweepFolder, *, track: bool, report: bool, uri: str | None) -> None:
    """Write the report and copy new results to MLflow; go on where MLflow is out of reach."""
    try:
        if report:
            if track:
                _project_for_links(folder, uri)
            # First: the runs in MLflow link to it.
            _write_report(folder)
    finally:
        if track:
            try:
                project(folder, uri)
            except UserError as error:
                print(f"not copied to MLflow: {error}; later: mixbench track {folder.name}")


def _project_for_links(folder: SweepFolder, uri: str | None) -> None:
    """Copy runs to a server before the report, which links to their pages there.

    What goes wrong is said when all is copied, after the report.
    """
    from mixbench.analysis.figures.run import run_figures
    from mixbench.experiments import tracking
    from mixbench.experiments.tracking import local_store

    with contextlib.suppress(UserError):
        if local_store.is_served(tracking.resolve(folder.path.parent, uri)):
            tracking.project(folder, uri, run_figures)


def _publish(folder: SweepFolder, baseline: str | None, out: Path | None, target: Path) -> None:
    from mixbench.analysis.report.publish import check_publishable, publish

    check_publishable(folder, target)
    publish(_write_report(folder, baseline, out, links=False), target)
    print(f"published: {target}")


def _report_source(
    names: list[str], source: str, out: Path | None, baseline: str | None, publish: Path | None
) -> None:
    kind, colon, place = source.partition(":")
    if kind not in ("csv", "mlflow") or not colon or not place:
        raise UserError(f"--from: got {source!r}, expected csv:FILE or mlflow:URI")
    if publish is not None:
        raise UserError(
            "--from: reports results from elsewhere, and can't be combined with --publish"
        )
    if out is None:
        raise UserError("--from: name the folder of the report with --out DIR")
    if kind == "mlflow":
        _report_mlflow(names, place, out, baseline)
    elif names:
        _report_joined(names, out, baseline, publish, Path(place))
    else:
        _report_csv(Path(place), out, baseline)


def _report_csv(file: Path, out: Path, baseline: str | None) -> None:
    from mixbench.analysis.report.csv_report import write_csv_report

    written = write_csv_report(file, out, baseline)
    for note in written.notes:
        print(note)
    print(written.headline)
    print(f"report: {written.html}")


def _report_joined(
    names: list[str],
    out: Path | None,
    baseline: str | None,
    publish: Path | None,
    published: Path | None,
) -> None:
    from mixbench.analysis.report.joined import write_joined
    from mixbench.analysis.tables.sources import open_source

    if out is None:
        raise UserError("several sweeps: name the folder of their report with --out DIR")
    if publish is not None:
        raise UserError("--publish: takes the report of one sweep")
    written = write_joined([*map(open_source, names)], out, baseline, published)
    print(written.headline)
    print(f"report: {written.html}")


def _report_mlflow(names: list[str], uri: str, out: Path, baseline: str | None) -> None:
    import tempfile

    from mixbench.experiments.tracking.restored import restore

    if len(names) > 1:
        raise UserError("--from mlflow:URI: reports one sweep; name one, or none")
    with tempfile.TemporaryDirectory(prefix="mixbench-mlflow-") as scratch:
        restored = restore(uri, Path(scratch), names[0] if names else None)
        for note in restored.notes:
            print(note)
        _write_report(restored.sweep, baseline, out)


def _write_report(
    folder: SweepFolder,
    baseline: str | None = None,
    out: Path | None = None,
    *,
    links: bool = True,
) -> Report:
    from mixbench.analysis.report.build import write_report

    try:
        # Before minutes of drawing.
        rights.check_folder(out or folder.path / "report")
        written = write_report(folder, out, baseline, links=links)
    except OSError as error:
        if out is not None or not rights.is_write_refusal(error):
            raise
        raise UserError(
            f"{rights.describe(error, folder.path)}; or write it elsewhere: "
            f"mixbench report {folder.name} --out FOLDER"
        ) from None
    print(f"report: {written.html}")
    return written
