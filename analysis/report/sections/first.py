"""The first screen: what to use, in a forest plot and a row per method."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.first_screen import (
    Extras,
    Line,
    differences,
    digits_of,
    first_table,
    forest,
    lines_of,
    overview,
    tip,
    verdict_tone,
)
from mixbench.analysis.report.parts import Cell, Table, runs_of
from mixbench.analysis.statistics.comparison import seed_values
from mixbench.analysis.statistics.contrasts import Values
from mixbench.analysis.statistics.costs import PASSES, costs, train_seconds
from mixbench.analysis.statistics.declared import SEVERAL, Declared
from mixbench.analysis.statistics.goals import measured_goals
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, Option, Word, recommend
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import best_headline, metric_in_words
from mixbench.analysis.text.names import method_name
from mixbench.analysis.text.verdict import verdict_words
from mixbench.experiments.design import question as questions
from mixbench.experiments.text import duration, plural

_MARKS = {
    Word.USE: ("▲", "better", "good"),
    Word.NOT_BEST: ("▲", "better", "good"),
    Word.NO_WORSE: ("=", "no worse", ""),
    Word.AVOID: ("▼", "worse", "bad"),
    Word.UNDECIDED: ("?", "undecided", ""),
}
_OF_GOALS = ("accuracy", "calibration", "occlusion", "corruption")
"""The goals with a small mark each, where they were measured."""


def section(data: ReportData) -> dict[str, Any]:
    """Return the forest plot, the tables, and the notes below them."""
    declared = data.comparison.declared
    if declared is not None and declared.question.contrasts == questions.NAMED:
        figures, of_question = _of_question(data, declared)
        content = _content(data, figures, of_question, None, Extras())
        return {**content, "note": " ".join(filter(None, (content["note"], _best_set(data))))}
    advice = data.advice
    values = values_of(data, advice.metric)
    links = {str(key): runs_of(str(key)) for key in data.comparison.cells["cell_key"]}
    panels: dict[str, list[Line]] = {}
    keys: dict[str, list[str]] = {}
    for number, regime in enumerate(advice.regimes):
        title = regime.title if regime.title not in panels else f"{regime.title} ({number})"
        panels[title] = lines_of(regime, values, advice.unit, links)
        keys[title] = [option.cell for option in regime.options]
    cost = _costs(data)
    extras = _extras(data, advice, cost)
    against = {
        regime.against for regime in advice.regimes if any(o.contrast for o in regime.options)
    }
    base = (
        method_name(str(next(iter(against)))) if len(against) == 1 and None not in against else None
    )
    if base is None:
        base = "the best of the others"
        if against != {None}:
            base = f"the baseline, or else {base}" if None in against else "the baseline"
    figures = forest(panels, advice.metric, advice.unit, base)
    has_lines = any(line.contrast for lines in panels.values() for line in lines)
    table = first_table(panels, advice.metric, extras, keys) if has_lines else None
    several = [regime for regime in advice.regimes if any(o.contrast for o in regime.options)]
    short = overview(several, advice, links, cost) if len(several) > 1 else None
    return _content(data, figures, table, short, extras)


def values_of(data: ReportData, metric: Metric) -> dict[str, Values]:
    """Return cell -> replicate -> value of a metric."""
    runs = data.tables.runs
    if metric.key not in runs:
        return {}
    return {cell: value for (cell, _), value in seed_values(runs, [metric.key]).items()}


def _content(
    data: ReportData,
    figures: Sequence[ReportFigure],
    table: Table | None,
    short: Table | None,
    extras: Extras,
) -> dict[str, Any]:
    notes = []
    if short is not None:
        points = " in points" if data.advice.metric.percent else ""
        notes.append(f"Differences{points}; hovering shows the interval, a click the runs.")
    if "Cost" in extras.columns:
        notes.append(_of_cost(data))
    has_marks = any(goal.capitalize() in extras.columns for goal in _OF_GOALS)
    if has_marks and short is None:
        notes.append("▲ better, ▼ worse, = no worse within the margin, ? undecided (exploratory).")
    return {
        "figures": list(figures),
        "table": table,
        "overview": short,
        "note": " ".join(notes),
        "recommend": f"mixbench recommend {shlex.quote(data.folder.name)}",
    }


def _of_cost(data: ReportData) -> str:
    """Say what the column of costs is, and which methods ask the network."""
    text = (
        "Cost: time per training image against the baseline, and the time of a training, measured "
        "in these runs"
    )
    base = [str(key) for key in data.comparison.cells["baseline_key"].dropna().unique()]
    seconds = train_seconds(data.tables.runs)
    if len(base) == 1 and base[0] in seconds:
        text += f" (the baseline's: {duration(seconds[base[0]])})"
    methods = data.tables.runs.get("augmentation.name", pd.Series(dtype=object))
    asking = [name for name in PASSES if (methods == name).any()]
    passes = formatting.joined(f"{method_name(name)} {PASSES[name]:g}" for name in asking)
    more = f"; more forward passes for a batch (a pass back counts 2): {passes}" if asking else ""
    return f"{text}{more}."


def _of_question(data: ReportData, declared: Declared) -> tuple[list[ReportFigure], Table]:
    """Show the contrasts of named groups."""
    values = dict(values_of(data, declared.metric))
    unit = data.comparison.unit
    panels: dict[str, list[Line]] = {}
    keys: dict[str, list[str]] = {}
    is_one = len({one.contrast.stratum for one in declared.contrasts}) == 1
    for one in declared.contrasts:
        contrast = one.contrast
        title = "" if is_one else contrast.stratum
        is_single = SEVERAL not in contrast.cell
        line = Line(
            f"{method_name(one.label)} − {method_name(one.against)}",
            contrast,
            verdict_words(contrast, unit),
            verdict_tone(contrast),
            differences(contrast, values),
            runs_of(contrast.cell) if is_single else "",
        )
        panels.setdefault(title, []).append(line)
        keys.setdefault(title, []).append(contrast.cell)
    table = first_table(panels, declared.metric, Extras(), keys, "Contrast", "Verdict")
    return forest(panels, declared.metric, unit, None), table


def _best_set(data: ReportData) -> str:
    """Return the best set as a sentence, where all is one regime."""
    comparison = data.comparison
    if len(comparison.best) != 1:
        return ""
    names = dict(zip(comparison.cells["cell_key"], comparison.cells["series"], strict=True))
    best = [str(names[key]) for members in comparison.best.values() for key in members]
    if not best:
        return ""
    where = metric_in_words(comparison.primary)
    return f"Of all {plural(len(names), 'configuration')}: {best_headline({'': best}, best, where)}"


def _costs(data: ReportData) -> dict[str, float]:
    cells = data.comparison.cells
    baselines = dict(zip(map(str, cells["cell_key"]), cells["baseline_key"], strict=True))
    known = {key: base if isinstance(base, str) else None for key, base in baselines.items()}
    return costs(data.tables.runs, known)


def _extras(data: ReportData, advice: Advice, cost: Mapping[str, float]) -> Extras:
    """Return what each method costs, and a small mark for each further goal."""
    compared, runs = data.comparison, data.tables.runs
    goals = {
        goal: metric
        for goal, metric in measured_goals(data.done, [advice.metric.key]).items()
        if goal in _OF_GOALS
    }
    marks = {goal: _marks(recommend(compared, runs, metric)) for goal, metric in goals.items()}
    marks = {goal: of_goal for goal, of_goal in marks.items() if of_goal}
    seconds = train_seconds(runs)
    columns = (*(["Cost"] if cost else []), *(goal.capitalize() for goal in marks))
    entries = {
        key: (
            *([_cost_cell(cost, seconds, key)] if cost else []),
            *(of_goal.get(key, Cell("")) for of_goal in marks.values()),
        )
        for key in map(str, compared.cells["cell_key"])
    }
    return Extras(columns, entries)


def _cost_cell(cost: Mapping[str, float], seconds: Mapping[str, float], key: str) -> Cell:
    if key not in cost:
        return Cell(formatting.MISSING)
    return Cell(f"× {cost[key]:.2f}", duration(seconds[key]) if key in seconds else "")


def _marks(advice: Advice) -> Mapping[str, Cell]:
    found = [o.contrast for regime in advice.regimes for o in regime.options if o.contrast]
    decimals = digits_of(found, advice.metric)
    return {
        option.cell: _mark(option, advice.metric, decimals)
        for regime in advice.regimes
        if regime.against is not None
        for option in regime.options
        if option.word in _MARKS
    }


def _mark(option: Option, metric: Metric, decimals: int) -> Cell:
    symbol, spoken, tone = _MARKS[option.word]
    contrast = option.contrast
    if contrast is None:
        return Cell("")
    shown = formatting.number(contrast.difference, metric.percent, decimals, sign=True)
    hint = f"{metric.title} {shown}; {tip(contrast, metric, decimals)}"
    return Cell(symbol, tone=tone, tip=hint, link=runs_of(option.cell), spoken=spoken)
