"""The report of a CSV of results: the statistics of a sweep on anybody's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report.contrast_rows import contrast_columns, contrast_row
from mixbench.analysis.report.files import write_pages
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
from mixbench.analysis.text.answer import best_headline
from mixbench.analysis.text.formatting import joined
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
    first = observations.metrics[0]
    best = {
        title: best_set(_values(rows, first), -1 if is_lower_better(first) else 1)
        for title, rows in strata.items()
    }
    headline = best_headline(best, methods, first)
    page = {
        "name": path.stem,
        "line": " · ".join([plural(len(methods), "method"), *observations.notes]),
        "headline": headline,
        "best": [_best_sentence(title, names, first) for title, names in best.items()],
        "parts": parts,
    }
    write_pages(out, {**render_contrasts(page), VERDICTS: dump(judged, best)})
    return CsvReport(out, headline, observations.notes)


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
    percent = margin_of(metric) is not None and "nll" not in metric and "brier" not in metric
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
