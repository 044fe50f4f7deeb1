"""Build the table of one measurement: metrics by method, with differences to the baseline."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import pandas as pd

from mixbench.analysis.report.measurements.catalogue import Shown
from mixbench.analysis.report.parts import TONES, Cell, Row, Table
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.comparison import Comparison, compare_metric, seed_values
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.estimates import Estimate, estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.units import overlap_of
from mixbench.analysis.text import formatting

Entry = tuple[str, str]
"""cell_key and metric key."""
Value = TypeVar("Value", Estimate, Contrast)


def compare_measurement(
    compared: Comparison, runs: pd.DataFrame, shown: Sequence[Shown]
) -> tuple[dict[Entry, Estimate], dict[Entry, Contrast]]:
    """Return estimates and differences to the baseline.

    The differences of one metric are a family.
    """
    values = seed_values(runs, [one.metric.key for one in shown])
    estimates = {
        entry: estimate(list(by_seed.values()), overlap=overlap_of(compared.unit))
        for entry, by_seed in values.items()
    }
    differences = {
        (contrast.cell, one.metric.key): contrast
        for one in shown
        if one.is_compared
        for contrast in compare_metric(compared.cells, values, one.metric, compared.unit)
        if contrast.n
    }
    return estimates, differences


@dataclass(frozen=True)
class Numbers:
    """What the table shows."""

    cells: pd.DataFrame
    shown: Sequence[Shown]
    estimates: Mapping[Entry, Estimate]
    differences: Mapping[Entry, Contrast]

    @cached_property
    def decimals(self) -> dict[str, int]:
        """The decimals of each metric."""
        return {one.metric.key: self._decimals(one.metric) for one in self.shown}

    def by_cell(self) -> Table:
        """Return a row per cell, a column per metric."""
        bases = set(self.cells["baseline_key"].dropna()) if self.differences else set()
        rows = []
        for heading, members in blocks(self.cells):
            if heading:
                rows.append(Row(heading, heading=True))
            for cell in members.itertuples():
                key, name = str(cell.cell_key), str(cell.series)
                if not self._has_values(key):
                    rows.append(Row(name, note="not measured"))
                    continue
                entries = tuple(self._entry(key, one.metric) for one in self.shown)
                rows.append(Row(name, entries, is_baseline=key in bases))
        return Table([_heading(one.metric) for one in self.shown], rows)

    def by_metric(self) -> Table:
        """Return a row per metric, a column per cell."""
        cells = [
            (str(key), str(label))
            for key, label in self.cells[["cell_key", "label"]].itertuples(index=False)
            if self._has_values(str(key))
        ]
        rows = [
            Row(_heading(one.metric), tuple(self._entry(key, one.metric) for key, _ in cells))
            for one in self.shown
        ]
        return Table([label for _, label in cells], rows, first="Metric")

    def _has_values(self, cell: str) -> bool:
        values = (self.estimates.get((cell, one.metric.key)) for one in self.shown)
        return any(value is not None and value.n for value in values)

    def _entry(self, cell: str, metric: Metric) -> Cell:
        value = self.estimates.get((cell, metric.key), Estimate(0, None, None))
        text = formatting.estimate(value, metric.percent, self.decimals[metric.key])
        difference = self.differences.get((cell, metric.key))
        if difference is None:
            return Cell(text)
        decimals = formatting.difference_digits(
            _of_metric(self.differences, metric), metric.percent, self.decimals[metric.key]
        )
        minor = formatting.difference(difference, metric.percent, decimals)
        if not metric.better:
            return Cell(text, f"{minor} *" if difference.is_clear else minor)
        return Cell(text, minor, TONES.get(difference.verdict, ""))

    def _decimals(self, metric: Metric) -> int:
        values = _of_metric(self.estimates, metric)
        if metric.percent:
            return formatting.digits([value.half_width for value in values], percent=True)
        return significant_decimals([value.mean for value in values])


def significant_decimals(values: Iterable[float | None]) -> int:
    """Return the decimals that show three digits of the largest of the values, at most 6."""
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    if not largest:
        return 3
    return min(6, max(0, 2 - math.floor(math.log10(largest))))


def _of_metric(values: Mapping[Entry, Value], metric: Metric) -> list[Value]:
    return [value for (_, key), value in values.items() if key == metric.key]


def _heading(metric: Metric) -> str:
    # A difference of percentages is in points.
    is_difference = metric.key.endswith(("/gap", "/favour", "/difference", "/label_error"))
    unit = (", points" if is_difference else ", %") if metric.percent else ""
    return f"{metric.title}{unit}{ {1: ' ↑', -1: ' ↓'}.get(metric.better, '') }"
