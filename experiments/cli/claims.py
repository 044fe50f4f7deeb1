"""`mixbench claims`: what sweeps say of what is said about mixing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import JsonOption, names_of
from mixbench.experiments.errors import UserError

if TYPE_CHECKING:
    from mixbench.analysis.claims.claim import Claim
    from mixbench.analysis.claims.judge import Judgement
    from mixbench.analysis.claims.study import Study


def claims(
    sweeps: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SWEEP]",
            help="Started sweeps, or folders of published reports; default: every started sweep.",
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="CLAIM,...", help="Claims by name: cutmix_accuracy,vit_gain."),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="FILE", help="A claim of your own in YAML; none that ship."),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the judgements as Markdown."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Judge what is said about mixing by finished runs, regime by regime.

    A claim is supported, contradicted, equivalent, undecided or not tested, in each regime (data,
    network, length of training) that the sweeps have.

    Example: mixbench claims main --only cutmix_accuracy
    """
    from mixbench.analysis.claims import listing
    from mixbench.analysis.claims.judge import judge_all

    chosen = _claims(only, files or [])
    studies, published = _studies(sweeps or [])
    judged = judge_all(studies, chosen)
    if write is not None:
        _write(write, judged, published, sweeps or [])
    if as_json:
        print(listing.as_json(judged))
    elif write is None:
        print(listing.as_text(judged))
    else:
        print(f"claims: {write}")


def _claims(only: list[str] | None, files: list[Path]) -> tuple[Claim, ...]:
    from mixbench.analysis.claims import claim

    if only and files:
        raise UserError("--only: names claims that ship, and can't be combined with --file")
    names = names_of(only, "claims such as cutmix_accuracy")
    return tuple(map(claim.read, files)) if files else claim.chosen(names)


def _studies(names: list[str]) -> tuple[list[Study], list[Path]]:
    """Read the sweeps and the published reports; without a name all sweeps that can be read."""
    from mixbench.analysis.claims import study
    from mixbench.analysis.report.data import collect
    from mixbench.analysis.report.sections.claims import study_of
    from mixbench.experiments.store.sweep_folder import SweepFolder

    if not names:
        found = []
        for name in SweepFolder.names():
            try:
                found.append(study_of(collect(SweepFolder.open(name), None)))
            except UserError as error:
                print(f"left out: {error}", file=sys.stderr)
        return found, []
    studies, folders = [], []
    for name in dict.fromkeys(names):
        if name in SweepFolder.names() or not Path(name).exists():
            studies.append(study_of(collect(SweepFolder.open(name), None)))
            continue
        for folder in study.irreproducible(Path(name)):
            print(f"left out: {folder}: made from uncommitted code", file=sys.stderr)
        for folder in study.published(Path(name)):
            studies.append(study.of_published(folder))
            folders.append(folder)
    return studies, folders


def _write(path: Path, judged: list[Judgement], published: list[Path], asked: list[str]) -> None:
    from mixbench.analysis.claims.page import page
    from mixbench.experiments.store.files import atomic_write

    if path.is_dir() or not path.absolute().parent.is_dir():
        raise UserError(f"--write: got {str(path)!r}, expected a file in a folder that is there")
    atomic_write(path, page(judged, published, path, asked))
