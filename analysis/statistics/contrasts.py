"""Contrasts of cells: paired differences with simultaneous intervals, and their verdicts.

One contrast gets one test, wherever it is shown. Its interval holds together with those of all
other contrasts of the same metric.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from itertools import combinations

import numpy as np
from scipy import special

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import max_t, power, two_way
from mixbench.analysis.statistics.max_t import Family
from mixbench.analysis.statistics.two_way import TwoWay
from mixbench.analysis.statistics.units import overlap_of, variance_of_mean

LEVEL = 0.05
"""The familywise error of the verdicts on one metric."""
MOST_STRATA = 10
"""Above so many strata, simultaneous intervals don't use the correlations of the contrasts."""

Values = Mapping[int, float | None]
"""replicate -> the value of one metric; None or NaN where the run has none."""


class Verdict(StrEnum):
    """What a contrast shows, at its margin."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"


@dataclass(frozen=True)
class Stratum:
    """Cells that are compared with each other.

    Attributes:
        title: What they have in common, such as "45 epochs".
        values: cell -> replicate -> value of one metric.
        pairs: The contrasts: (cell, the cell that it is compared with).
    """

    title: str
    values: Mapping[str, Values]
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Contrast:
    """The difference of two cells (cell minus against), with what follows from it.

    Attributes:
        cell, against, stratum: What is compared.
        n: How many replicates both cells have.
        difference: Its estimate, in the metric's unit; None without a shared replicate.
        standard_error, df: Of the difference; None where the spread is unknown.
        low, high: The simultaneous interval.
        p: That all differences of the family are 0 and one as large appears; with it the
            familywise error is held.
        p_better: The probability that the true difference is better by more than the margin, with
            all differences equally likely beforehand. None without a margin or a direction.
        margin: The smallest difference that matters; None where none is known.
        verdict: In the metric's direction. EQUIVALENT where the simultaneous 90 % interval lies
            within the margin (two one-sided tests), else BETTER or WORSE where the interval
            excludes 0.
        detectable: The true difference that would be found with a probability of 80 %.
        more_replicates: How many more find a difference of the margin as often; 0 where the
            verdict is there, None if unknown.
        replicates: Those that both cells have.
        note: Why something is missing; empty otherwise.
    """

    cell: str
    against: str
    stratum: str
    n: int
    difference: float | None = None
    standard_error: float | None = None
    df: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_better: float | None = None
    margin: float | None = None
    verdict: Verdict = Verdict.UNDECIDED
    detectable: float | None = None
    more_replicates: int | None = None
    replicates: tuple[int, ...] = ()
    note: str = ""

    @property
    def mean(self) -> float | None:
        """The difference, under the name that an estimate has."""
        return self.difference

    @property
    def is_clear(self) -> bool:
        """Whether the interval excludes 0, whatever the margin."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None where there is none."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2


@dataclass(frozen=True)
class _Fitted:
    """A contrast's estimate, before it is compared with the family's critical value."""

    cell: str
    against: str
    replicates: tuple[int, ...]
    difference: float | None
    standard_error: float | None
    df: float
    note: str


@dataclass(frozen=True, eq=False)
class _Model:
    """The fitted contrasts of one stratum, and the distribution of the largest statistic."""

    title: str
    contrasts: tuple[_Fitted, ...]
    family: Family | None
    two_way: TwoWay | None
    overlap: float = 0.0

    def df_with(self, n: int) -> float:
        """Return the degrees of freedom that n replicates would have."""
        if self.two_way is None:
            return n - 1
        cells = len(self.two_way.counts)
        return min(float((n - 1) * (cells - 1)), n - 1 + self.two_way.prior_df)


def many_to_one(cells: Sequence[str], against: str) -> list[tuple[str, str]]:
    """Pair every other cell with one.

    Examples:
        >>> many_to_one(["none", "mixup", "cutmix"], "none")
        [('mixup', 'none'), ('cutmix', 'none')]
    """
    return [(cell, against) for cell in cells if cell != against]


def all_pairs(cells: Sequence[str]) -> list[tuple[str, str]]:
    """Pair every cell with every earlier one.

    Examples:
        >>> all_pairs(["a", "b", "c"])
        [('b', 'a'), ('c', 'a'), ('c', 'b')]
    """
    pairs = [(later, earlier) for earlier, later in combinations(cells, 2)]
    return sorted(pairs, key=lambda pair: cells.index(pair[0]))


def compare(
    strata: Sequence[Stratum],
    *,
    better: int = 1,
    margin: float | None = None,
    level: float = LEVEL,
    unit: str = "replicate",
    planned: int | None = None,
) -> list[Contrast]:
    """Compare cells within each replicate, and judge all contrasts of a metric as one family.

    In each stratum a two-way model (cell and replicate) is fitted, with variances that are drawn
    together (`two_way.fit`). Where a cell lacks replicates, its differences are those of the
    replicates that both sides have. Strata count as independent of each other. Above 10 strata the
    intervals are those of Šidák ("Rectangular confidence regions for the means of multivariate
    normal distributions", JASA 62, 1967), which don't use the correlations: a few percent wider.

    Args:
        strata: The cells and contrasts; see `many_to_one` and `all_pairs`.
        better: 1 where higher is better, -1 where lower is, 0 where neither is.
        margin: The smallest difference that matters, above 0, in the metric's unit.
        level: The familywise error.
        unit: What a replicate is called in notes; that of `units.unit_of` knows of folds.
        planned: Give what could be detected with so many replicates, instead of those there are.

    Returns:
        The contrasts in the order given.

    Examples:
        >>> runs = {
        ...     "none": {0: 0.80, 1: 0.81, 2: 0.83},
        ...     "mixup": {0: 0.81, 1: 0.81, 2: 0.82},
        ...     "cutmix": {0: 0.84, 1: 0.85, 2: 0.86},
        ... }
        >>> stratum = Stratum("all", runs, many_to_one(list(runs), "none"))
        >>> for contrast in compare([stratum], margin=0.005):
        ...     print(contrast.cell, f"{contrast.difference:+.3f}", contrast.verdict)
        mixup +0.000 undecided
        cutmix +0.037 better
    """
    is_large = len(strata) > MOST_STRATA
    models = [_fit(stratum, unit, with_family=not is_large) for stratum in strata]
    reference = _OfMany(models, level) if is_large else _Reference(models, level)
    return [
        _judge(model, fitted, reference, better, margin, planned)
        for model in models
        for fitted in model.contrasts
    ]


class _Reference:
    """Critical values and p values of the family that all strata make up."""

    def __init__(self, models: Sequence[_Model], level: float) -> None:
        self.level = level
        self._families = {id(model): model.family for model in models if model.family}
        self.critical = cache(self._critical)

    def _with(self, model: _Model, df: float) -> list[Family]:
        return [
            family.with_df(df) if key == id(model) else family
            for key, family in self._families.items()
        ]

    def p(self, model: _Model, df: float, t: float) -> float:
        return max_t.adjusted_p(self._with(model, df), t)

    def _critical(self, model: _Model, df: float, level: float) -> float:
        return max_t.critical_value(self._with(model, df), level)


class _OfMany:
    """The same where there are very many contrasts, by Šidák's inequality."""

    def __init__(self, models: Sequence[_Model], level: float) -> None:
        self.level = level
        self._count = sum(bool(one.standard_error) for model in models for one in model.contrasts)

    def p(self, _: _Model, df: float, t: float) -> float:
        return float(-np.expm1(self._count * np.log1p(-2 * special.stdtr(df, -t))))

    def critical(self, _: _Model, df: float, level: float) -> float:
        alone = -np.expm1(np.log1p(-level) / self._count)
        return float(-special.stdtrit(df, alone / 2))


def _fit(stratum: Stratum, unit: str, with_family: bool) -> _Model:
    used = dict.fromkeys(cell for pair in stratum.pairs for cell in reversed(pair))
    known = {cell: _numbers(stratum.values.get(cell, {})) for cell in used}
    cells = [cell for cell in used if known[cell]]
    replicates = sorted({replicate for cell in cells for replicate in known[cell]})
    values = np.array(
        [[known[cell].get(replicate, math.nan) for cell in cells] for replicate in replicates]
    )
    place = {cell: index for index, cell in enumerate(cells)}
    pairs = [pair for pair in stratum.pairs if pair[0] in place and pair[1] in place]
    if not pairs:
        nothing = tuple(_estimate(pair, known, None, 0.0, unit) for pair in stratum.pairs)
        return _Model(stratum.title, nothing, None, None)
    model, overlap = two_way.fit(values), overlap_of(unit)
    variances = model.variances.copy()
    for cell, index in place.items():
        # An error in the variance of such a cell is in every contrast.
        if len(pairs) > 1 and all(cell in pair for pair in pairs):
            variances[index] = model.guarded[index]
    deviations = np.sqrt(variances)
    loads = np.zeros((len(pairs), len(cells)))
    fitted = {}
    for row, pair in enumerate(pairs):
        here, there = place[pair[0]], place[pair[1]]
        loads[row, here], loads[row, there] = deviations[here], -deviations[there]
        shared = len(known[pair[0]].keys() & known[pair[1]].keys())
        both = variances[here] + variances[there]
        error = math.sqrt(both * variance_of_mean(shared, overlap)) if shared else None
        fitted[pair] = _estimate(pair, known, error, model.df(shared), unit)
    contrasts = tuple(
        fitted.get(pair) or _estimate(pair, known, None, 0.0, unit) for pair in stratum.pairs
    )
    usable = [row for row, pair in enumerate(pairs) if fitted[pair].standard_error]
    if not usable or not with_family:
        return _Model(stratum.title, contrasts, None, model, overlap)
    typical = float(np.median([fitted[pairs[row]].df for row in usable]))
    family = max_t.family(loads[usable], typical)
    return _Model(stratum.title, contrasts, family, model, overlap)


def _numbers(values: Values) -> dict[int, float]:
    return {replicate: float(value) for replicate, value in values.items() if is_number(value)}


def _estimate(
    pair: tuple[str, str],
    known: Mapping[str, Mapping[int, float]],
    error: float | None,
    df: float,
    unit: str,
) -> _Fitted:
    here, there = known[pair[0]], known[pair[1]]
    shared = tuple(sorted(here.keys() & there.keys()))
    notes = []
    if only := sorted(there.keys() - here.keys()):
        notes.append(f"no value for {_listed(only, unit)}")
    if only := sorted(here.keys() - there.keys()):
        notes.append(f"the baseline has no value for {_listed(only, unit)}")
    if not shared:
        note = f"no {unit} in common" if here and there else "no value"
        return _Fitted(*pair, shared, None, None, df, note)
    differences = [here[replicate] - there[replicate] for replicate in shared]
    difference = math.fsum(differences) / len(shared)
    largest = max(abs(values[replicate]) for values in (here, there) for replicate in shared)
    if len(shared) == 1:
        notes.append(f"one pair ({_listed(shared, unit)}): no interval")
        error = None
    elif max(abs(value - difference) for value in differences) <= 1e-12 * max(largest, 1e-300):
        notes.append(f"all {len(shared)} pairs differ by the same amount: no interval")
        error = None
    return _Fitted(*pair, shared, difference, error, df, "; ".join(notes))


def _judge(
    model: _Model,
    fitted: _Fitted,
    reference: _Reference | _OfMany,
    better: int,
    margin: float | None,
    planned: int | None,
) -> Contrast:
    n = len(fitted.replicates)
    plain = {
        "cell": fitted.cell,
        "against": fitted.against,
        "stratum": model.title,
        "n": n,
        "difference": fitted.difference,
        "margin": margin,
        "replicates": fitted.replicates,
        "note": fitted.note,
    }
    difference, error, df = fitted.difference, fitted.standard_error, fitted.df
    if difference is None or not error:
        return Contrast(**plain)  # type: ignore[arg-type]
    critical = reference.critical(model, df, reference.level)
    low, high = difference - critical * error, difference + critical * error
    verdict = Verdict.UNDECIDED
    if low > 0 or high < 0:
        verdict = Verdict.BETTER if difference * (better or 1) > 0 else Verdict.WORSE

    def with_replicates(n: int) -> tuple[float, float]:
        degrees = model.df_with(n)
        return degrees, reference.critical(model, degrees, reference.level)

    deviation = error / math.sqrt(variance_of_mean(n, model.overlap))
    p_better = more = None
    if margin is not None:
        narrow = reference.critical(model, df, 2 * reference.level) * error
        if -margin < difference - narrow and difference + narrow < margin:
            verdict = Verdict.EQUIVALENT
        if better:
            p_better = float(special.stdtr(df, (difference * better - margin) / error))
        needed = power.replicates_needed(margin, deviation, with_replicates, overlap=model.overlap)
        more = None if needed is None else max(0, needed - n)
        if verdict != Verdict.UNDECIDED:
            more = 0
    seen = power.detectable(error, df, critical)
    if planned is not None:
        then = deviation * math.sqrt(variance_of_mean(planned, model.overlap))
        seen = power.detectable(then, *with_replicates(planned))
    return Contrast(
        **plain,  # type: ignore[arg-type]
        standard_error=error,
        df=df,
        low=low,
        high=high,
        p=reference.p(model, df, abs(difference) / error),
        p_better=p_better,
        verdict=verdict,
        detectable=seen,
        more_replicates=more,
    )


def _listed(replicates: Sequence[int], unit: str) -> str:
    return f"{unit}{'' if len(replicates) == 1 else 's'} {', '.join(map(str, replicates))}"
