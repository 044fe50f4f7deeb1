"""Checks of the intervals: sign flips, other test images, other data sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mixbench.analysis.report.data import ReportData, short_dataset
from mixbench.analysis.report.first_screen import differences
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.analysis.report.sections.first import values_of
from mixbench.analysis.statistics import datasets, exact
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.declared import SEVERAL
from mixbench.analysis.statistics.images import crossed
from mixbench.analysis.statistics.max_t import Array
from mixbench.analysis.statistics.metrics import ACCURACY, Metric
from mixbench.analysis.statistics.units import overlap_of
from mixbench.analysis.tables.predictions import MOST_RUNS
from mixbench.analysis.text import formatting

_MOST_ROWS = 60


def section(data: ReportData) -> dict[str, Any]:
    """Return a row per primary contrast, and the methods over several data sets."""
    found = {name: one for name, one in _contrasts(data) if one.low is not None}
    table = _checks(data, dict(list(found.items())[:_MOST_ROWS])) if found else None
    return {"table": table, "note": _note(data, found), "ranks": _ranks(data)}


def _contrasts(data: ReportData) -> list[tuple[str, Contrast]]:
    compared = data.comparison
    titles = dict(zip(compared.cells["cell_key"], compared.cells["label"], strict=True))
    if compared.declared is not None:
        several = len({one.contrast.stratum for one in compared.declared.contrasts}) > 1
        return [
            (
                f"{one.label} − {one.against}" + (f" ({one.contrast.stratum})" if several else ""),
                one.contrast,
            )
            for one in compared.declared.contrasts
        ]
    found = compared.of_metric(compared.primary.key).items()
    return [(f"{titles[cell]} − {titles[one.against]}", one) for cell, one in found]


def _checks(data: ReportData, found: Mapping[str, Contrast]) -> Table:
    metric = data.advice.metric
    values = values_of(data, metric)
    overlap = overlap_of(data.comparison.unit)
    # Folds test on other images each, and don't have exchangeable signs.
    right = Right(data) if metric.key == ACCURACY.key and not overlap else None
    rows = []
    for name, one in found.items():
        flips = None if overlap else exact.sign_flip(differences(one, values))
        images = right.of(one) if right is not None else None
        entries = (
            Cell(str(one.n)),
            Cell(formatting.p_value(one.p)),
            Cell(formatting.p_value(flips), f"at least {formatting.p_value(exact.floor(one.n))}"),
            Cell(formatting.number(one.standard_error, metric.percent, 2 if metric.percent else 4)),
            *([Cell(formatting.number(images, True, 2))] if right is not None else []),
        )
        rows.append(Row(name, entries))
    points = ", points" if metric.percent else ""
    columns = ["n", "p, together", "p, sign flips", f"Standard error{points}"]
    columns += [f"with new test images{points}"] if right is not None else []
    return Table(columns, rows, first="Contrast")


class Right:
    """Which test images each run is right about, from the saved predictions."""

    def __init__(self, data: ReportData) -> None:
        self._data, done = data, data.done
        self._draw = "replicate" if "replicate" in done else "seed"
        self._keys: dict[str, dict[int, str]] = {}
        if len(done) <= MOST_RUNS:
            for cell, draw, run in done[["cell_key", self._draw, "run_key"]].itertuples(
                index=False
            ):
                self._keys.setdefault(str(cell), {}).setdefault(int(draw), str(run))

    def of(self, one: Contrast) -> float | None:
        """Return the standard error over replicates and test images; None if it is not known."""
        if SEVERAL in one.cell + one.against:
            return None
        rows = []
        for draw in one.replicates:
            sides = [
                self._images(self._keys.get(cell, {}).get(draw)) for cell in (one.cell, one.against)
            ]
            here, there = sides
            if here is not None and there is not None and len(here) == len(there):
                rows.append(here - there)
        if len(rows) < 2 or len({len(row) for row in rows}) > 1:
            return None
        return crossed(np.array(rows)).both

    def _images(self, run: str | None) -> Array | None:
        """Return 1.0 for each test image that was named right, else 0.0."""
        found = None if run is None else self._data.predicted(run)
        return None if found is None else np.asarray(found.named == found.labels, dtype=float)


def _note(data: ReportData, found: Mapping[str, Contrast]) -> str:
    more = f" The first {_MOST_ROWS} of {len(found)}." if len(found) > _MOST_ROWS else ""
    images = (
        " With new test images: the standard error if the test images were drawn again too, from "
        "the saved predictions; the intervals on this page are for these test images."
        if data.advice.metric.key == ACCURACY.key
        else ""
    )
    return (
        "p, together: of the t statistics, over all contrasts of the family. p, sign flips: of "
        "the contrast alone, exact and without normality; few pairs can't reach small values, so "
        f"the least that is possible stands below it.{images}{more}"
    )


def _ranks(data: ReportData) -> Table | None:
    """Return average ranks and pooled differences of the methods over data sets."""
    cells, metric = data.comparison.cells, data.advice.metric
    names = list(dict.fromkeys(map(short_dataset, cells["dataset.name"])))
    if len(names) < 2 or not metric.better:
        return None
    scores: dict[str, dict[str, list[float]]] = {}
    effects: dict[str, dict[str, Contrast]] = {}
    found = data.comparison.of_metric(metric.key)
    for cell in cells.to_dict("records"):
        key, where = str(cell["cell_key"]), short_dataset(str(cell["dataset.name"]))
        estimate = data.comparison.estimates.get((key, metric.key))
        if estimate is not None and estimate.mean is not None:
            scores.setdefault(str(cell["series"]), {}).setdefault(where, []).append(estimate.mean)
        if key in found and found[key].standard_error:
            effects.setdefault(str(cell["series"]), {})[where] = found[key]
    complete = {
        name: [sum(of[where]) / len(of[where]) for where in names]
        for name, of in scores.items()
        if all(where in of for where in names)
    }
    if len(complete) < 2:
        return None
    ranks = datasets.rank(complete, metric.better)
    rows = [
        Row(name, (Cell(f"{ranks.average[name]:.2f}"), _pooled(effects.get(name, {}), metric)))
        for name in sorted(complete, key=lambda name: ranks.average[name])
    ]
    points = ", points" if metric.percent else ""
    return Table(["Average rank", f"Difference over data sets{points}"], rows)


def _pooled(effects: Mapping[str, Contrast], metric: Metric) -> Cell:
    known = [(one.difference, one.standard_error) for one in effects.values()]
    pairs = [(d, e) for d, e in known if d is not None and e]
    if len(pairs) < 2:
        return Cell(formatting.MISSING)
    pooled = datasets.pool([d for d, _ in pairs], [e for _, e in pairs])
    decimals = 1 if metric.percent else 3
    low, high = (
        formatting.number(end, metric.percent, decimals, sign=True)
        for end in (pooled.low, pooled.high)
    )
    shown = formatting.number(pooled.difference, metric.percent, decimals, sign=True)
    return Cell(shown, f"[{low}, {high}]", tip=f"over {len(pairs)} data sets, which are random")
