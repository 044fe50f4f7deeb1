"""What to use, what can't be told apart, what to avoid, and what is undecided: in each regime."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import pandas as pd
from scipy import stats

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.blocks import blocks
from mixbench.analysis.statistics.comparison import Comparison, compare_metric, seed_values
from mixbench.analysis.statistics.contrasts import Contrast, Stratum, Values, Verdict
from mixbench.analysis.statistics.metrics import Metric
from mixbench.experiments.design.question import BEST

MOST_PAIRED = 60
"""Without a baseline every cell is compared with the best of the others: up to so many cells."""
METHOD, PROB = "augmentation.name", "augmentation.prob"
USUAL_PROB = {
    "gridmask": 0.8,
    "mixstyle": 0.5,
    "moex": 0.5,
    "mosaic": 0.5,
    "patchup": 0.7,
    "random_erasing": 0.5,
}
"""How often these methods mix by default; all others always."""


class Word(StrEnum):
    """What the statistics advise about a cell.

    USE: better than the baseline and not shown to be worse than the best; without a baseline, one
        that can't be told apart from the best.
    NOT_BEST: better than the baseline, but another cell is better still.
    NO_WORSE: equivalent to the baseline within the margin.
    UNDECIDED: more replicates are needed.
    AVOID: worse than the baseline; without one, worse than the best.
    BASELINE: what the others are compared with.
    UNKNOWN: no difference could be judged.
    """

    USE = "use"
    NOT_BEST = "better, not best"
    NO_WORSE = "no worse"
    UNDECIDED = "undecided"
    AVOID = "avoid"
    BASELINE = "baseline"
    UNKNOWN = "not compared"


@dataclass(frozen=True)
class Option:
    """A cell that one could use.

    Attributes:
        cell: Its key.
        name: What a reader knows it by.
        word: The advice.
        contrast: With the baseline, or with the best of the others where there is none; None for
            the baseline itself, and where nothing could be compared.
        in_best_set: Whether it can't be told apart from the best of its regime.
        mean: Of the metric; None without a value.
    """

    cell: str
    name: str
    word: Word
    contrast: Contrast | None
    in_best_set: bool
    mean: float | None = None

    @property
    def more_replicates(self) -> int | None:
        """How many more an undecided option needs; None where that is unknown or not asked."""
        if self.word != Word.UNDECIDED or self.contrast is None:
            return None
        return self.contrast.more_replicates or None


@dataclass(frozen=True)
class Regime:
    """The advice for cells that are compared with each other.

    Attributes:
        title: What they have in common, such as "epochs 45"; empty where there is one regime.
        against: The name of the baseline; None where each is compared with the best of the others.
        options: All cells, the best first.
    """

    title: str
    against: str | None
    options: tuple[Option, ...]

    def named(self, *words: Word) -> list[str]:
        """Return the names with one of these words, the best first."""
        return [option.name for option in self.options if option.word in words]

    @property
    def best(self) -> list[str]:
        """The names that can't be told apart from the best, the best first."""
        return [option.name for option in self.options if option.in_best_set]


@dataclass(frozen=True)
class Advice:
    """What to use on one metric.

    Attributes:
        metric: The metric, with the margin that counts.
        unit: What is paired: "seed" or "replicate".
        regimes: In the order of the tables.
    """

    metric: Metric
    unit: str
    regimes: tuple[Regime, ...]


def recommend(comparison: Comparison, runs: pd.DataFrame, metric: Metric | None = None) -> Advice:
    """Return what to use in each regime of a sweep.

    Each contrast has the one test that it has everywhere: in the family of the declared ones, or
    in that of all differences to the baseline on this metric.

    Args:
        comparison: Of the sweep.
        runs: One row per run, as `mixbench.analysis.tables.load.load` makes them.
        metric: What to choose by; without one, the metric that the sweep was made for. Such as
            `mixbench.analysis.statistics.goals.goal_metric` finds.
    """
    metric = metric or comparison.primary
    values = seed_values(runs, [metric.key]) if metric.key in runs else {}
    declared = comparison.declared
    asks_for_best = (
        declared is not None
        and declared.question.contrasts == BEST
        and declared.metric.key == metric.key
    )
    found: dict[str, Contrast] = {}
    if comparison.has_baseline and not asks_for_best:
        found = comparison.of_metric(metric.key) or {
            contrast.cell: contrast
            for contrast in compare_metric(
                comparison.cells, values, metric, comparison.unit, declared
            )
        }
    pairs = declared.by_cells if declared is not None and asks_for_best else {}
    # The comparison has the best sets of its primary metric.
    known = comparison.best if metric.key == comparison.primary.key else {}
    regimes = []
    for title, members in blocks(comparison.cells):
        names = _names(members)
        of_block = {key: values.get((key, metric.key), {}) for key in names}
        bases = [base for base in members["baseline_key"] if isinstance(base, str)]
        of_cells = {key: found[key] for key in names if key in found}
        if not of_cells:
            of_cells, bases = with_the_best(of_block, metric, comparison.unit, pairs), []
        best = known.get(int(members["block"].iloc[0]))
        of_title = regime(title, names, of_block, of_cells, bases, metric, best, comparison.unit)
        regimes.append(of_title)
    return Advice(metric, comparison.unit, tuple(regimes))


def _names(members: pd.DataFrame) -> dict[str, str]:
    """Return cell -> name in its block, with a `prob` that is not the method's usual one.

    How often a method mixes decides how it fares, also where no cell has another.
    """
    names = {str(k): str(v) for k, v in zip(members["cell_key"], members["series"], strict=True)}
    if PROB not in members:
        return names
    for cell, method, prob in zip(names, members[METHOD], members[PROB], strict=True):
        names[cell] = with_prob(names[cell], method, prob)
    return names


def with_prob(name: str, method: object, prob: object) -> str:
    """Return the name of a cell, with its `prob` where it has the method's name alone.

    Examples:
        >>> with_prob("cutmix", "cutmix", 0.5), with_prob("cutmix", "cutmix", 1.0)
        ('cutmix prob=0.5', 'cutmix')
    """
    usual = USUAL_PROB.get(str(method), 1.0)
    if name == method != "none" and is_number(prob) and float(str(prob)) != usual:
        return f"{name} prob={float(str(prob)):g}"
    return name


def regime(
    title: str,
    names: Mapping[str, str],
    values: Mapping[str, Values],
    found: Mapping[str, Contrast],
    bases: Iterable[str],
    metric: Metric,
    best: Sequence[str] | None = None,
    unit: str = "",
) -> Regime:
    """Return the advice for cells that are compared with each other.

    Args:
        title: What they have in common.
        names: cell -> name, of all cells.
        values: cell -> replicate -> value of the metric.
        found: cell -> its contrast with the baseline.
        bases: The cells that others are compared with.
        metric: What to choose by.
        best: The cells that can't be told apart from the best, where they are known already.
        unit: What a replicate is; folds overlap (`units.unit_of`).
    """
    if best is None:
        best = best_set(values, metric.better or 1, unit=unit)
    base = next((one for one in bases if one in names), None)
    means = {cell: _mean(of_cell) for cell, of_cell in values.items()}
    options = [
        Option(
            cell,
            name,
            _word(cell, found.get(cell), base, best),
            found.get(cell),
            cell in best,
            means.get(cell),
        )
        for cell, name in names.items()
    ]

    def place(option: Option) -> float:
        contrast, mean = option.contrast, means.get(option.cell)
        if option.cell == base:
            return 0.0
        if base is not None and contrast is not None and contrast.difference is not None:
            return -contrast.difference * (metric.better or 1)
        return math.inf if mean is None or base is not None else -mean * (metric.better or 1)

    against = None if base is None else names[base]
    return Regime(title, against, tuple(sorted(options, key=place)))


def turned(contrast: Contrast, better: int) -> Contrast:
    """Return the same contrast seen from its other side.

    Args:
        contrast: cell minus against.
        better: 1 where higher is better, -1 where lower is.
    """
    difference, error, margin = contrast.difference, contrast.standard_error, contrast.margin
    p_better = None
    if contrast.p_better is not None and difference is not None and error and margin is not None:
        p_better = float(stats.t.cdf((-difference * better - margin) / error, contrast.df))
    swapped = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    return replace(
        contrast,
        cell=contrast.against,
        against=contrast.cell,
        difference=None if difference is None else -difference,
        low=None if contrast.high is None else -contrast.high,
        high=None if contrast.low is None else -contrast.low,
        p_better=p_better,
        verdict=swapped.get(contrast.verdict, contrast.verdict),
    )


def with_the_best(
    values: Mapping[str, Values],
    metric: Metric,
    unit: str,
    tested: Mapping[tuple[str, str], Contrast],
) -> dict[str, Contrast]:
    """Compare each cell with the best of the others, with the intervals of all pairs.

    Args:
        values: cell -> replicate -> value of the metric.
        metric: What to choose by.
        unit: What is paired, for notes.
        tested: (cell, against) -> contrast, where all pairs have been tested already.

    Returns:
        cell -> contrast; empty with fewer than two cells, or more than `MOST_PAIRED`.
    """
    better = metric.better
    means = {cell: mean for cell, of_cell in values.items() if (mean := _mean(of_cell)) is not None}
    ranked = sorted(means, key=lambda cell: -better * means[cell])
    if not better or not 2 <= len(ranked) <= MOST_PAIRED:
        return {}
    wanted = {cell: ranked[0] if cell != ranked[0] else ranked[1] for cell in ranked}
    known = {**tested}
    if not any(pair in known or pair[::-1] in known for pair in wanted.items()):
        pairs = contrasts.all_pairs(list(values))
        found = contrasts.compare(
            [Stratum("all", values, pairs)], better=better, margin=metric.margin, unit=unit
        )
        known = {(one.cell, one.against): one for one in found}
    return {
        cell: known.get((cell, other)) or turned(known[other, cell], better)
        for cell, other in wanted.items()
        if (cell, other) in known or (other, cell) in known
    }


def _word(cell: str, contrast: Contrast | None, base: str | None, best: Sequence[str]) -> Word:
    if cell == base:
        return Word.BASELINE
    if contrast is None or contrast.low is None:
        return Word.UNKNOWN
    if base is None and cell in best:
        return Word.USE
    if contrast.verdict == Verdict.BETTER:
        return Word.USE if cell in best else Word.NOT_BEST
    return {
        Verdict.WORSE: Word.AVOID,
        Verdict.EQUIVALENT: Word.NO_WORSE,
        Verdict.UNDECIDED: Word.UNDECIDED,
    }[contrast.verdict]


def _mean(values: Values) -> float | None:
    known = [float(value) for value in values.values() if is_number(value)]
    return math.fsum(known) / len(known) if known else None
