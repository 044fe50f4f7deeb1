"""What changed between two sweeps, or between a sweep and itself at another commit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.comparison import seed_values
from mixbench.analysis.statistics.contrasts import Contrast, Stratum, Values, Verdict
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.statistics.units import unit_of
from mixbench.analysis.tables.joined import DEFAULTS

BEFORE, AFTER = "before", "after"
_SAME = ("evaluation.batch_size", "training.devices")
"""Fields that change no result."""


@dataclass(frozen=True)
class Match:
    """The cells of two sweeps that are the same, or the same but for what all cells changed.

    Attributes:
        pairs: (label, cell_key before, cell_key after).
        changed: field -> (value before, value after): what is one value in each sweep, and
            another in the other one.
        only_before, only_after: Labels of cells without a counterpart.
    """

    pairs: tuple[tuple[str, str, str], ...]
    changed: Mapping[str, tuple[Any, Any]]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """What changed in one metric of one cell.

    Attributes:
        label: The cell's.
        metric: Which metric, with its direction and margin.
        before, after: The means; None without a value.
        contrast: After minus before, with an interval that holds together with those of all
            other cells in this metric.
        tolerance: How much worse it may be, in the metric's unit; None where none is declared.
        paired: Whether runs were compared seed by seed (or replicate by replicate).
    """

    label: str
    metric: Metric
    before: float | None
    after: float | None
    contrast: Contrast
    tolerance: float | None = None
    paired: bool = True

    @property
    def is_same(self) -> bool:
        """Whether all runs that both sides have ended with the same number."""
        return self.contrast.difference == 0 and self.contrast.standard_error is None

    @property
    def is_broken(self) -> bool:
        """Whether the mean got worse by more than the tolerance, or there is no value any more.

        A metric of which neither direction is better must stay within it on both sides.
        """
        if self.tolerance is None or self.before is None:
            return False
        difference = self.contrast.difference
        if difference is None:
            return True
        worse = -self.metric.better * difference if self.metric.better else abs(difference)
        # What rounding adds is no change.
        return worse > self.tolerance * (1 + 1e-9)


def match(before: pd.DataFrame, after: pd.DataFrame, fields: Sequence[str]) -> Match:
    """Find the cells of one sweep in another.

    Cells of one key are the same. Others are if they have the same settings, but for fields that
    have one value in the whole of each sweep: those are what was changed between the two.

    Args:
        before: One row per cell: cell_key, label, and the configuration as dotted columns.
        after: The same of the other sweep.
        fields: The columns of either that are settings.
    """
    here, there = _by_key(before, fields), _by_key(after, fields)
    labels = dict(zip(before["cell_key"], before["label"], strict=True))
    others = dict(zip(after["cell_key"], after["label"], strict=True))
    pairs = {key: key for key in here if key in there}
    changed = _changed(here, there, fields)
    if len(pairs) < min(len(here), len(there)):
        compared = [name for name in fields if name not in changed and name not in _SAME]
        left, right = _settings(here, compared), _settings(there, compared)
        taken = set(pairs.values())
        for setting, keys in left.items():
            free = [key for key in right.get(setting, ()) if key not in taken]
            if len(keys) == len(free) == 1 and keys[0] not in pairs:
                pairs[keys[0]] = free[0]
    found = set(pairs.values())
    return Match(
        tuple((labels[key], key, pairs[key]) for key in here if key in pairs),
        changed if any(key != other for key, other in pairs.items()) else {},
        tuple(labels[key] for key in here if key not in pairs),
        tuple(others[key] for key in there if key not in found),
    )


def changes(
    matched: Match,
    before: pd.DataFrame,
    after: pd.DataFrame,
    metrics: Sequence[Metric],
    tolerances: Mapping[str, float] | None = None,
) -> list[Change]:
    """Compare each cell before and after, metric by metric.

    Runs are paired by seed or replicate where both sides have the same; elsewhere, the means are
    compared by Welch's interval, with Bonferroni's correction over the cells.

    Args:
        matched: Which cells are compared.
        before: One row per run: cell_key, seed, state, and metrics as columns.
        after: The same of the other sweep.
        metrics: What is compared.
        tolerances: metric -> how much worse it may be, in its own unit.

    Returns:
        The changes, metric by metric, cells in the order of the first sweep.
    """
    keys = [metric.key for metric in metrics]
    old, new = (seed_values(runs, [key for key in keys if key in runs]) for runs in (before, after))
    unit = unit_of(before)
    is_paired = unit == unit_of(after)
    found = []
    for metric in metrics:
        sides = [
            (label, old.get((here, metric.key), {}), new.get((there, metric.key), {}))
            for label, here, there in matched.pairs
        ]
        strata = [
            Stratum(str(place), {BEFORE: one, AFTER: other}, [(AFTER, BEFORE)])
            for place, (_, one, other) in enumerate(sides)
        ]
        judged = contrasts.compare(strata, better=metric.better, margin=metric.margin, unit=unit)
        for (label, one, other), contrast in zip(sides, judged, strict=True):
            known = [_numbers(one), _numbers(other)]
            paired = is_paired and contrast.n > 0
            if not paired and all(known):
                contrast = _welch(known[0], known[1], metric, len(sides))
            tolerance = (tolerances or {}).get(metric.key)
            means = [math.fsum(values) / len(values) if values else None for values in known]
            found.append(Change(label, metric, means[0], means[1], contrast, tolerance, paired))
    return found


def _by_key(cells: pd.DataFrame, fields: Sequence[str]) -> dict[str, dict[Hashable, Any]]:
    known = [name for name in fields if name in cells]
    rows = cells[known].to_dict("records")
    return {str(key): row for key, row in zip(cells["cell_key"], rows, strict=True)}


def _changed(
    here: Mapping[str, Mapping[Hashable, Any]],
    there: Mapping[str, Mapping[Hashable, Any]],
    fields: Sequence[str],
) -> dict[str, tuple[Any, Any]]:
    changed = {}
    for name in fields:
        if name in _SAME:
            continue
        sides = [{_value(row, name) for row in rows.values()} for rows in (here, there)]
        if len(sides[0]) == len(sides[1]) == 1 and sides[0] != sides[1]:
            changed[name] = (next(iter(sides[0]))[1], next(iter(sides[1]))[1])
    return changed


def _settings(
    rows: Mapping[str, Mapping[Hashable, Any]], fields: Sequence[str]
) -> dict[tuple[Any, ...], list[str]]:
    settings: dict[tuple[Any, ...], list[str]] = {}
    for key, row in rows.items():
        settings.setdefault(tuple(_value(row, name) for name in fields), []).append(key)
    return settings


def _value(row: Mapping[Hashable, Any], name: str) -> tuple[bool, Any]:
    """Return a value that can be compared: a bool is no number, a missing one has its default."""
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        value = DEFAULTS.get(name)
    return isinstance(value, bool), value


def _numbers(values: Values) -> list[float]:
    return [float(value) for value in values.values() if is_number(value)]


def _welch(one: Sequence[float], other: Sequence[float], metric: Metric, count: int) -> Contrast:
    """Compare two groups of other seeds; without an interval where one has a single run."""
    from scipy import stats

    difference = math.fsum(other) / len(other) - math.fsum(one) / len(one)
    n = min(len(one), len(other))
    note = "other seeds on both sides: not paired"
    plain = Contrast(AFTER, BEFORE, "", n, difference, margin=metric.margin, note=note)
    if n < 2:
        return plain
    test = stats.ttest_ind(other, one, equal_var=False)
    if not math.isfinite(test.pvalue):
        return plain
    interval = test.confidence_interval(1 - contrasts.LEVEL / count)
    low, high = float(interval.low), float(interval.high)
    verdict = Verdict.UNDECIDED
    if low > 0 or high < 0:
        verdict = Verdict.BETTER if difference * (metric.better or 1) > 0 else Verdict.WORSE
    narrow = test.confidence_interval(1 - 2 * contrasts.LEVEL / count)
    margin = metric.margin
    if margin is not None and -margin < narrow.low and narrow.high < margin:
        verdict = Verdict.EQUIVALENT
    return Contrast(
        **{
            **vars(plain),
            "standard_error": abs(difference / float(test.statistic)) if test.statistic else None,
            "df": float(test.df),
            "low": low,
            "high": high,
            "p": min(1.0, float(test.pvalue) * count),
            "verdict": verdict,
        }
    )
