"""The report of a CSV of results: the statistics of a sweep on anybody's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report.contrast_rows import contrast_columns, contrast_row
from mixbench.analysis.report.files import FIGURES, write_files
from mixbench.analysis.report.first_screen import Extras, first_table, forest, lines_of, overview
from mixbench.analysis.report.page import render_contrasts
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.report.verdicts import VERDICTS, Judged, dump
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.blocks import stratum_titles
from mixbench.analysis.statistics.contrasts import (
    Contrast,
    Stratum,
    all_pairs,
    compare,
    many_to_one,
)
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, regime, with_the_best
from mixbench.analysis.tables.from_csv import (
    METHOD,
    REPLICATE,
    SEED,
    Observations,
    is_lower_better,
    margin_of,
    read_csv,
)
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import advice_sentence
from mixbench.analysis.text.formatting import joined
from mixbench.analysis.text.names import method_name
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.text import plural

NONE = "none"
"""The method that others are compared with unless another is named."""

Values = dict[str, dict[int, float | None]]
"""method -> replicate -> value of one metric in one stratum."""


@dataclass(frozen=True)
class CsvReport:
    """The files that were written, and the first sentence."""

    folder: Path
    headline: str
    notes: tuple[str, ...]

    @property
    def html(self) -> Path:
        """The page for a browser."""
        return self.folder / "report.html"


def write_csv_report(path: Path, out: Path, baseline: str | None = None) -> CsvReport:
    """Write report.html, report.md and verdicts.json of a CSV of results.

    Methods are compared within each combination of the other factors: with the baseline if there
    is one (`baseline`, else "none"), else all with each other. Seeds of a replicate are averaged.

    Raises:
        UserError: The file is not such a CSV, or has no method of that name.
    """
    observations = read_csv(path)
    methods = list(dict.fromkeys(observations.rows[METHOD]))
    if baseline is not None and baseline not in methods:
        guess = did_you_mean(baseline, methods)
        raise UserError(f"--baseline: no method {baseline!r} in {path}{guess}")
    base = baseline or (NONE if NONE in methods else None)
    strata = _strata(observations)
    judged: list[Judged] = []
    parts = []
    for metric in observations.metrics:
        values = {title: _values(rows, metric) for title, rows in strata.items()}
        contrasts = _contrasts(values, metric, base)
        parts.append(_part(metric, values, contrasts))
        is_primary = metric == observations.metrics[0]
        judged += [
            Judged(contrast, metric, contrast.cell, contrast.against, contrast.stratum, is_primary)
            for contrast in contrasts
        ]
    first = _metric(observations.metrics[0])
    strata_values = {title: _values(rows, first.key) for title, rows in strata.items()}
    best = {title: best_set(of, first.better) for title, of in strata_values.items()}
    advice = _advice(strata_values, [one.contrast for one in judged if one.is_primary], first, base)
    headline = advice_sentence(advice)
    screen = _first_screen(advice, strata_values)
    page = {
        "name": path.stem,
        "line": " · ".join([plural(len(methods), "method"), *observations.notes]),
        "headline": headline,
        "best": [_best_sentence(title, names, first.key) for title, names in best.items()],
        "first": screen,
        "parts": parts,
    }
    pictures = {f"{FIGURES}/{figure.name}": figure.light for figure in screen["figures"]}
    pages = render_contrasts(page)
    write_files(out, {**pictures, **pages, VERDICTS: dump(judged, best)})
    return CsvReport(out, headline, observations.notes)


def _metric(name: str) -> Metric:
    margin = margin_of(name)
    return Metric(name, name, _is_percent(name), -1 if is_lower_better(name) else 1, margin)


def _is_percent(metric: str) -> bool:
    return margin_of(metric) is not None and "nll" not in metric and "brier" not in metric


def _advice(
    strata: Mapping[str, Values], contrasts: Sequence[Contrast], metric: Metric, base: str | None
) -> Advice:
    regimes = []
    for title, values in strata.items():
        of_stratum = [one for one in contrasts if one.stratum == title]
        found = {one.cell: one for one in of_stratum if base is not None and one.against == base}
        if not found:
            pairs = {(one.cell, one.against): one for one in of_stratum}
            found = with_the_best(values, metric, REPLICATE, pairs)
        shown = "" if title == "all" else title
        names = {method: method for method in values}
        bases = [base] if base in values and found else []
        regimes.append(regime(shown, names, values, found, bases, metric))
    return Advice(metric, REPLICATE, tuple(regimes))


def _first_screen(advice: Advice, strata: Mapping[str, Values]) -> dict[str, Any]:
    """Return the forest plot and the tables of the primary metric."""
    panels, keys = {}, {}
    for one, values in zip(advice.regimes, strata.values(), strict=True):
        panels[one.title] = lines_of(one, values, advice.unit, {})
        keys[one.title] = [option.cell for option in one.options]
    bases = {one.against for one in advice.regimes}
    base = bases.pop() if len(bases) == 1 else "the baseline"
    against = "the best of the others" if base is None else method_name(base)
    has_lines = any(line.contrast for lines in panels.values() for line in lines)
    several = [one for one in advice.regimes if any(o.contrast for o in one.options)]
    return {
        "figures": forest(panels, advice.metric, advice.unit, against),
        "table": first_table(panels, advice.metric, Extras(), keys) if has_lines else None,
        "overview": overview(several, advice, {}, {}) if len(several) > 1 else None,
    }


def _strata(observations: Observations) -> dict[str, pd.DataFrame]:
    if not observations.factors:
        return {"all": observations.rows}
    groups = observations.rows.groupby(list(observations.factors), sort=False, dropna=False)
    keys, members = zip(*groups, strict=True)
    titles = [
        ", ".join(f"{name} {value}" for name, value in zip(observations.factors, key, strict=True))
        for key in keys
    ]
    return dict(zip(stratum_titles(titles), members, strict=True))


def _values(rows: pd.DataFrame, metric: str) -> Values:
    """Average the seeds that all methods of a stratum have in a replicate."""
    values: Values = {}
    if SEED not in rows:
        for method, replicate, value in zip(
            rows[METHOD], rows[REPLICATE], rows[metric], strict=True
        ):
            values.setdefault(method, {})[int(replicate)] = float(value)
        return values
    known = rows.dropna(subset=[metric])
    for replicate, of_replicate in known.groupby(REPLICATE):
        table = of_replicate.pivot(index=METHOD, columns=SEED, values=metric)
        shared = table.dropna(axis="columns")
        for method, value in (shared if shared.shape[1] else table).mean(axis=1).items():
            values.setdefault(str(method), {})[int(str(replicate))] = float(value)
    return {method: values.get(method, {}) for method in dict.fromkeys(rows[METHOD])}


def _contrasts(values: Mapping[str, Values], metric: str, base: str | None) -> list[Contrast]:
    strata = []
    for title, of_stratum in values.items():
        methods = list(of_stratum)
        pairs = many_to_one(methods, base) if base in methods else all_pairs(methods)
        strata.append(Stratum(title, of_stratum, pairs))
    better = -1 if is_lower_better(metric) else 1
    return compare(strata, better=better, margin=margin_of(metric))


def _part(
    metric: str, values: Mapping[str, Values], contrasts: Sequence[Contrast]
) -> dict[str, Any]:
    percent = _is_percent(metric)
    decimals = formatting.digits([contrast.half_width for contrast in contrasts], percent)
    means, rows = [], []
    for title, of_stratum in values.items():
        if len(values) > 1:
            means.append(Row(title, heading=True))
            rows.append(Row(title, heading=True))
        for method, by_replicate in of_stratum.items():
            value = estimate(list(by_replicate.values()))
            shown = formatting.estimate(value, percent, decimals)
            means.append(Row(method, (Cell(str(value.n)), Cell(shown))))
        rows += [
            contrast_row(f"{one.cell} − {one.against}", one, percent, decimals, REPLICATE)
            for one in contrasts
            if one.stratum == title
        ]
    margin = margin_of(metric)
    arrow = "lower is better" if is_lower_better(metric) else "higher is better"
    shown_margin = formatting.number(margin, percent, 1 if percent else 3)
    note = (
        f"{metric}: {arrow}. Differences are paired by replicate; the intervals hold together "
        "with a confidence of 95%. "
    )
    if margin is None:
        note += "No margin is known for this metric: nothing can be equivalent."
    else:
        note += (
            f"Margin: {shown_margin}{' points' if percent else ''}. Equivalent: the 90% interval "
            "lies within it. Would have been seen: with a probability of 80%."
        )
    return {
        "title": metric,
        "means": Table(["n", f"Mean{', %' if percent else ''}"], means),
        "contrasts": Table(contrast_columns(percent), rows, first="Contrast"),
        "note": note,
    }


def _best_sentence(title: str, names: Sequence[str], metric: str) -> str:
    where = "" if title == "all" else f"{title}: "
    return f"{where}the best set on {metric} is {joined(names)}"
