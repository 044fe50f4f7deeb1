"""Judge claims by the runs of a study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from mixbench.analysis.claims.claim import (
    EQUAL,
    HIGHER,
    LOWER,
    NOT_HIGHER,
    NOT_LOWER,
    Claim,
    ClaimContrast,
    shipped,
)
from mixbench.analysis.claims.estimate import Estimated, estimate
from mixbench.analysis.claims.regimes import Regime, regimes
from mixbench.analysis.claims.study import Study
from mixbench.analysis.claims.titles import regime_title

_MOST = 10_000


class ClaimVerdict(StrEnum):
    """What a study says of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    EQUIVALENT = "equivalent"
    UNDECIDED = "undecided"
    NOT_TESTED = "not tested"


@dataclass(frozen=True)
class Finding:
    """One contrast of a claim in one regime, with its verdict."""

    contrast: ClaimContrast
    estimated: Estimated
    verdict: ClaimVerdict


@dataclass(frozen=True)
class Judgement:
    """A claim in one regime of one study, or one that nothing tests.

    Attributes:
        claim: The claim.
        verdict: SUPPORTED where all its contrasts are.
        study: The name of the sweep; empty where nothing tests it.
        regime: The setting in which it was judged.
        findings: Its contrasts.
        unit: What is paired: "seed" or "replicate".
        run_keys: The runs that count.
        also_in: Other sweeps that have the same runs.
    """

    claim: Claim
    verdict: ClaimVerdict
    study: str = ""
    regime: str = ""
    findings: tuple[Finding, ...] = ()
    unit: str = "seed"
    run_keys: tuple[str, ...] = ()
    also_in: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """The replicates of the contrast that has the fewest."""
        return min((one.estimated.n for one in self.findings), default=0)

    @property
    def more(self) -> int | None:
        """How many more replicates an undecided claim needs; None if unknown."""
        if self.verdict != ClaimVerdict.UNDECIDED:
            return 0
        undecided = [one for one in self.findings if one.verdict == ClaimVerdict.UNDECIDED]
        numbers = [_more(one) for one in undecided]
        known = [number for number in numbers if number is not None]
        return max(known) if known and len(known) == len(numbers) else None


def judge(study: Study, claims: Iterable[Claim] | None = None) -> list[Judgement]:
    """Judge the claims that a study can judge, each in every regime that it has.

    Args:
        study: The runs.
        claims: Those that ship by default.
    """
    return [
        judgement
        for claim in (shipped() if claims is None else claims)
        for judgement in _judge_one(study, claim)
    ]


def judge_all(studies: Sequence[Study], claims: Sequence[Claim]) -> list[Judgement]:
    """Judge claims by several studies, one after another; those that none judges are not tested.

    Runs that several studies have count once, for the first of them.
    """
    found: list[Judgement] = []
    for claim in claims:
        of_claim: dict[frozenset[str], Judgement] = {}
        for study in studies:
            for one in judge(study, [claim]):
                runs = frozenset(one.run_keys)
                if (first := of_claim.get(runs)) is None:
                    of_claim[runs] = one
                elif first.study != one.study:
                    of_claim[runs] = replace(first, also_in=(*first.also_in, one.study))
        found += of_claim.values() or [Judgement(claim, ClaimVerdict.NOT_TESTED)]
    return found


def _judge_one(study: Study, claim: Claim) -> list[Judgement]:
    contrasts = [one for one in claim.contrasts if not one.where_measured or study.has(one.metric)]
    if not claim.is_testable or not all(study.has(one.metric) for one in contrasts):
        return []
    found = regimes(claim, study.rows)
    estimates = estimate(study, found, contrasts) if found else {}
    judgements = []
    for number, regime in enumerate(found):
        findings = tuple(
            Finding(
                contrast, estimates[number, place], _verdict(contrast, estimates[number, place])
            )
            for place, contrast in enumerate(contrasts)
        )
        if any(one.estimated.n == 0 for one in findings):
            continue
        judgements.append(
            Judgement(
                claim,
                together([one.verdict for one in findings]),
                study.name,
                regime_title(study, regime),
                findings,
                study.unit,
                _run_keys(study, regime, findings),
            )
        )
    return judgements


def _verdict(contrast: ClaimContrast, found: Estimated) -> ClaimVerdict:
    """Return what an interval says of what is claimed.

    "higher": supported where the interval is above 0, contradicted where it is below, unless the
    difference is equivalent to 0 at the margin. "equal": supported where it is equivalent,
    contradicted where the interval is beyond the margin. "not lower": supported where the interval
    is above minus the margin, contradicted where it is below 0.
    """
    if found.low is None or found.high is None:
        return ClaimVerdict.UNDECIDED
    low, high, margin = found.low, found.high, contrast.margin
    if contrast.direction == EQUAL:
        if found.is_equivalent:
            return ClaimVerdict.SUPPORTED
        is_beyond = low > margin or high < -margin
        return ClaimVerdict.CONTRADICTED if is_beyond else ClaimVerdict.UNDECIDED
    if contrast.direction not in (HIGHER, NOT_LOWER):
        low, high = -high, -low
    if contrast.direction in (HIGHER, LOWER):
        if found.is_equivalent:
            return ClaimVerdict.EQUIVALENT
        if low > 0:
            return ClaimVerdict.SUPPORTED
    elif low > -margin or found.is_equivalent:
        return ClaimVerdict.SUPPORTED
    return ClaimVerdict.CONTRADICTED if high < 0 else ClaimVerdict.UNDECIDED


def _more(finding: Finding) -> int | None:
    """Return how many more replicates an undecided contrast needs.

    Those that would find a difference of the margin; where the difference was found and is not what
    the claim is about, those that would shrink the interval to one side of the margin.
    """
    found, margin = finding.estimated, finding.contrast.margin
    if found.more or found.difference is None or found.low is None or found.high is None:
        return found.more
    gap = min(abs(found.difference - edge) for edge in (-margin, 0.0, margin))
    if finding.contrast.direction in (EQUAL, NOT_LOWER, NOT_HIGHER):
        gap = min(abs(found.difference - edge) for edge in (-margin, margin))
    needed = found.n * ((found.high - found.low) / 2 / gap) ** 2 if gap else math.inf
    return max(1, math.ceil(needed) - found.n) if needed < _MOST else None


def together(verdicts: Sequence[ClaimVerdict]) -> ClaimVerdict:
    """Return the verdict on a claim of which every contrast must hold."""
    for verdict in (ClaimVerdict.CONTRADICTED, ClaimVerdict.UNDECIDED, ClaimVerdict.EQUIVALENT):
        if verdict in verdicts:
            return verdict
    return ClaimVerdict.SUPPORTED


def _run_keys(study: Study, regime: Regime, findings: Sequence[Finding]) -> tuple[str, ...]:
    cells = dict.fromkeys(cell for group in regime.cells.values() for cell in group)
    replicates = {r for one in findings for r in one.estimated.replicates}
    return tuple(
        run_key
        for cell in cells
        for replicate, run_key in study.run_keys.get(cell, ())
        if replicate in replicates
    )
