"""Published numbers beside ours: what others report, by what protocol, and the gain of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from mixbench.analysis.report.observed import NONE, Values
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.tables.from_csv import DATASET, METHOD, PROTOCOL, SOURCE
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import method_name
from mixbench.experiments.text import plural


def published_part(
    published: pd.DataFrame,
    metric: Metric,
    ours: Mapping[str, Values],
    datasets: Mapping[str, str],
    base: str | None = NONE,
) -> dict[str, Any] | None:
    """Return a table of published numbers; None where none is of this metric.

    Args:
        published: method, the metrics, and where there are any dataset, protocol and source.
        metric: Which one.
        ours: stratum -> method -> replicate -> value.
        datasets: stratum -> data set, to find ours on the same data.
        base: The method that gains are taken over.
    """
    if metric.key not in published:
        return None
    known = published.dropna(subset=[metric.key])
    if known.empty:
        return None
    about = [name for name in (DATASET, PROTOCOL, SOURCE) if name in known]
    bases = {
        tuple(row[name] for name in about): row[metric.key]
        for row in known[known[METHOD] == base].to_dict("records")
    }
    columns = ["Published", "Published gain", "Ours", "Our gain"]
    rows = []
    for row in known.to_dict("records"):
        setting = tuple(row[name] for name in about)
        value = float(row[metric.key])
        gain = value - bases[setting] if setting in bases and row[METHOD] != base else None
        mine, gains = _ours(ours, datasets, str(row.get(DATASET, "")), str(row[METHOD]), str(base))
        cells = (
            formatting.number(value, metric.percent, _decimals(metric)),
            formatting.number(gain, metric.percent, _decimals(metric), sign=True),
            _range(mine, metric),
            _range(gains, metric, sign=True),
            *(str(row[name]) for name in about),
        )
        rows.append(Row(method_name(str(row[METHOD])), tuple(Cell(text) for text in cells)))
    protocols = [str(name) for name in known[PROTOCOL].unique()] if PROTOCOL in known else []
    note = (
        "Published numbers come from other protocols than ours, and from each other's: other "
        "networks, data, epochs, choices of the epoch. Compare gains within a protocol, not "
        "numbers between them. "
    )
    if protocols:
        listed = "; ".join(name or "not stated" for name in protocols)
        note += f"{plural(len(protocols), 'protocol')}: {listed}. "
    note += (
        f"A gain is over {method_name(str(base))} of the same protocol and source. Ours: means, "
        "from the lowest to the highest of our settings on that data set."
    )
    heads = [*columns, *(name.capitalize() for name in about)]
    title = f"Published numbers: {metric.title}{', %' if metric.percent else ''}"
    return {"title": title, "tables": [(title, Table(heads, rows))], "note": note}


def _ours(
    ours: Mapping[str, Values], datasets: Mapping[str, str], dataset: str, method: str, base: str
) -> tuple[list[float], list[float]]:
    """Return our means and gains, one of each setting of that data set."""
    means, gains = [], []
    for stratum, values in ours.items():
        of_same = not dataset or _plain(datasets.get(stratum, "")) in ("", _plain(dataset))
        mean = estimate(list(values.get(method, {}).values())).mean
        if of_same and mean is not None:
            means.append(mean)
            of_base = estimate(list(values.get(base, {}).values())).mean
            gains += [mean - of_base] if of_base is not None and method != base else []
    return means, gains


def _range(values: list[float], metric: Metric, *, sign: bool = False) -> str:
    """Return a value, or the smallest and the largest of several settings."""
    ends = sorted({min(values, default=math.nan), max(values, default=math.nan)})
    shown = [formatting.number(end, metric.percent, _decimals(metric), sign) for end in ends]
    return " to ".join(dict.fromkeys(shown))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _decimals(metric: Metric) -> int:
    return 2 if metric.percent else 3
