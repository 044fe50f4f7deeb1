"""What to use of a sweep, as text: the advice, a row per method, and the lines to paste."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import pandas as pd

from mixbench.analysis.recommend.settings import settings_of
from mixbench.analysis.recommend.snippets import Defaults, Snippet, snippets
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.goals import GOALS, goal_metric, measured_goals
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, Option, Regime, Word, recommend
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import advice_sentence, where_in_words, word_in_full
from mixbench.analysis.text.names import method_name, regime_name
from mixbench.experiments.design.question import TUNE
from mixbench.experiments.errors import UserError, unknown
from mixbench.experiments.text import plural

_MOST_PASTED = 4
"""Methods whose lines are printed; --json has those of all."""
_WORDS = (Word.USE, Word.NOT_BEST, Word.NO_WORSE, Word.UNDECIDED, Word.AVOID)


@dataclass(frozen=True)
class Recommended:
    """A cell that is recommended.

    Attributes:
        name: What a reader knows it by.
        where: The regimes in which it is; empty where there is only one.
        snippets: The lines to paste.
    """

    name: str
    where: str
    snippets: tuple[Snippet, ...]


def metric_for(goal: str | None, name: str, runs: pd.DataFrame) -> Metric | None:
    """Return the metric of a goal; None without a goal.

    Raises:
        UserError: There is no such goal, or the sweep has not measured it.
    """
    if goal is None:
        return None
    if goal not in GOALS:
        raise unknown("goal in --for", goal, GOALS)
    metric = goal_metric(goal, runs)
    if metric is None:
        measured = ", ".join(measured_goals(runs))
        wanted = GOALS[goal][0].key.partition("/")[0]
        again = f"mixbench evaluate {name} --only {'occlusion' if wanted == 'hiding' else wanted}"
        raise UserError(
            f"--for: {goal} was not measured in {name} (measured: {measured or 'nothing yet'}); "
            f"{again if wanted != 'test' else f'mixbench sweep {name}'} measures it"
        )
    return metric


def recommended(
    advice: Advice, cells: pd.DataFrame, runs: pd.DataFrame, defaults: Defaults | None = None
) -> list[Recommended]:
    """Return what to use, each method and its parameters once, with the lines to paste.

    Args:
        advice: Of the sweep.
        cells: The table of cells.
        runs: The table of runs.
        defaults: method -> parameter -> default, which are left out of the lines.
    """
    rows = {str(row["cell_key"]): row for row in cells.to_dict("records")}
    if TUNE in runs:
        # What was chosen is in the runs; the same name may stand for other settings elsewhere.
        chosen = runs[runs[TUNE] == "tuned"].drop_duplicates("cell_key")
        rows |= {str(row["cell_key"]): row for row in chosen.to_dict("records")}
    titles = [regime.title for regime in advice.regimes]
    found: dict[tuple[str, str], tuple[list[str], str]] = {}
    for regime in advice.regimes:
        for option in regime.options:
            if option.word == Word.USE:
                apart = option.cell if rows[option.cell].get(TUNE) == "tuned" else ""
                key = option.name, apart
                found.setdefault(key, ([], option.cell))[0].append(regime.title)
    return [
        Recommended(
            method_name(name),
            where_in_words(where, titles) if len(titles) > 1 else "",
            snippets(
                settings_of(_texts(rows[cell]), _classes(runs, cell)),
                defaults,
            ),
        )
        for (name, _), (where, cell) in found.items()
    ]


def as_text(
    name: str,
    comparison: Comparison,
    runs: pd.DataFrame,
    metric: Metric | None = None,
    defaults: Defaults | None = None,
) -> str:
    """Return the whole answer.

    Args:
        name: Of the sweep.
        comparison: Its cells, compared.
        runs: The table of runs.
        metric: What to choose by; without one, what the sweep was made for.
        defaults: See `recommended`.
    """
    advice = recommend(comparison, runs, metric)
    lines = [f"{name}, by {_criterion(advice)}:", "", advice_sentence(advice)]
    lines += _caveats(advice, name)
    for regime in advice.regimes:
        lines += ["", *table(regime, advice)]
    found = recommended(advice, comparison.cells, runs, defaults)
    for one in found[:_MOST_PASTED]:
        where = f", {one.where}" if one.where else ""
        lines += ["", f"To use {one.name}{where}:"]
        lines += [line for snippet in one.snippets for line in pasted(snippet)]
    if left := found[_MOST_PASTED:]:
        names = ", ".join(one.name for one in left)
        lines += ["", f"The lines for {names}: mixbench recommend {name} --json"]
    return "\n".join(lines)


def as_json(
    name: str,
    comparison: Comparison,
    runs: pd.DataFrame,
    metric: Metric | None = None,
    defaults: Defaults | None = None,
) -> str:
    """Return the answer for programs, numbers in the metric's own unit. See `as_text`."""
    advice = recommend(comparison, runs, metric)
    content = {
        "sweep": name,
        "metric": advice.metric.key,
        "margin": advice.metric.margin,
        "sentence": advice_sentence(advice),
        "regimes": [
            {
                "regime": regime.title,
                "against": regime.against,
                "options": [_record(option) for option in regime.options],
            }
            for regime in advice.regimes
        ],
        "use": [
            {
                "name": one.name,
                "where": one.where,
                **{snippet.library: asdict(snippet) for snippet in one.snippets},
            }
            for one in recommended(advice, comparison.cells, runs, defaults)
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def _record(option: Option) -> dict[str, object]:
    contrast = option.contrast
    numbers = ("n", "difference", "low", "high")
    return {
        "cell": option.cell,
        "name": option.name,
        "advice": str(option.word),
        "more_replicates": option.more_replicates,
        **{name: getattr(contrast, name) if contrast else None for name in numbers},
    }


def _caveats(advice: Advice, name: str) -> list[str]:
    """Say whom a metric favours."""
    if not advice.metric.key.startswith("occlusion/") or "/noise/" in advice.metric.key:
        return []
    return [
        "What is hidden here are rectangles of the mean colour, which is what Cutout and Random "
        f"Erasing train on. Other shapes and fills: mixbench evaluate {name} --only occlusion"
    ]


def _criterion(advice: Advice) -> str:
    metric = advice.metric
    words = f"{metric.title} ({metric.key})"
    if metric.margin is None:
        return words
    amount = f"{metric.margin * 100:g}" if metric.percent else f"{metric.margin:g}"
    unit = (" point" if amount == "1" else " points") if metric.percent else ""
    return f"{words}, where {amount}{unit} matter{'s' if amount == '1' or not unit else ''}"


def table(regime: Regime, advice: Advice) -> list[str]:
    """Return a row per method of a regime: the advice, the difference, the replicates."""
    against = f"against {method_name(regime.against)}" if regime.against else ""
    titles = [part for part in (regime_name(regime.title), against) if part]
    rows = [
        (word_in_full(option, advice.unit), method_name(option.name), _numbers(option, advice))
        for word in _WORDS
        for option in regime.options
        if option.word == word
    ]
    unknown_ = regime.named(Word.UNKNOWN)
    lines = [f"{', '.join(titles) or 'all'}:"]
    widths = [max((len(row[place]) for row in rows), default=0) for place in (0, 1)]
    lines += [f"  {row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]
    if unknown_:
        lines.append(f"  not compared: {', '.join(map(method_name, unknown_))}")
    return lines if len(lines) > 1 else [*lines, "  nothing to compare"]


def _numbers(option: Option, advice: Advice) -> str:
    contrast = option.contrast
    if contrast is None:
        return ""
    percent = advice.metric.percent
    decimals = formatting.digits([contrast.half_width], percent)
    text = formatting.difference(contrast, percent, decimals)
    unit = " points" if percent else ""
    return f"{text}{unit}, {plural(contrast.n, advice.unit)}"


def pasted(snippet: Snippet) -> list[str]:
    """Return the lines of one library, or why there are none."""
    if not snippet.lines:
        return ["", f"  {snippet.library}: {'; '.join(snippet.notes)}"]
    notes = f" ({'; '.join(snippet.notes)})" if snippet.notes else ""
    return ["", f"  {snippet.library}{notes}:", *(f"    {one}".rstrip() for one in snippet.lines)]


def _classes(runs: pd.DataFrame, cell: str) -> int:
    if "data.classes" not in runs:
        return 10
    known = runs.loc[runs["cell_key"] == cell, "data.classes"].dropna()
    return int(known.iloc[0]) if len(known) else 10


def _texts(row: Mapping[object, object]) -> dict[str, object]:
    return {str(key): value for key, value in row.items()}
