"""Rows of a table of contrasts."""

from __future__ import annotations

import math

from mixbench.analysis.report.parts import TONES, Cell, Row
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.text import formatting
from mixbench.analysis.text.verdict import verdict_words


def contrast_columns(percent: bool) -> list[str]:
    """Return the headings of the columns after the contrast's name."""
    columns = [f"Difference{', points' if percent else ''}", "95% together"]
    return [*columns, "P(better by the margin)", "Verdict", "Would have been seen"]


def contrast_row(name: str, contrast: Contrast, percent: bool, decimals: int, unit: str) -> Row:
    """Return a contrast as a row; one that has no value gives the reason."""
    if contrast.difference is None:
        return Row(name, note=contrast.note)
    p = contrast.p_better
    cells = (
        formatting.number(contrast.difference, percent, decimals, sign=True),
        formatting.interval(contrast, percent, decimals),
        formatting.MISSING if p is None or not math.isfinite(p) else f"{p:.2f}",
        verdict_words(contrast, unit),
        formatting.number(contrast.detectable, percent, decimals),
    )
    tone = TONES.get(contrast.verdict, "")
    return Row(name, (Cell(cells[0], tone=tone), *(Cell(text) for text in cells[1:])))
