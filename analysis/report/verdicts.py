"""`verdicts.json`: the contrasts of a report and its best sets, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.statistics.comparison import Comparison, blocks
from mixbench.analysis.statistics.contrasts import Contrast
from mixbench.analysis.statistics.metrics import ACCURACY

VERDICTS = "verdicts.json"


@dataclass(frozen=True)
class Judged:
    """A contrast with the names that a reader knows its sides by."""

    contrast: Contrast
    metric: str
    label: str
    against: str
    stratum: str
    is_primary: bool


def of_comparison(comparison: Comparison) -> str:
    """Return the file for a sweep: test accuracy is what it was made to compare."""
    names = dict(zip(comparison.cells["cell_key"], comparison.cells["series"], strict=True))
    titles = stratum_titles([title for title, _ in blocks(comparison.cells)])
    stratum_of: dict[str, str] = {}
    best: dict[str, list[str]] = {}
    for title, (_, members) in zip(titles, blocks(comparison.cells), strict=True):
        stratum_of |= dict.fromkeys(map(str, members["cell_key"]), title)
        keys = comparison.best.get(int(members["block"].iloc[0]), ())
        best[title] = [str(names[key]) for key in keys]
    directed = {metric.key for metric in comparison.metrics if metric.better}
    judged = [
        Judged(
            contrast,
            metric,
            str(names[cell]),
            str(names[contrast.against]),
            stratum_of[cell],
            metric == ACCURACY.key,
        )
        for (cell, metric), contrast in comparison.differences.items()
        if metric in directed
    ]
    return dump(judged, best)


def stratum_titles(titles: Iterable[str]) -> list[str]:
    """Return a name for each stratum, "all" for the only one, no name twice.

    Examples:
        >>> stratum_titles([""]), stratum_titles(["small", "others", "others"])
        (['all'], ['small', 'others', 'others (2)'])
    """
    names: list[str] = []
    for title in titles:
        name, number = title or "all", 2
        while name in names:
            name, number = f"{title or 'all'} ({number})", number + 1
        names.append(name)
    return names


def dump(judged: Iterable[Judged], best: Mapping[str, list[str]]) -> str:
    """Return the text of the file."""
    content = {"contrasts": [_record(one) for one in judged], "best_set": dict(best)}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _record(judged: Judged) -> dict[str, Any]:
    contrast = judged.contrast
    return {
        "cell": contrast.cell,
        "label": judged.label,
        "against": judged.against,
        "metric": judged.metric,
        "stratum": judged.stratum,
        "primary": judged.is_primary,
        "n": contrast.n,
        "difference": contrast.difference,
        "low": contrast.low,
        "high": contrast.high,
        "p": contrast.p,
        "p_better_than_margin": contrast.p_better,
        "margin": contrast.margin,
        "verdict": str(contrast.verdict),
        "detectable": contrast.detectable,
        "more_replicates": contrast.more_replicates,
        "note": contrast.note,
    }
