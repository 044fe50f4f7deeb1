"""All pairs of methods, and two factors at once, as heat maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixbench.analysis.figures.canvas import ReportFigure, on_both_papers
from mixbench.analysis.figures.heat_maps import HeatMap, heat_maps_figure
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.sections.first import values_of
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.contrasts import Contrast, Stratum
from mixbench.analysis.statistics.recommendation import turned
from mixbench.analysis.tables.labels import value_text
from mixbench.analysis.text import formatting
from mixbench.analysis.text.answer import metric_in_words
from mixbench.analysis.text.names import method_name, regime_name

_FEWEST, _MOST = 3, 14
_MOST_BLOCKS, _FEW_BLOCKS = 6, 3
"""Where there are more regimes than the first, so many are drawn."""
Pair = tuple[str, str]


def section(data: ReportData) -> dict[str, Any]:
    """Return the figures: all pairs of each regime, and two factors where just two vary."""
    return {"figures": [*_pairs(data), *_factors(data)]}


def _pairs(data: ReportData) -> list[ReportFigure]:
    compared, metric = data.comparison, data.advice.metric
    shown = [
        (title, members)
        for title, members in blocks(compared.cells)
        if _FEWEST <= int((members["done"] > 0).sum()) <= _MOST
    ]
    shown = shown if len(shown) <= _MOST_BLOCKS else shown[:_FEW_BLOCKS]
    if not shown or not metric.better:
        return []
    known = _known(data)
    tested = {**known, **_others(data, [members for _, members in shown], known)}
    if not any(one.low is not None for one in tested.values()):
        return []
    maps = []
    for title, members in shown:
        done = members[members["done"] > 0]
        names = {
            str(k): method_name(str(v))
            for k, v in zip(done["cell_key"], done["series"], strict=True)
        }
        maps.append(_map(regime_name(title), names, tested, data))
    where = metric_in_words(metric)
    points = ", points" if metric.percent else ""
    return [
        on_both_papers(
            "pairs.png",
            "All pairs",
            f"Row minus column in {where}{points}. A star: the interval excludes 0; those of pairs "
            "without the baseline hold together among themselves, and are exploratory unless the "
            "question declares them.",
            f"Heat maps of the differences of all pairs of methods in {where}",
            lambda paper: heat_maps_figure(maps, paper),
        )
    ]


def _known(data: ReportData) -> dict[Pair, Contrast]:
    """Return the contrasts that have a test already."""
    metric = data.advice.metric.key
    found = {(one.cell, one.against): one for one in data.comparison.of_metric(metric).values()}
    declared = data.comparison.declared
    if declared is not None and declared.metric.key == metric:
        found |= declared.by_cells
    return found


def _others(
    data: ReportData, groups: list[pd.DataFrame], known: Mapping[Pair, Contrast]
) -> dict[Pair, Contrast]:
    """Test the pairs that have no test elsewhere, as a family of their own."""
    metric = data.advice.metric
    values = values_of(data, metric)
    strata = []
    for number, members in enumerate(groups):
        keys = [str(key) for key in members.loc[members["done"] > 0, "cell_key"]]
        pairs = [
            pair
            for pair in contrasts.all_pairs(keys)
            if pair not in known and pair[::-1] not in known
        ]
        strata.append(Stratum(str(number), {key: values.get(key, {}) for key in keys}, pairs))
    found = contrasts.compare(
        strata, better=metric.better, margin=metric.margin, unit=data.comparison.unit
    )
    return {(one.cell, one.against): one for one in found}


def _map(
    title: str, names: Mapping[str, str], tested: Mapping[Pair, Contrast], data: ReportData
) -> HeatMap:
    metric = data.advice.metric
    factor = 100 if metric.percent else 1
    keys = list(names)
    values = pd.DataFrame(float("nan"), index=keys, columns=keys)
    texts = pd.DataFrame("", index=keys, columns=keys)
    for here in keys:
        for there in keys:
            one = tested.get((here, there))
            if one is None and (there, here) in tested:
                one = turned(tested[there, here], metric.better)
            if one is None or one.difference is None:
                continue
            shown = formatting.number(one.difference, metric.percent, 1 if metric.percent else 3)
            values.loc[here, there] = one.difference * factor * metric.better
            texts.loc[here, there] = f"{shown}{'*' if one.is_clear else ''}"
    labels = {key: names[key] for key in keys}
    return HeatMap(title, values.rename(labels, axis=0).rename(labels, axis=1), texts)


def _factors(data: ReportData) -> list[ReportFigure]:
    """Draw the means over two fields, where a method varies in just these."""
    metric = data.advice.metric
    maps: list[HeatMap] = []
    for title, members in blocks(data.comparison.cells):
        if len(maps) >= _MOST_BLOCKS:
            break
        for method, cells in members.groupby("augmentation.name", sort=False):
            if len(cells) < _FEWEST:
                continue
            fields = [
                key
                for key in cells
                if "." in str(key)
                and str(key) not in ("staging.name", "staging.phases")
                and cells[key].map(value_text).nunique() > 1
            ]
            cells = cells.dropna(subset=fields)
            if len(fields) != 2 or any(cells[key].map(value_text).nunique() < 2 for key in fields):
                continue
            parts = (regime_name(title), method_name(str(method)))
            heading = ", ".join(part for part in parts if part)
            maps.append(_means(data, cells, (str(fields[0]), str(fields[1])), heading))
    maps = maps[:_MOST_BLOCKS]
    if not maps:
        return []
    where = metric_in_words(metric)
    return [
        on_both_papers(
            "factors.png",
            "Two factors",
            f"Mean {where}{', %' if metric.percent else ''}, over {data.comparison.unit}s.",
            f"Heat maps of the mean {where} over two factors",
            lambda paper: heat_maps_figure(maps, paper, diverging=False),
        )
    ]


def _means(data: ReportData, cells: pd.DataFrame, fields: tuple[str, str], title: str) -> HeatMap:
    metric = data.advice.metric
    rows = list(dict.fromkeys(map(value_text, cells[fields[0]])))
    columns = list(dict.fromkeys(map(value_text, cells[fields[1]])))
    values = pd.DataFrame(float("nan"), index=rows, columns=columns)
    texts = pd.DataFrame("", index=rows, columns=columns)
    for cell in cells.to_dict("records"):
        estimate = data.comparison.estimates.get((str(cell["cell_key"]), metric.key))
        if estimate is None or estimate.mean is None:
            continue
        row, column = value_text(cell[fields[0]]), value_text(cell[fields[1]])
        values.loc[row, column] = estimate.mean
        texts.loc[row, column] = formatting.estimate(
            estimate, metric.percent, data.decimals(metric)
        )
    short = [field.rpartition(".")[2].replace("_", " ") for field in fields]
    return HeatMap(title, values, texts, x_label=short[1], y_label=short[0])
