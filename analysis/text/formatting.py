"""Format percentages, intervals and p values, with only the digits that are significant."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.estimates import Estimate

MISSING = "–"


def digits(half_widths: Iterable[float | None], percent: bool) -> int:
    """Return the decimals for a column: one for percentages, two where intervals are narrow."""
    widths = sorted(width for width in half_widths if width)
    if percent:
        middle = widths[len(widths) // 2] * 100 if widths else math.inf
        return 2 if middle < 0.1 else 1
    return 3


def difference_digits(differences: Iterable[Contrast], percent: bool, decimals: int) -> int:
    """Return one more decimal where an interval that excludes 0 would seem to touch it."""
    factor = 100 if percent else 1
    for value in differences:
        if value.low is not None and value.high is not None and value.low * value.high > 0:
            if round(min(abs(value.low), abs(value.high)) * factor, decimals) == 0:
                return decimals + 1
    return decimals


def number(value: float | None, percent: bool = True, decimals: int = 1, sign: bool = False) -> str:
    """Format 0.834 as 83.4, with a true minus sign, never "-0.0", or a dash where it is missing."""
    if value is None or not math.isfinite(value):
        return MISSING
    shown = round(value * (100 if percent else 1), decimals)
    return _minus(f"{shown + 0.0:{'+' if sign and shown else ''}.{decimals}f}")


def estimate(value: Estimate, percent: bool, decimals: int) -> str:
    """Format a mean as 83.4 ± 0.6, or 83.4 where there is no interval."""
    mean = number(value.mean, percent, decimals)
    if value.half_width is None:
        return mean
    return f"{mean} ± {number(value.half_width, percent, decimals)}"


def interval(value: Estimate | Contrast, percent: bool, decimals: int, sign: bool = True) -> str:
    """Format an interval as [+2.1, +3.1], or a dash."""
    if value.low is None or value.high is None:
        return MISSING
    low = number(value.low, percent, decimals, sign)
    return f"[{low}, {number(value.high, percent, decimals, sign)}]"


def difference(value: Contrast, percent: bool, decimals: int) -> str:
    """Format a difference as +2.6 [+2.1, +3.1], or +2.6 where there is no interval."""
    mean = number(value.mean, percent, decimals, sign=True)
    if value.half_width is None:
        return mean
    return f"{mean} {interval(value, percent, decimals)}"


def p_value(p: float | None) -> str:
    """Format p as 0.034, 0.21, < 0.001, or a dash."""
    if p is None:
        return MISSING
    if p < 0.001:
        return "<\u00a00.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def duration(seconds: float | None) -> str:
    """Format a duration with two digits or so: 42 s, 12 min, 3.4 h; a dash where it is missing."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def joined(parts: Iterable[str], last: str = "and") -> str:
    """Join words as "a, b and c"."""
    listed = list(parts)
    if len(listed) < 2:
        return "".join(listed)
    return f"{', '.join(listed[:-1])} {last} {listed[-1]}"


def seeds(values: Iterable[int]) -> str:
    """Format seeds: 0, 1, 2 as 0–2, others as a list."""
    listed = sorted(set(values))
    if len(listed) > 2 and listed == list(range(listed[0], listed[-1] + 1)):
        return f"{listed[0]}–{listed[-1]}"
    return ", ".join(map(str, listed))


def _minus(text: str) -> str:
    return text.replace("-", "−")


def short_hash(text: str) -> str:
    """Return a text with the first ten digits of each hash of a commit in it.

    Examples:
        >>> short_hash("0123456789abcdef0123456789abcdef01234567+changes"), short_hash("cpu")
        ('0123456789+changes', 'cpu')
    """
    return re.sub(r"\b([0-9a-f]{10})[0-9a-f]{30}\b", r"\1", text)
