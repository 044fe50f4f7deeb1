"""Give the cells of a report names as a person writes them, the same everywhere on its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd

from mixbench.analysis.report.data import ReportData
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.declared import Declared
from mixbench.analysis.statistics.recommendation import METHOD, PROB, with_prob
from mixbench.analysis.tables.labels import JOIN
from mixbench.analysis.text.names import method_name
from mixbench.experiments.design.question import NAMED

_NAMES = ("label", "method", "group", "title", "series")


def worded(data: ReportData) -> ReportData:
    """Return the data with names such as "CutMix at prob 0.5" for "cutmix".

    What programs read (runs.csv, verdicts.json) is made of the data as they were; the advice and
    the claims too, which know methods by their names in configurations.
    """
    cells, tables = _cells(data.comparison.cells), data.tables
    labels = dict(zip(cells["cell_key"], cells["label"], strict=True))
    runs = tables.runs.assign(
        label=[
            labels.get(key, label)
            for key, label in zip(tables.runs["cell_key"], tables.runs["label"], strict=True)
        ]
    )
    tables = replace(tables, cells=_cells(tables.cells), runs=runs)
    comparison = replace(
        data.comparison, cells=cells, declared=_declared(data.comparison, cells["series"])
    )
    return replace(data, comparison=comparison, tables=tables, judged=data.comparison)


def _cells(cells: pd.DataFrame) -> pd.DataFrame:
    shown = {
        name: _each(cells, name, method_name if name in ("group", "title") else None)
        for name in _NAMES
        if name in cells
    }
    return cells.assign(**{name: list(texts) for name, texts in shown.items()})


def _each(cells: pd.DataFrame, column: str, words: Callable[[str], str] | None) -> Iterable[str]:
    """Return a column in words; names of cells with a `prob` that is not the usual one."""
    if words is not None or PROB not in cells:
        return map(method_name, map(str, cells[column]))
    rows = zip(cells[column], cells[METHOD], cells[PROB], strict=True)
    return [method_name(_with_prob(str(name), method, prob)) for name, method, prob in rows]


def _with_prob(label: str, method: object, prob: object) -> str:
    first, *rest = label.split(JOIN)
    return JOIN.join([with_prob(first, method, prob), *rest])


def _declared(comparison: Comparison, series: pd.Series) -> Declared | None:
    declared = comparison.declared
    if declared is None:
        return None
    by_key = dict(zip(comparison.cells["cell_key"], series, strict=True))
    by_name = dict(zip(comparison.cells["series"], series, strict=True))
    if declared.question.contrasts == NAMED:
        by_key = {}  # The groups have names of their own.
    contrasts = tuple(
        replace(
            one,
            label=by_key.get(one.contrast.cell) or method_name(one.label),
            against=by_key.get(one.contrast.against) or method_name(one.against),
            contrast=replace(one.contrast, stratum=method_name(one.contrast.stratum)),
        )
        for one in declared.contrasts
    )
    best = {
        method_name(title): [by_name.get(name) or method_name(name) for name in names]
        for title, names in declared.best.items()
    }
    return replace(declared, contrasts=contrasts, best=best)
