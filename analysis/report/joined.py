"""The report of several sweeps on one page, with published numbers beside them where given."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from mixbench.analysis.report.files import CSV, FIGURES, HTML, write_files
from mixbench.analysis.report.first_screen import first_screen
from mixbench.analysis.report.observed import NONE, Values, part_of
from mixbench.analysis.report.over_datasets import OverDatasets, over_datasets, parts_of
from mixbench.analysis.report.page import render_contrasts
from mixbench.analysis.report.paper_tables import PaperTable
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.report.published import published_part
from mixbench.analysis.report.verdicts import VERDICTS, of_comparison
from mixbench.analysis.statistics.blocks import blocks, stratum_titles
from mixbench.analysis.statistics.comparison import Comparison, compare, seed_values
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.recommendation import recommend
from mixbench.analysis.tables.from_csv import METHOD, read_csv
from mixbench.analysis.tables.joined import ALL, Joined, join, short_dataset
from mixbench.analysis.tables.sources import Source
from mixbench.analysis.text import formatting
from mixbench.analysis.text.advice import advice_sentence
from mixbench.analysis.text.answer import metric_in_words
from mixbench.experiments.text import plural

RANKS = "ranks.json"
_MOST_FIELDS = 30


@dataclass(frozen=True)
class JoinedReport:
    """The files that were written, and the first sentence."""

    folder: Path
    headline: str

    @property
    def html(self) -> Path:
        """The page for a browser."""
        return self.folder / HTML


def write_joined(
    sources: Sequence[Source],
    out: Path,
    baseline: str | None = None,
    published: Path | None = None,
) -> JoinedReport:
    """Write report.html, report.md, runs.csv, verdicts.json, ranks.json and tables.

    Methods are compared within each setting that they share, by whatever sweep: with the baseline
    (`baseline`, a method, else "none") where it is there, else all with each other. Where there
    are several data sets, methods are ranked over them.

    Raises:
        UserError: The sweeps share nothing, a sweep has no finished run, or there is no method
            `baseline`.
    """
    joined = join(sources)
    others = read_csv(published, published_alone=True).published if published else pd.DataFrame()
    known = joined.runs.dropna(axis="columns", how="all")
    compared = compare(joined.cells, known, None, baseline)
    base = _base(compared)
    datasets = joined.datasets()
    parts, ranked = [_sweeps_part(joined, sources)], []
    for metric in compared.metrics:
        values, contrasts = _by_setting(compared, joined, metric)
        over = over_datasets(metric, values, contrasts, datasets)
        beside = published_part(others, metric, values, datasets, base)
        parts += [beside] if beside else []
        parts += parts_of(over) if over else []
        parts.append(part_of(metric, values, contrasts, compared.unit))
        ranked += [over] if over else []
    best = _best(compared)
    primary = compared.primary
    advice = recommend(compared, joined.runs)
    known_values = seed_values(joined.runs, [advice.metric.key])
    by_cell = {key: values for (key, _), values in known_values.items()}
    screen = first_screen(advice, [by_cell] * len(advice.regimes))
    headline = advice_sentence(advice)
    page = {
        "name": " + ".join(joined.names),
        "line": _line(joined, datasets),
        "headline": headline,
        "best": _best_sentences(best, ranked, primary),
        "first": screen,
        "parts": parts,
    }
    files: dict[str, str | bytes] = {
        **{f"{FIGURES}/{figure.name}": figure.light for figure in screen["figures"]},
        **render_contrasts(page),
        VERDICTS: of_comparison(compared),
        RANKS: json.dumps([one.as_json() for one in ranked], indent=1) + "\n",
        CSV: joined.runs.to_csv(index=False),
    }
    for table in _paper_tables(joined, compared, ranked):
        files |= table.files()
    write_files(out, files)
    return JoinedReport(out, headline)


def _base(compared: Comparison) -> str:
    """Return the method of the baselines; "none" where they are several."""
    keys = {contrast.against for contrast in compared.differences.values()}
    cells = compared.cells
    methods = set(cells.loc[cells["cell_key"].isin(keys), "method"])
    return str(methods.pop()) if len(methods) == 1 else NONE


def _by_setting(
    compared: Comparison, joined: Joined, metric: Metric
) -> tuple[dict[str, Values], list[Contrast]]:
    """Return the values by setting and method, and the contrasts under these names.

    A baseline that serves several settings is in each of them.
    """
    cells = compared.cells
    methods = dict(zip(cells["cell_key"], cells["method"], strict=True))
    groups = zip(cells["cell_key"], cells["group"], strict=True)
    settings = {str(key): str(group) or ALL for key, group in groups}
    known = seed_values(joined.runs, [metric.key])
    values: dict[str, Values] = {setting: {} for setting in settings.values()}
    contrasts = []
    of_metric = compared.of_metric(metric.key)
    for key in map(str, cells["cell_key"]):
        one = of_metric.get(key)
        if one is not None:
            own = known.get((one.against, metric.key), {})
            values[settings[key]].setdefault(str(methods[one.against]), own)
            contrasts.append(
                replace(
                    one,
                    cell=str(methods[key]),
                    against=str(methods[one.against]),
                    stratum=settings[key],
                )
            )
        values[settings[key]][str(methods[key])] = known.get((key, metric.key), {})
    return {title: found for title, found in values.items() if found}, contrasts


def _best(compared: Comparison) -> dict[str, list[str]]:
    names = dict(zip(compared.cells["cell_key"], compared.cells["series"], strict=True))
    titled = blocks(compared.cells)
    titles = stratum_titles(title for title, _ in titled)
    return {
        title: [str(names[key]) for key in compared.best[int(members["block"].iloc[0])]]
        for title, (_, members) in zip(titles, titled, strict=True)
        if len(members) > 1
    }


def _line(joined: Joined, datasets: Mapping[str, str]) -> str:
    names = list(dict.fromkeys(datasets.values()))
    parts = [
        plural(len(joined.names), "sweep"),
        formatting.joined(names),
        plural(joined.cells["method"].nunique(), "method"),
        plural(joined.cells["group"].nunique(), "setting"),
        f"{len(joined.done)} of {len(joined.runs)} runs done",
    ]
    return " · ".join(parts)


def _sweeps_part(joined: Joined, sources: Sequence[Source]) -> dict[str, Any]:
    """Return what each sweep has, and what they differ in."""
    rows = []
    for name, source in zip(joined.names, sources, strict=True):
        runs = joined.runs[joined.runs["sweep"] == name]
        done = runs[runs["state"] == "done"]
        kept = sorted({short_dataset(str(value)) for value in runs["dataset.name"]})
        methods = ", ".join(dict.fromkeys(map(str, runs[METHOD])))
        counts = f"{int((source.runs['state'] == 'done').sum())} of {len(source.runs)}"
        shared = len(source.runs) - len(runs)
        cells = (counts, str(len(done)) if shared else counts.split(" ")[0])
        rows.append(Row(name, tuple(Cell(text) for text in (*cells, ", ".join(kept), methods))))
    tables = [
        (
            "The sweeps",
            Table(["Runs done", "Counted here", "Data sets", "Methods"], rows, first="Sweep"),
        )
    ]
    note = "A run that is in several sweeps counts once. "
    if len(sources) > 1 and joined.differing:
        fields = list(joined.differing.items())
        differing = [
            Row(name, tuple(Cell(text) for text in texts)) for name, texts in fields[:_MOST_FIELDS]
        ]
        heads = list(joined.names)
        tables.append(("What they differ in", Table(heads, differing, first="Setting")))
        if fields[_MOST_FIELDS:]:
            note += f"{len(fields) - _MOST_FIELDS} more settings differ; runs.csv has all. "
    note += "Methods are compared only where all settings but the method's are the same."
    return {"title": "The sweeps", "tables": tables, "note": note}


def _best_sentences(
    best: Mapping[str, Sequence[str]], ranked: Sequence[OverDatasets], first: Metric
) -> list[str]:
    where = metric_in_words(first)
    sentences = [
        f"{'' if title == 'all' else f'{title}: '}the best set on {where} is "
        f"{formatting.joined(names)}"
        for title, names in best.items()
    ]
    for over in ranked:
        if over.metric.key == first.key:
            order = sorted(over.ranks.average.items(), key=lambda item: item[1])
            shown = ", ".join(f"{method} {value:.2f}" for method, value in order)
            count = plural(len(over.datasets), "data set")
            sentences.append(f"average ranks over {count}: {shown}")
    return sentences


def _paper_tables(
    joined: Joined, compared: Comparison, ranked: Sequence[OverDatasets]
) -> list[PaperTable]:
    shown, numbers = [], []
    cells = compared.cells[compared.cells["done"] > 0]
    rows = zip(cells["cell_key"], cells["group"], cells["method"], strict=True)
    for key, setting, method in rows:
        texts: dict[str, Any] = {"Setting": setting or ALL, "Method": method}
        exact: dict[str, Any] = {"setting": setting, "method": method, "cell_key": key}
        for metric in compared.metrics:
            value = compared.estimates[str(key), metric.key]
            decimals = 1 if metric.percent else 3
            heading = f"{metric.title}{', %' if metric.percent else ''}"
            texts[heading] = formatting.estimate(value, metric.percent, decimals)
            exact |= {metric.key: value.mean, f"{metric.key} half width": value.half_width}
        shown.append(texts)
        numbers.append(exact)
    name = " + ".join(joined.names)
    caption = f"{name}: means with 95% t intervals over {compared.unit}s."
    tables = [PaperTable("results", caption, pd.DataFrame(shown), pd.DataFrame(numbers))]
    for over in ranked[:1]:
        order = sorted(over.ranks.average, key=lambda method: over.ranks.average[method])
        frame = pd.DataFrame(
            {
                "Method": order,
                "Average rank": [f"{over.ranks.average[method]:.2f}" for method in order],
                **{
                    dataset: [
                        formatting.number(over.scores[method][place], over.metric.percent, 1)
                        for method in order
                    ]
                    for place, dataset in enumerate(over.datasets)
                },
            }
        )
        exact_ranks = frame.assign(
            **{"Average rank": [over.ranks.average[method] for method in order]},
            **{
                dataset: [over.scores[method][place] for method in order]
                for place, dataset in enumerate(over.datasets)
            },
        )
        caption = f"{name}: average ranks over data sets in {over.metric.key}, 1 is the best."
        tables.append(PaperTable("ranks", caption, frame, exact_ranks))
    return tables
