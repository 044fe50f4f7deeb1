"""What pages of contrasts are made of: the values of methods in strata, and a part per metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixbench.analysis.report.contrast_rows import contrast_columns, contrast_row
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.contrasts import (
    Contrast,
    Stratum,
    all_pairs,
    compare,
    many_to_one,
)
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.tables.from_csv import (
    METHOD,
    REPLICATE,
    SEED,
    is_lower_better,
    margin_of,
)
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import method_name, regime_name

NONE = "none"
"""The method that others are compared with unless another is named."""

Values = dict[str, dict[int, float | None]]
"""method -> replicate -> value of one metric in one stratum."""


def metric_named(name: str) -> Metric:
    """Return a metric of which nothing but the name is known."""
    margin = margin_of(name)
    percent = margin is not None and "nll" not in name and "brier" not in name
    return Metric(name, name, percent, -1 if is_lower_better(name) else 1, margin)


def values_of(rows: pd.DataFrame, metric: str) -> Values:
    """Return the values of a stratum; seeds that all methods have in a replicate are averaged.

    rows: method, replicate, the metric, and seed where there are several in a replicate.
    """
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


def contrasts_of(
    values: Mapping[str, Values], metric: Metric, base: str | None, unit: str = REPLICATE
) -> list[Contrast]:
    """Compare methods within each stratum: with `base` where it is there, else all pairs."""
    strata = []
    for title, of_stratum in values.items():
        methods = list(of_stratum)
        pairs = many_to_one(methods, base) if base in methods else all_pairs(methods)
        strata.append(Stratum(title, of_stratum, pairs))
    return compare(strata, better=metric.better, margin=metric.margin, unit=unit)


def part_of(
    metric: Metric,
    values: Mapping[str, Values],
    contrasts: Sequence[Contrast],
    unit: str = REPLICATE,
) -> dict[str, Any]:
    """Return the part of a page about one metric: means, contrasts, and what they are."""
    percent = metric.percent
    decimals = formatting.digits([contrast.half_width for contrast in contrasts], percent)
    means, rows = [], []
    for title, of_stratum in values.items():
        if len(values) > 1:
            means.append(Row(regime_name(title), heading=True))
            rows.append(Row(regime_name(title), heading=True))
        for method, by_replicate in of_stratum.items():
            value = estimate(list(by_replicate.values()))
            shown = formatting.estimate(value, percent, decimals)
            means.append(Row(method_name(method), (Cell(str(value.n)), Cell(shown))))
        rows += [
            contrast_row(
                f"{method_name(one.cell)} − {method_name(one.against)}",
                one,
                percent,
                decimals,
                unit,
            )
            for one in contrasts
            if one.stratum == title
        ]
    arrows = {1: "higher is better", -1: "lower is better", 0: "neither direction is better"}
    note = (
        f"{metric.key}: {arrows[metric.better]}. Differences are paired by {unit}; the intervals "
        "hold together with a confidence of 95%. "
    )
    if metric.margin is None:
        note += "No margin is known for this metric: nothing can be equivalent."
    else:
        shown = formatting.number(metric.margin, percent, 1 if percent else 3)
        note += (
            f"Margin: {shown}{' points' if percent else ''}. Equivalent: the 90% interval "
            "lies within it. Would have been seen: with a probability of 80%."
        )
    tables = [
        (metric.title, Table(["n", f"Mean{', %' if percent else ''}"], means)),
        (
            f"{metric.title}, differences",
            Table(contrast_columns(percent), rows, first="Contrast"),
        ),
    ]
    return {"title": metric.title, "tables": tables, "note": note}
