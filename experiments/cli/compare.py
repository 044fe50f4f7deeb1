"""`mixbench compare`: what changed between two sweeps, or between a sweep and itself."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mixbench.experiments.cli.options import JsonOption
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

if TYPE_CHECKING:
    from mixbench.analysis.report.changes import Compared

_SOURCE = "A sweep's name or folder, or a published report with its runs.csv."


def compare(
    before: Annotated[str, typer.Argument(metavar="A", help=_SOURCE)],
    after: Annotated[str, typer.Argument(metavar="B", help=_SOURCE)],
    tolerance: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC=VALUE",
            help="Exit status 1 where a cell's mean is worse by more: test/accuracy=0.005.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write changes.md, changes.csv, changes.json."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two sweeps cell by cell, or one sweep at two commits.

    Cells are the same if their settings are, but for what changed in all of them. Runs are paired
    by seed or replicate.

    Example: mixbench compare results/demo demo --tolerance test/accuracy=0.01
    """
    from mixbench.analysis.report.changes import compare_sources, write_changes
    from mixbench.analysis.tables.sources import open_source

    tolerances = dict(map(_tolerance, tolerance or ()))
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out: {str(out)!r} is a file, expected a folder")
    compared = compare_sources(open_source(before), open_source(after), tolerances)
    page = write_changes(compared, out) if out is not None else None
    if as_json:
        print(json.dumps(compared.as_json(), indent=1))
    else:
        _show(compared)
        if page is not None:
            print(f"page: {page}")
    if compared.is_broken:
        raise typer.Exit(1)


def _tolerance(text: str) -> tuple[str, float]:
    metric, equals, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not equals or not metric.strip() or not 0 <= number < math.inf:
        raise UserError(
            f"--tolerance: got {text!r}, expected METRIC=VALUE with a number of 0 or more, such "
            "as test/accuracy=0.005"
        )
    return metric.strip(), number


def _show(compared: Compared) -> None:
    from mixbench.analysis.text import changes as words

    print(compared.headline)
    for line in compared.basis:
        print(f"  {line}")
    for group in words.by_metric(compared.found):
        if all(change.is_same for change in group):
            print(f"\n{group[0].metric.key}: the same in all cells")
            continue
        shown = words.most_changed(group)
        print()
        _print_table([words.columns(shown[0], compared.names), *words.table(shown)])
        same = sum(change.is_same for change in group)
        if same:
            print(f"the same in {plural(same, 'other cell')}")
        if len(shown) + same < len(group):
            less = plural(len(group) - len(shown) - same, "cell")
            print(f"{less} that changed less: --out FOLDER has all")


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        first, *numbers, last = row
        cells = [f"{text:>{width}}" for text, width in zip(numbers, widths[1:-1], strict=True)]
        print("  ".join([f"{first:{widths[0]}}", *cells, last]).rstrip())
