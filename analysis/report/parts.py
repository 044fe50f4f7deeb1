"""The building blocks of the pages: tables, rows and cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixbench.analysis.statistics.contrasts import Verdict


@dataclass(frozen=True)
class Cell:
    """One entry of a table.

    Attributes:
        text: What is shown.
        minor: Smaller, below it.
        tone: "good", "bad" or "" (the verdict on a difference).
        tip: What hovering shows, such as n and the interval.
        link: The id of the element that the entry leads to, such as the runs of a cell.
        spoken: What a screen reader says in place of a text that is a symbol.
    """

    text: str
    minor: str = ""
    tone: str = ""
    tip: str = ""
    link: str = ""
    spoken: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table: a name, then entries, or a note across all of them."""

    name: str
    cells: tuple[Cell, ...] = ()
    note: str = ""
    is_baseline: bool = False
    heading: bool = False


@dataclass(frozen=True)
class Table:
    """A table. first: heading of the column with the rows' names."""

    columns: Sequence[str]
    rows: Sequence[Row]
    first: str = "Method"


TONES = {Verdict.BETTER: "good", Verdict.WORSE: "bad"}
"""The tone of a difference by its verdict; other verdicts have none."""


def runs_of(cell_key: str) -> str:
    """Return the id of the runs of a cell, for `Cell.link`."""
    return f"cell-{cell_key}"
