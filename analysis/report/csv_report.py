"""The report of a CSV of results: the statistics of a sweep on anybody's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report.files import FIGURES, write_files
from mixbench.analysis.report.first_screen import first_screen
from mixbench.analysis.report.observed import (
    NONE,
    Values,
    contrasts_of,
    metric_named,
    part_of,
    values_of,
)
from mixbench.analysis.report.over_datasets import over_datasets, parts_of
from mixbench.analysis.report.page import render_contrasts
from mixbench.analysis.report.published import published_part
from mixbench.analysis.report.verdicts import VERDICTS, Judged, dump
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.blocks import stratum_titles
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import Advice, regime, with_the_best
from mixbench.analysis.tables.from_csv import DATASET, METHOD, REPLICATE, Observations, read_csv
from mixbench.analysis.text.advice import advice_sentence
from mixbench.analysis.text.formatting import joined
from mixbench.experiments.errors import UserError, did_you_mean
from mixbench.experiments.text import plural


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
    datasets = {
        title: str(rows[DATASET].iloc[0]) if DATASET in rows else ""
        for title, rows in strata.items()
    }
    judged: list[Judged] = []
    parts: list[dict[str, Any]] = []
    for name in observations.metrics:
        metric = metric_named(name)
        values = {title: values_of(rows, name) for title, rows in strata.items()}
        contrasts = contrasts_of(values, metric, base)
        parts.append(part_of(metric, values, contrasts))
        beside = published_part(observations.published, metric, values, datasets, base)
        parts += [beside] if beside else []
        ranked = over_datasets(metric, values, contrasts, datasets)
        parts += parts_of(ranked) if ranked else []
        is_primary = name == observations.metrics[0]
        judged += [
            Judged(contrast, name, contrast.cell, contrast.against, contrast.stratum, is_primary)
            for contrast in contrasts
        ]
    first = metric_named(observations.metrics[0])
    strata_values = {title: values_of(rows, first.key) for title, rows in strata.items()}
    best = {title: best_set(of, first.better) for title, of in strata_values.items()}
    primary = [one.contrast for one in judged if one.is_primary]
    advice = _advice(strata_values, primary, first, base, best)
    headline = advice_sentence(advice)
    screen = first_screen(advice, list(strata_values.values()))
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


def _advice(
    strata: Mapping[str, Values],
    contrasts: Sequence[Contrast],
    metric: Metric,
    base: str | None,
    best: Mapping[str, Sequence[str]],
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
        regimes.append(regime(shown, names, values, found, bases, metric, best[title]))
    return Advice(metric, REPLICATE, tuple(regimes))


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


def _best_sentence(title: str, names: Sequence[str], metric: str) -> str:
    where = "" if title == "all" else f"{title}: "
    return f"{where}the best set on {metric} is {joined(names)}"
