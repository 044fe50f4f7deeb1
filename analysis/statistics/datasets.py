"""Several data sets: ranks of the methods, and differences with random data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from mixbench.analysis.statistics.contrasts import LEVEL
from mixbench.analysis.statistics.max_t import Array


@dataclass(frozen=True)
class Ranks:
    """Methods ranked over data sets.

    Attributes:
        average: method -> its average rank, 1 for the best.
        friedman: p of Friedman's test that all methods are alike; None below three methods.
        p: (method, method) -> Wilcoxon's p after Holm's correction.
        cliques: Groups of methods, neighbours in rank, no two of which differ significantly.
    """

    average: Mapping[str, float]
    friedman: float | None
    p: Mapping[tuple[str, str], float]
    cliques: tuple[tuple[str, ...], ...]


def rank(scores: Mapping[str, Sequence[float]], better: int = 1, level: float = LEVEL) -> Ranks:
    """Rank methods over data sets, with Wilcoxon's signed-rank tests and Holm's correction.

    What a critical-difference diagram shows; Nemenyi's test is not used, because its verdict on
    two methods depends on the others (Benavoli, Corani and Mangili, "Should we really use
    post-hoc tests based on mean-ranks?", JMLR 17, 2016).

    Args:
        scores: method -> a score on each data set, in the same order.
        better: 1 where higher is better, -1 where lower is.
        level: The familywise error.

    Raises:
        ValueError: Methods with scores on different numbers of data sets, or on fewer than two.

    Examples:
        >>> ranks = rank({"none": [1, 2, 3, 4, 5, 6.0], "cutmix": [2, 3.1, 4.2, 5.3, 6.4, 7.5]})
        >>> ranks.average, round(ranks.p["cutmix", "none"], 3), ranks.cliques
        ({'none': 2.0, 'cutmix': 1.0}, 0.031, ())
    """
    from statsmodels.stats.multitest import multipletests

    methods = list(scores)
    table = np.array([list(map(float, scores[method])) for method in methods])
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError("every method needs a score on each of two data sets or more")
    average = stats.rankdata(-better * table, axis=0).mean(axis=1)
    order = sorted(range(len(methods)), key=lambda index: average[index])
    pairs = [(order[a], order[b]) for a, b in combinations(range(len(order)), 2)]
    raw = [_wilcoxon(table[a] - table[b]) for a, b in pairs]
    corrected = multipletests(raw, alpha=level, method="holm")[1] if raw else []
    p = {
        (methods[a], methods[b]): float(value)
        for (a, b), value in zip(pairs, corrected, strict=True)
    }
    friedman = float(stats.friedmanchisquare(*table).pvalue) if len(methods) > 2 else None
    ordered = [methods[index] for index in order]
    return Ranks(
        {method: float(value) for method, value in zip(methods, average, strict=True)},
        friedman,
        p,
        _cliques(ordered, p, level),
    )


@dataclass(frozen=True)
class Pooled:
    """A difference over data sets that are a sample of all data sets.

    Attributes:
        difference, low, high: The average and its 95 % interval, in the metric's unit.
        between: The standard deviation of the true difference between data sets.
        prediction_low, prediction_high: Where the true difference on one more data set lies, with
            a probability of 95 %; None below three data sets.
    """

    difference: float
    low: float
    high: float
    between: float
    prediction_low: float | None
    prediction_high: float | None


def pool(differences: Sequence[float], standard_errors: Sequence[float]) -> Pooled:
    """Put the differences on several data sets together, data sets being random.

    The random-effects model of statsmodels with Paule and Mandel's estimate and the interval of
    Hartung and Knapp, whose t quantile keeps its level with few data sets.

    Args:
        differences: One per data set, in the metric's unit.
        standard_errors: Of each, above 0.

    Raises:
        ValueError: Fewer than two data sets, or a standard error that is not above 0.

    Examples:
        >>> over_three = pool([0.8, 1.1, 0.2], [0.2, 0.2, 0.2])
        >>> round(over_three.difference, 2), round(over_three.between, 2)
        (0.7, 0.41)
    """
    from statsmodels.stats.meta_analysis import combine_effects

    if len(differences) < 2 or min(standard_errors) <= 0:
        raise ValueError("two data sets or more are needed, with standard errors above 0")
    result = combine_effects(
        np.asarray(differences, dtype=float),
        np.asarray(standard_errors, dtype=float) ** 2,
        method_re="iterated",
        use_t=True,
    )
    low, high = map(float, result.conf_int(alpha=LEVEL)[3])
    difference = float(result.mean_effect_re)
    between = float(np.sqrt(max(result.tau2, 0.0)))
    k = len(differences)
    reach = None
    if k > 2:
        # Higgins, Thompson and Spiegelhalter, JRSS A 172, 2009, equation 12.
        error = (high - low) / 2 / float(stats.t.ppf(1 - LEVEL / 2, k - 1))
        reach = float(stats.t.ppf(1 - LEVEL / 2, k - 2)) * float(np.hypot(between, error))
    return Pooled(
        difference,
        low,
        high,
        between,
        None if reach is None else difference - reach,
        None if reach is None else difference + reach,
    )


def _wilcoxon(differences: Array) -> float:
    return float(stats.wilcoxon(differences).pvalue) if np.any(differences != 0) else 1.0


def _cliques(
    ordered: Sequence[str], p: Mapping[tuple[str, str], float], level: float
) -> tuple[tuple[str, ...], ...]:
    """Return the longest runs of neighbours without a significant pair."""
    cliques: list[tuple[str, ...]] = []
    for start in range(len(ordered)):
        end = start + 1
        while end < len(ordered) and all(
            p[earlier, ordered[end]] >= level for earlier in ordered[start:end]
        ):
            end += 1
        members = tuple(ordered[start:end])
        if len(members) > 1 and not (cliques and set(members) <= set(cliques[-1])):
            cliques.append(members)
    return tuple(cliques)
