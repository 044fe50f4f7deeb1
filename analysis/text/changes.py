"""Say what changed between two sweeps: lines for a terminal, a page, and rows for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mixbench.analysis.statistics.changes import Change, Match
from mixbench.analysis.statistics.contrasts import Verdict
from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.text import formatting
from mixbench.experiments.text import plural

MOST_SHOWN = 20
"""Cells of a metric in the terminal; the files have all."""


def headline(found: Sequence[Change], names: tuple[str, str]) -> str:
    """Return the sentence that a reader needs first."""
    broken = [change for change in found if change.is_broken]
    if broken:
        where = plural(len({change.label for change in broken}), "cell")
        metrics = list(dict.fromkeys(change.metric.key for change in broken))
        worst = max(broken, key=_size)
        if worst.contrast.difference is None:
            return f"Tolerance broken: {formatting.joined(metrics)} in {where} of {names[1]}."
        most = "" if len(broken) == 1 else "the most: "
        by = _amount(worst, worst.contrast.difference, sign=True)
        allowed = _amount(worst, worst.tolerance or 0.0)
        return (
            f"Tolerance broken: {formatting.joined(metrics)} in {where} of {names[1]} "
            f"({most}{worst.label}, {by}, tolerated {allowed})."
        )
    known = [change for change in found if change.contrast.difference is not None]
    if known and all(change.is_same for change in known):
        return f"Nothing changed: all numbers that {names[0]} and {names[1]} share are the same."
    words = []
    for kind in (Verdict.BETTER, Verdict.WORSE):
        clear = [one for one in known if one.metric.better and one.contrast.verdict == kind]
        if clear:
            cells = plural(len({one.label for one in clear}), "cell")
            metrics = list(dict.fromkeys(one.metric.key for one in clear))
            words.append(f"{kind} in {cells} ({formatting.joined(metrics)})")
    if not words:
        return f"No clear change from {names[0]} to {names[1]}."
    return f"{names[1]} is {formatting.joined(words)} than {names[0]}."


def tolerances(found: Sequence[Change]) -> list[str]:
    """Return a line on each declared tolerance: whether it was kept, and by how much it could be.

    A tolerance without a value before says so: nothing can break it.
    """
    lines = []
    for group in by_metric([change for change in found if change.tolerance is not None]):
        broken = sum(change.is_broken for change in group)
        unknown = sum(change.before is None for change in group)
        word = f"broken in {plural(broken, 'cell')}" if broken else "kept"
        first = group[0]
        allowed = _amount(first, first.tolerance or 0.0)
        rest = (
            f", not judged in {plural(unknown, 'cell')} without a value before" if unknown else ""
        )
        lines.append(f"tolerance of {allowed} in {first.metric.key}: {word}{rest}")
    return lines


def _amount(change: Change, value: float, *, sign: bool = False) -> str:
    percent = change.metric.percent
    number = formatting.number(value, percent, 2 if percent else 4, sign=sign)
    return f"{number} points" if percent else number


def basis(matched: Match, names: tuple[str, str], notes: Sequence[str] = ()) -> list[str]:
    """Return what was compared, what both sweeps differ in, and what has no counterpart."""
    lines = [f"{plural(len(matched.pairs), 'cell')} in both {names[0]} and {names[1]}"]
    lines += [
        f"changed everywhere: {field} {value_text(old)} -> {value_text(new)}"
        for field, (old, new) in matched.changed.items()
    ]
    sides = zip(names, (matched.only_before, matched.only_after), strict=True)
    for name, labels in sides:
        if labels:
            few = ", ".join(labels[:5]) + (f" and {len(labels) - 5} more" if labels[5:] else "")
            lines.append(f"only in {name}: {plural(len(labels), 'cell')} ({few})")
    return [*lines, *notes]


def table(found: Sequence[Change]) -> list[tuple[str, ...]]:
    """Return the rows of one metric: cell, before, after, difference, interval, n, what it is."""
    metric = found[0].metric
    widths = [change.contrast.half_width for change in found]
    decimals = formatting.digits(widths, metric.percent)
    decimals = max(decimals, 2 if metric.percent else 4)
    return [
        (
            change.label,
            formatting.number(change.before, metric.percent, decimals),
            formatting.number(change.after, metric.percent, decimals),
            formatting.number(change.contrast.difference, metric.percent, decimals, sign=True),
            formatting.interval(change.contrast, metric.percent, decimals),
            str(change.contrast.n),
            in_words(change),
        )
        for change in found
    ]


def columns(change: Change, names: tuple[str, str]) -> tuple[str, ...]:
    """Return the headings of `table`."""
    unit = "difference, points" if change.metric.percent else "difference"
    return (change.metric.key, names[0], names[1], unit, "95% together", "n", "")


def in_words(change: Change) -> str:
    """Return what a change is: the same, better, worse, equivalent, undecided; or broken."""
    contrast = change.contrast
    if contrast.difference is None:
        word = contrast.note or "no value"
    elif change.is_same:
        word = "the same"
    elif contrast.low is None:
        word = contrast.note
    elif not change.metric.better:
        word = "changed" if contrast.is_clear else "undecided"
    else:
        word = str(contrast.verdict)
    if not change.paired and contrast.difference is not None and contrast.low is not None:
        word += " (other seeds, not paired)"
    return f"beyond the tolerance; {word}" if change.is_broken else word


def by_metric(found: Sequence[Change]) -> list[list[Change]]:
    """Group the changes by metric."""
    keys = dict.fromkeys(change.metric.key for change in found)
    return [[change for change in found if change.metric.key == key] for key in keys]


def most_changed(found: Sequence[Change]) -> list[Change]:
    """Return the changes to show: of those broken, then of the largest, in the cells' order."""
    kept = sorted((one for one in found if not one.is_same), key=_size, reverse=True)[:MOST_SHOWN]
    return [change for change in found if change in kept]


def _size(change: Change) -> tuple[bool, float]:
    return change.is_broken, abs(change.contrast.difference or 0.0)


def record(change: Change) -> dict[str, Any]:
    """Return a change for programs, numbers in the metric's own unit."""
    contrast = change.contrast
    return {
        "cell": change.label,
        "metric": change.metric.key,
        "before": change.before,
        "after": change.after,
        "difference": contrast.difference,
        "low": contrast.low,
        "high": contrast.high,
        "n": contrast.n,
        "paired": change.paired,
        "same": change.is_same,
        "verdict": str(contrast.verdict) if change.metric.better else None,
        "tolerance": change.tolerance,
        "broken": change.is_broken,
        "note": contrast.note,
    }
