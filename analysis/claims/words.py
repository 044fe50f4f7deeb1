"""Judgements in words: numbers with their unit, verdicts, what would test a claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from mixbench.analysis.claims.claim import (
    EQUAL,
    HIGHER,
    LOWER,
    NOT_HIGHER,
    NOT_LOWER,
    Claim,
    ClaimContrast,
)
from mixbench.analysis.claims.judge import ClaimVerdict, Finding, Judgement
from mixbench.analysis.text import formatting
from mixbench.experiments.text import plural

_NO_FRACTIONS = ("nll", "auroc", "loss_gradient", "distance", "entropy", "temperature")
"""Ends of metrics that are not shown in percent."""
_SIGNS = {
    HIGHER: "above 0",
    LOWER: "below 0",
    EQUAL: "within the margin of 0",
    NOT_LOWER: "not below 0 by the margin",
    NOT_HIGHER: "not above 0 by the margin",
}


def is_percent(metric: str) -> bool:
    """Tell whether a metric, or sum or mean of some, is a fraction that is shown in points."""
    return not metric.rpartition("/")[2].startswith(_NO_FRACTIONS)


def difference_text(finding: Finding) -> str:
    """Return a contrast's difference and interval, such as "+1.2 [+0.8, +1.6] points"."""
    found, metric = finding.estimated, finding.contrast.metric
    percent = is_percent(metric)
    if found.difference is None:
        return found.note or formatting.MISSING
    decimals = _decimals(found.low, found.high, percent)
    text = formatting.number(found.difference, percent, decimals, sign=True)
    if found.low is not None and found.high is not None:
        ends = [formatting.number(x, percent, decimals, sign=True) for x in (found.low, found.high)]
        text += f" [{ends[0]}, {ends[1]}]"
    return f"{text} points" if percent else text


def _decimals(low: float | None, high: float | None, percent: bool) -> int:
    """Return one more decimal where an interval that excludes 0 would seem to touch it."""
    if low is None or high is None:
        return formatting.digits([], percent)
    decimals = formatting.digits([(high - low) / 2], percent)
    nearest = min(abs(low), abs(high)) * (100 if percent else 1)
    return decimals + (low * high > 0 and round(nearest, decimals) == 0)


def named_difference(finding: Finding) -> str:
    """Return the difference after the contrast's name, where the claim has several."""
    name = finding.contrast.name
    return f"{name}: {difference_text(finding)}" if name else difference_text(finding)


def verdict_text(judgement: Judgement) -> str:
    """Return the verdict, with how many more replicates an undecided one needs."""
    if judgement.verdict != ClaimVerdict.UNDECIDED:
        return str(judgement.verdict)
    more = judgement.more
    needed = "more needed" if more is None else plural(more, f"more {judgement.unit}")
    return f"undecided ({needed})"


def claimed(contrast: ClaimContrast) -> str:
    """Return what is claimed, such as "cutmix − none in test/accuracy is above 0"."""
    formula = contrast.formula.text.replace(" - ", " − ")
    percent = is_percent(contrast.metric)
    margin = f"{contrast.margin * 100 if percent else contrast.margin:g}"
    unit = (" point" if margin == "1" else " points") if percent else ""
    return f"{formula} in {contrast.metric} is {_SIGNS[contrast.direction]} (margin {margin}{unit})"


def how_to_test(claim: Claim) -> str:
    """Return the command that tests a claim, or what mixbench lacks to test it."""
    return f"mixbench lacks {claim.missing}" if claim.missing else claim.command


def overall(judgements: Iterable[Judgement]) -> str:
    """Return the verdict of all regimes of a claim: one word, or a count of each; no average."""
    counts = Counter(one.verdict for one in judgements)
    if len(counts) == 1:
        return str(next(iter(counts)))
    return ", ".join(f"{number} {verdict}" for verdict, number in _in_order(counts))


def by_claim(judgements: Sequence[Judgement]) -> dict[str, list[Judgement]]:
    """Group judgements by the name of their claim, in order."""
    groups: dict[str, list[Judgement]] = {}
    for one in judgements:
        groups.setdefault(one.claim.name, []).append(one)
    return groups


def tally(judgements: Sequence[Judgement]) -> str:
    """Return how many claims came out how, such as "Of 42 claims, 9 are supported ..."."""
    groups = by_claim(judgements)
    counts = Counter(_kind(members) for members in groups.values())
    words = {
        "supported": "supported wherever they were judged",
        "contradicted": "contradicted",
        "equivalent": "equivalent to no difference that matters",
        "undecided": "undecided",
        "mixed": "different in different regimes",
        "not tested": "not tested",
    }
    parts = [f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind]]
    return f"Of {plural(len(groups), 'claim')}: {', '.join(parts)}."


def _kind(members: Sequence[Judgement]) -> str:
    verdicts = {str(one.verdict) for one in members}
    return verdicts.pop() if len(verdicts) == 1 else "mixed"


def _in_order(counts: Counter[ClaimVerdict]) -> list[tuple[ClaimVerdict, int]]:
    return [(verdict, counts[verdict]) for verdict in ClaimVerdict if counts[verdict]]
