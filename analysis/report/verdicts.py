"""`verdicts.json`: the contrasts of a report and its best sets, for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mixbench.analysis.statistics.blocks import blocks, stratum_titles
from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.contrasts import Contrast

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


_ASKED = ("question", "baseline")
"""What a sweep says of its comparisons; kept beside them, so that a published report has it."""


def of_comparison(comparison: Comparison, spec: Mapping[str, Any] | None = None) -> str:
    """Return the file for a sweep. spec: the sweep as it was given.

    What its question declares is primary; without one, test accuracy against the baseline.
    """
    names = dict(zip(comparison.cells["cell_key"], comparison.cells["series"], strict=True))
    titles = stratum_titles([title for title, _ in blocks(comparison.cells)])
    stratum_of: dict[str, str] = {}
    best: dict[str, list[str]] = {}
    for title, (_, members) in zip(titles, blocks(comparison.cells), strict=True):
        stratum_of |= dict.fromkeys(map(str, members["cell_key"]), title)
        keys = comparison.best.get(int(members["block"].iloc[0]), ())
        best[title] = [str(names[key]) for key in keys]
    judged = _declared(comparison)
    known = {(one.contrast.cell, one.contrast.against, one.metric) for one in judged}
    directed = {metric.key for metric in comparison.metrics if metric.better}
    judged += [
        Judged(
            contrast,
            metric,
            str(names[cell]),
            str(names[contrast.against]),
            stratum_of[cell],
            comparison.is_declared(contrast, metric),
        )
        for (cell, metric), contrast in comparison.differences.items()
        if metric in directed and (cell, contrast.against, metric) not in known
    ]
    asked = {key: spec[key] for key in _ASKED if key in spec} if spec else {}
    return dump(judged, best, asked)


def _declared(comparison: Comparison) -> list[Judged]:
    declared = comparison.declared
    if declared is None:
        return []
    return [
        Judged(
            one.contrast,
            declared.metric.key,
            one.label,
            one.against,
            one.contrast.stratum,
            is_primary=True,
        )
        for one in declared.contrasts
    ]


def dump(
    judged: Iterable[Judged],
    best: Mapping[str, list[str]],
    asked: Mapping[str, Any] | None = None,
) -> str:
    """Return the text of the file. asked: the question and the baseline of a sweep."""
    contrasts = [_record(one) for one in judged]
    content = {**(asked or {}), "contrasts": contrasts, "best_set": dict(best)}
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
