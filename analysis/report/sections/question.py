"""The declared question: its contrasts in a table."""

from __future__ import annotations

from typing import Any

from mixbench.analysis.report.contrast_rows import contrast_columns, contrast_row
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.looks import looks_of
from mixbench.analysis.report.parts import Row, Table
from mixbench.analysis.statistics.contrasts import Verdict
from mixbench.analysis.statistics.declared import Declared
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import asked, metric_in_words
from mixbench.analysis.text.names import regime_name, told_apart
from mixbench.experiments.design import question as questions
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural


def section(data: ReportData) -> dict[str, Any]:
    """Return the table of the declared contrasts, None without a question."""
    declared = data.comparison.declared
    looks = _looks(data)
    if declared is None or not declared.contrasts:
        return {"table": None, "sentence": "", "notes": looks}
    return {
        "table": _table(declared, data.comparison.unit),
        "sentence": asked(declared),
        "notes": [*_notes(declared, data.comparison.unit), *looks],
    }


def _looks(data: ReportData) -> list[str]:
    """Say at which look which contrast was decided, in a sweep with looks."""
    try:
        looks = looks_of(data.folder, data.tables)
    except UserError as error:
        return [str(error)]
    if looks is None or not looks.taken:
        return []
    decided: dict[int, list[str]] = {}
    for one in looks.decisions.values():
        if one.look is not None:
            of_look = decided.setdefault(one.look, [])
            verdict = one.contrast.contrast.verdict
            than = "to" if verdict == Verdict.EQUIVALENT else "than"
            of_look.append(f"{one.contrast.label} {verdict} {than} {one.contrast.against}")
    notes = [
        f"Decided at {look} replicates, at the level of that look: {'; '.join(names)}."
        for look, names in sorted(decided.items())
    ]
    if left := sum(one.look is None for one in looks.decisions.values()):
        after = f"after the look at {looks.taken[-1]} replicates"
        notes.append(f"{plural(left, 'contrast')} undecided {after}.")
    return notes


def _table(declared: Declared, unit: str) -> Table:
    metric = declared.metric
    found = [one.contrast for one in declared.contrasts]
    decimals = formatting.digits([contrast.half_width for contrast in found], metric.percent)
    decimals = formatting.difference_digits(found, metric.percent, decimals)
    strata = list(dict.fromkeys(contrast.stratum for contrast in found))
    # What all have in common is below the figure of the first screen.
    short = dict(zip(strata, told_apart(strata)[1], strict=True)) if strata else {}
    rows: list[Row] = []
    for stratum in strata:
        if len(strata) > 1:
            rows.append(Row(regime_name(short[stratum]), heading=True))
        rows += [
            contrast_row(
                f"{one.label} − {one.against}", one.contrast, metric.percent, decimals, unit
            )
            for one in declared.contrasts
            if one.contrast.stratum == stratum
        ]
    return Table(contrast_columns(metric.percent), rows, first="Contrast")


def _notes(declared: Declared, unit: str) -> list[str]:
    metric = declared.metric
    direction = "lower is better" if metric.better < 0 else "higher is better"
    in_words = metric_in_words(metric)
    over = plural(len(declared.contrasts), "declared contrast")
    if declared.question.contrasts == questions.BEST:
        over = "all pairs"
    notes = [
        f"{in_words[0].upper()}{in_words[1:]}: {direction}. Paired by {unit}; the intervals hold "
        f"together, over {over}, with a confidence "
        "of 95%. Would have been seen: with a probability of 80%."
    ]
    if declared.question.contrasts == questions.BEST:
        notes.append(
            "Each configuration against the best of the others, which the data choose: the "
            "intervals are those of all pairs."
        )
    if any(one.size > 1 for one in declared.contrasts):
        notes.append("Where a name stands for several configurations, their mean is compared.")
    return notes
