"""What to use, as a forest plot and a table: of a sweep, of a CSV, of several sweeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.forest import (
    NARROW,
    ForestPanel,
    ForestRow,
    forest_figure,
    has_arrows,
)
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.contrasts import Contrast, Values, Verdict
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, Option, Regime, Word
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import word_in_full
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.names import method_name, regime_name, told_apart

MOST_PANELS, FEW_PANELS = 12, 6
"""Where there are more regimes than the first, so many are drawn: nobody looks at hundreds."""
MOST_ROWS = 16
"""Of a regime with more cells, so many of the best are on the first screen."""
TONES = {Word.USE: "good", Word.NOT_BEST: "good", Word.AVOID: "bad", Word.NO_WORSE: "same"}
"""word -> tone; what is not decided has none."""
_OF_VERDICTS = {Verdict.BETTER: "good", Verdict.WORSE: "bad", Verdict.EQUIVALENT: "same"}


@dataclass(frozen=True)
class Line:
    """A contrast on the first screen.

    Attributes:
        name: In words.
        contrast: None for a baseline, and where nothing could be compared.
        word: The advice, or the verdict.
        tone: "good", "bad", "same" or "".
        dots: The difference of each replicate.
        link: The id of its runs.
    """

    name: str
    contrast: Contrast | None
    word: str
    tone: str
    dots: tuple[float, ...] = ()
    link: str = ""


@dataclass(frozen=True)
class Extras:
    """Further columns of the table.

    Attributes:
        columns: Their headings.
        cells: cell_key -> an entry for each.
    """

    columns: tuple[str, ...] = ()
    cells: Mapping[str, tuple[Cell, ...]] = field(default_factory=dict)


def lines_of(
    regime: Regime, values: Mapping[str, Values], unit: str, links: Mapping[str, str]
) -> list[Line]:
    """Return the lines of a regime, the best first. values: cell -> replicate -> value."""
    return [
        Line(
            method_name(option.name),
            option.contrast,
            word_in_full(option, unit),
            TONES.get(option.word, ""),
            differences(option.contrast, values),
            links.get(option.cell, ""),
        )
        for option in regime.options
    ]


def differences(contrast: Contrast | None, values: Mapping[str, Values]) -> tuple[float, ...]:
    """Return the difference of each replicate that both sides have."""
    if contrast is None:
        return ()
    here, there = values.get(contrast.cell, {}), values.get(contrast.against, {})
    pairs = [(here.get(r), there.get(r)) for r in contrast.replicates]
    return tuple(float(a) - float(b) for a, b in pairs if a is not None and b is not None)


def verdict_tone(contrast: Contrast) -> str:
    """Return the tone of a contrast that is no advice."""
    return "" if contrast.low is None else _OF_VERDICTS.get(contrast.verdict, "")


def forest(
    panels: Mapping[str, Sequence[Line]], metric: Metric, unit: str, against: str | None
) -> list[ReportFigure]:
    """Draw the lines of each regime that have a difference. panels: title -> lines."""
    factor = 100.0 if metric.percent else 1.0
    titles = dict(zip(panels, told_apart(list(panels))[1], strict=True)) if panels else {}
    most = MOST_PANELS if len(panels) <= MOST_PANELS else FEW_PANELS
    shown = [
        ForestPanel(
            regime_name(titles[title]), [_forest_row(line, factor) for line in drawn[:MOST_ROWS]]
        )
        for title, lines in list(panels.items())[:most]
        if (drawn := [line for line in lines if line.contrast is not None])
    ]
    if not shown:
        return []
    where = metric_in_words(metric)
    points = ", points" if metric.percent else ""
    base = "" if against is None else f" to {against}"
    x_label = f"Difference{base} in {where}{points}"
    shared, _ = told_apart(list(panels))
    everywhere = f" All: {regime_name(shared)}." if shared else ""
    margin = None if metric.margin is None else metric.margin * factor
    band = "" if margin is None else f" Grey band: the margin of {margin:g}, what does not matter."
    left_out = len(panels) - len(shown)
    more = f" The first {len(shown)} of {len(panels)} regimes." if left_out > 0 else ""
    lines = [line for _, of_panel in panels.items() for line in of_panel if line.contrast]
    has_intervals = any(line.contrast and line.contrast.low is not None for line in lines)
    interval = "intervals hold together at 95%" if has_intervals else f"one {unit} has no interval"
    beyond = " Arrows: it goes on beyond the frame." if has_arrows(shown, margin) else ""
    figure = on_both_papers(
        "forest.png",
        "",
        f"{x_label}, paired by {unit}; {interval}. Small dots: single {unit}s. "
        f"Hollow: undecided.{beyond}{band}{everywhere}{more}",
        _alt(lines, where, factor),
        lambda paper: forest_figure(
            shown, paper, x_label=x_label, margin=margin, better=metric.better
        ),
        lambda paper: forest_figure(
            shown,
            paper,
            x_label=f"Difference{points}",
            margin=margin,
            better=metric.better,
            width=NARROW,
        ),
    )
    return [figure]


def _alt(lines: Sequence[Line], where: str, factor: float) -> str:
    shown = [
        f"{line.name} {formatting.number(line.contrast.difference * factor, False, 1, sign=True)}"
        for line in lines[:MOST_ROWS]
        if line.contrast is not None and line.contrast.difference is not None
    ]
    return f"Forest plot of differences in {where}: {'; '.join(shown)}"


def _forest_row(line: Line, factor: float) -> ForestRow:
    contrast = line.contrast
    if contrast is None or contrast.difference is None:
        return ForestRow(line.name, None, None, None, "")
    low, high = (None if v is None else v * factor for v in (contrast.low, contrast.high))
    dots = tuple(value * factor for value in line.dots)
    return ForestRow(line.name, contrast.difference * factor, low, high, line.tone, dots)


def first_table(
    panels: Mapping[str, Sequence[Line]],
    metric: Metric,
    extras: Extras,
    keys: Mapping[str, Sequence[str]],
    first: str = "Method",
    word: str = "Advice",
) -> Table:
    """Return a row per line: difference, interval, P, further columns and the word.

    panels: title -> lines; keys: title -> the cells of these lines, in the same order.
    """
    everything = [line.contrast for lines in panels.values() for line in lines if line.contrast]
    decimals = digits_of(everything, metric)
    points = ", points" if metric.percent else ""
    margin = f" by {metric.margin * (100 if metric.percent else 1):g}" if metric.margin else ""
    columns = [word, f"Difference{points}", "95% interval", f"P(better{margin})"]
    rows: list[Row] = []
    titles = dict(zip(panels, told_apart(list(panels))[1], strict=True)) if panels else {}
    for title, lines in panels.items():
        if len(panels) > 1:
            rows.append(Row(regime_name(titles[title]), heading=True))
        shown = list(zip(lines, keys[title], strict=True))
        for line, key in shown[:MOST_ROWS]:
            more = extras.cells.get(key, tuple(Cell("") for _ in extras.columns))
            rows.append(_row(line, metric, decimals, more))
        if left := len(shown) - len(shown[:MOST_ROWS]):
            rows.append(Row(f"{left} more", note="in the table of all results below"))
    return Table([*columns, *extras.columns], rows, first=first)


def _row(line: Line, metric: Metric, decimals: int, more: tuple[Cell, ...]) -> Row:
    contrast = line.contrast
    word = Cell(line.word, tone={"same": ""}.get(line.tone, line.tone))
    if contrast is None:
        dashes = (Cell(formatting.MISSING),) * 3
        return Row(line.name, (word, *dashes, *more), is_baseline=True)
    if contrast.difference is None:
        return Row(line.name, note=f"not compared: {contrast.note}")
    p = contrast.p_better
    shown = formatting.number(contrast.difference, metric.percent, decimals, sign=True)
    cells = (
        word,
        Cell(shown, tip=tip(contrast, metric, decimals), link=line.link),
        Cell(formatting.interval(contrast, metric.percent, decimals)),
        Cell(formatting.MISSING if p is None or not math.isfinite(p) else _probability(p)),
    )
    return Row(line.name, (*cells, *more))


def _probability(p: float) -> str:
    return "> 0.99" if p > 0.995 else "< 0.01" if p < 0.005 else f"{p:.2f}"


def overview(
    regimes: Sequence[Regime],
    advice: Advice,
    links: Mapping[str, str],
    cost: Mapping[str, float],
) -> Table:
    """Return a row per method and a column per regime, where there are several.

    cost: cell_key -> time per image against the baseline.
    """
    metric = advice.metric
    found = [option.contrast for one in regimes for option in one.options if option.contrast]
    decimals = digits_of(found, metric)
    by_name: dict[str, dict[int, Option]] = {}
    for place, regime in enumerate(regimes):
        for option in regime.options:
            by_name.setdefault(option.name, {})[place] = option
    rows = []
    ranked = sorted(by_name, key=lambda name: -_typical(by_name[name], metric))
    for name in ranked[:MOST_ROWS]:
        of_name = by_name[name]
        if all(option.word == Word.BASELINE for option in of_name.values()):
            continue
        entries = tuple(
            _overview_cell(of_name.get(place), metric, decimals, links, advice.unit)
            for place in range(len(regimes))
        )
        if cost:
            known = [cost[option.cell] for option in of_name.values() if option.cell in cost]
            entries += (Cell(f"× {median(known):.2f}" if known else formatting.MISSING),)
        rows.append(Row(method_name(name), entries))
    if left := len(ranked) - len(ranked[:MOST_ROWS]):
        rows.append(Row(f"{left} more", note="in the table of all results below"))
    titles = list(map(regime_name, told_apart([regime.title for regime in regimes])[1]))
    return Table([*titles, *(["Cost"] if cost else [])], rows)


def _typical(of_name: Mapping[int, Option], metric: Metric) -> float:
    known = [
        one.contrast.difference * (metric.better or 1)
        for one in of_name.values()
        if one.contrast is not None and one.contrast.difference is not None
    ]
    return sum(known) / len(known) if known else -math.inf


def _overview_cell(
    option: Option | None, metric: Metric, decimals: int, links: Mapping[str, str], unit: str
) -> Cell:
    if option is None:
        return Cell("")
    contrast = option.contrast
    if contrast is None or contrast.difference is None:
        return Cell(formatting.MISSING, str(option.word))
    shown = formatting.number(contrast.difference, metric.percent, decimals, sign=True)
    tone = {"same": ""}.get(TONES.get(option.word, ""), TONES.get(option.word, ""))
    hint = f"{tip(contrast, metric, decimals)}; {word_in_full(option, unit)}"
    return Cell(shown, str(option.word), tone, hint, links.get(option.cell, ""))


def tip(contrast: Contrast, metric: Metric, decimals: int) -> str:
    """Return what hovering over a difference shows: n, interval, P."""
    parts = [f"n = {contrast.n}"]
    if contrast.low is not None:
        parts.append(f"95% {formatting.interval(contrast, metric.percent, decimals)}")
    if contrast.p_better is not None and metric.margin:
        parts.append(f"P(better by the margin) {_probability(contrast.p_better)}")
    if contrast.note:
        parts.append(contrast.note)
    return "; ".join(parts)


def digits_of(found: Sequence[Contrast], metric: Metric) -> int:
    """Return the decimals with which differences are shown."""
    decimals = formatting.digits([contrast.half_width for contrast in found], metric.percent)
    return formatting.difference_digits(found, metric.percent, decimals)


def first_screen(
    advice: Advice, values_by_regime: Sequence[Mapping[str, Values]]
) -> dict[str, Any]:
    """Return the forest plot and the tables of a metric. values_by_regime: cell -> its values."""
    panels, keys = {}, {}
    for one, values in zip(advice.regimes, values_by_regime, strict=True):
        panels[one.title] = lines_of(one, values, advice.unit, {})
        keys[one.title] = [option.cell for option in one.options]
    bases = {one.against for one in advice.regimes}
    some = "the baseline, or else the best of the others" if None in bases else "the baseline"
    base = bases.pop() if len(bases) == 1 else some
    against = "the best of the others" if base is None else method_name(base)
    has_lines = any(line.contrast for lines in panels.values() for line in lines)
    several = [one for one in advice.regimes if any(o.contrast for o in one.options)]
    return {
        "figures": forest(panels, advice.metric, advice.unit, against),
        "table": first_table(panels, advice.metric, Extras(), keys) if has_lines else None,
        "overview": overview(several, advice, {}, {}) if len(several) > 1 else None,
    }
