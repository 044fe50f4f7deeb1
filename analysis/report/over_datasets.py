"""Several data sets on one page: ranks of the methods, and differences with random data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mixbench.analysis.report.observed import Values
from mixbench.analysis.report.parts import TONES, Cell, Row, Table
from mixbench.analysis.statistics.contrasts import Contrast, Verdict
from mixbench.analysis.statistics.datasets import Pooled, Ranks, pool, rank
from mixbench.analysis.statistics.estimates import estimate
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.text import formatting
from mixbench.analysis.text.names import method_name
from mixbench.experiments.text import plural


@dataclass(frozen=True)
class OverDatasets:
    """One metric over several data sets.

    Attributes:
        datasets: Those that are ranked: all methods have a score there.
        scores: method -> its mean on each of them, over the settings that all methods have there.
        ranks: Of the methods.
        pooled: method -> its difference to the baseline over all data sets; where data sets are
            random, with its interval.
        by_dataset: method -> data set -> (difference, standard error) that it was made of.
    """

    metric: Metric
    datasets: tuple[str, ...]
    scores: Mapping[str, Sequence[float]]
    ranks: Ranks
    pooled: Mapping[str, Pooled]
    by_dataset: Mapping[str, Mapping[str, tuple[float, float]]]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "metric": self.metric.key,
            "datasets": list(self.datasets),
            "scores": {method: list(scores) for method, scores in self.scores.items()},
            "average_rank": dict(self.ranks.average),
            "friedman_p": self.ranks.friedman,
            "p": [[*pair, p] for pair, p in self.ranks.p.items()],
            "cliques": [list(clique) for clique in self.ranks.cliques],
            "pooled": {method: asdict(pooled) for method, pooled in self.pooled.items()},
        }


def over_datasets(
    metric: Metric,
    values: Mapping[str, Values],
    contrasts: Sequence[Contrast],
    datasets: Mapping[str, str],
) -> OverDatasets | None:
    """Rank the methods over data sets; None below two that all methods have a score on.

    Args:
        metric: What is ranked by.
        values: stratum -> method -> replicate -> value.
        contrasts: Of the methods with the baseline, by stratum.
        datasets: stratum -> data set. Strata of one data set are averaged.
    """
    if not metric.better:
        return None
    methods = list(dict.fromkeys(name for of_one in values.values() for name in of_one))
    by_dataset: dict[str, list[dict[str, float]]] = {}
    for stratum, of_stratum in values.items():
        means = {
            method: mean
            for method in methods
            if (mean := estimate(list(of_stratum.get(method, {}).values())).mean) is not None
        }
        if len(means) == len(methods):
            by_dataset.setdefault(datasets[stratum], []).append(means)
    if len(by_dataset) < 2 or len(methods) < 2:
        return None
    scores = {
        method: [
            math.fsum(means[method] for means in several) / len(several)
            for several in by_dataset.values()
        ]
        for method in methods
    }
    differences = _differences(contrasts, datasets)
    pooled = {
        method: pool(*zip(*of_method.values(), strict=True))
        for method, of_method in differences.items()
        if len(of_method) > 1
    }
    return OverDatasets(
        metric, tuple(by_dataset), scores, rank(scores, metric.better), pooled, differences
    )


def parts_of(found: OverDatasets) -> list[dict[str, Any]]:
    """Return the parts of the page: ranks, and differences with random data sets."""
    metric, ranks = found.metric, found.ranks
    decimals = 1 if metric.percent else 3
    ordered = sorted(ranks.average, key=lambda method: ranks.average[method])
    rows = [
        Row(
            method,
            (
                Cell(f"{ranks.average[method]:.2f}"),
                *(
                    Cell(formatting.number(s, metric.percent, decimals))
                    for s in found.scores[method]
                ),
            ),
        )
        for method in ordered
    ]
    unit = ", %" if metric.percent else ""
    heads = ["Average rank", *(f"{name}{unit}" for name in found.datasets)]
    title = f"Ranks over {plural(len(found.datasets), 'data set')}: {metric.title}"
    parts = [{"title": title, "tables": [(title, Table(heads, rows))], "note": _rank_note(found)}]
    if found.pooled:
        parts.append(_pooled_part(found, [name for name in ordered if name in found.pooled]))
    return parts


def _rank_note(found: OverDatasets) -> str:
    ranks, count = found.ranks, len(found.datasets)
    note = "1 is the best. "
    if ranks.friedman is not None:
        note += f"Friedman's test that all are alike: p = {formatting.p_value(ranks.friedman)}. "
    floor = 2.0 ** (1 - count)
    smallest = min(1.0, floor * len(ranks.p))
    if smallest >= 0.05:
        note += (
            f"With {plural(count, 'data set')} Wilcoxon's test with Holm's correction can't tell "
            f"two methods apart (p can't go below {formatting.p_value(smallest)})."
        )
    elif ranks.cliques:
        groups = "; ".join(formatting.joined(clique) for clique in ranks.cliques)
        note += f"Not told apart by Wilcoxon's test with Holm's correction: {groups}."
    else:
        note += "Wilcoxon's test with Holm's correction tells all methods apart."
    return note


def _pooled_part(found: OverDatasets, methods: Sequence[str]) -> dict[str, Any]:
    metric = found.metric
    decimals = 2 if metric.percent else 3

    def shown(value: float | None) -> str:
        return formatting.number(value, metric.percent, decimals, sign=True)

    rows = []
    for method in methods:
        pooled = found.pooled[method]
        reach = formatting.MISSING
        if pooled.prediction_low is not None:
            reach = f"[{shown(pooled.prediction_low)}, {shown(pooled.prediction_high)}]"
        good = pooled.difference * metric.better > 0
        verdict = Verdict.BETTER if good else Verdict.WORSE
        tone = TONES[verdict] if pooled.low > 0 or pooled.high < 0 else ""
        cells = (
            Cell(shown(pooled.difference), tone=tone),
            Cell(f"[{shown(pooled.low)}, {shown(pooled.high)}]"),
            Cell(formatting.number(pooled.between, metric.percent, decimals)),
            Cell(reach),
            Cell(str(len(found.by_dataset[method]))),
        )
        rows.append(Row(method_name(method), cells))
    points = ", points" if metric.percent else ""
    heads = [
        f"Difference{points}",
        "95%",
        "Between data sets (sd)",
        "On another data set",
        "Data sets",
    ]
    title = f"Differences over data sets: {metric.title}"
    note = (
        "Data sets are a sample of all data sets (random effects, Paule and Mandel's estimate, "
        "the interval of Hartung and Knapp). On another data set: where the true difference on one "
        "more lies, with a probability of 95%. Intervals are for one method each."
    )
    return {"title": title, "tables": [(title, Table(heads, rows))], "note": note}


def _differences(
    contrasts: Sequence[Contrast], datasets: Mapping[str, str]
) -> dict[str, dict[str, tuple[float, float]]]:
    """Average the contrasts of a method with the baseline over the settings of a data set."""
    against = {contrast.against for contrast in contrasts}
    if len(against) != 1:
        return {}
    by_method: dict[str, dict[str, list[Contrast]]] = {}
    for one in contrasts:
        if one.difference is not None and one.standard_error:
            of_method = by_method.setdefault(one.cell, {})
            of_method.setdefault(datasets[one.stratum], []).append(one)
    return {
        method: {dataset: _mean(several) for dataset, several in of_method.items()}
        for method, of_method in by_method.items()
    }


def _mean(several: Sequence[Contrast]) -> tuple[float, float]:
    n = len(several)
    difference = math.fsum(one.difference or 0.0 for one in several) / n
    return difference, math.sqrt(math.fsum((one.standard_error or 0.0) ** 2 for one in several)) / n
