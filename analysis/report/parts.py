"""The building blocks of the pages: tables, rows and cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mixbench.analysis.statistics.contrasts import Verdict


@dataclass(frozen=True)
class Cell:
    """One entry of a table. tone: "good", "bad" or "" (the verdict on a difference)."""

    text: str
    minor: str = ""
    tone: str = ""


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
