"""Judgements as text for a terminal, as Markdown, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mixbench.analysis.claims.judge import ClaimVerdict, Finding, Judgement
from mixbench.analysis.claims.words import (
    by_claim,
    claimed,
    how_to_test,
    named_difference,
    overall,
    tally,
    verdict_text,
)
from mixbench.experiments.text import plural

_KEY_DIGITS = 8


def as_text(judgements: Sequence[Judgement]) -> str:
    """Return a paragraph per claim, the judged ones first."""
    lines = []
    for members in _judged_first(judgements):
        claim = members[0].claim
        lines.append(f"{claim.name}: {claim.sentence}")
        if members[0].verdict == ClaimVerdict.NOT_TESTED:
            lines.append(f"  not tested: {how_to_test(claim)}")
            continue
        if len(members) > 1:
            lines.append(f"  {overall(members)}")
        for one in members:
            numbers = "; ".join(named_difference(finding) for finding in one.findings)
            lines.append(f"  {verdict_text(one)}: {numbers}, {plural(one.n, one.unit)}")
            lines.append(f"    {', '.join((one.study, *one.also_in))}: {one.regime}")
    return "\n".join([*lines, "", tally(judgements)])


def as_json(judgements: Sequence[Judgement]) -> str:
    """Return the judgements for programs, all numbers in the metric's own unit."""
    content = {"summary": tally(judgements), "judgements": [_record(one) for one in judgements]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)


def as_markdown(judgements: Sequence[Judgement], links: Mapping[str, str]) -> str:
    """Return tables of the judged claims and of the others, and the runs that count.

    links: the name of a study -> where it is.
    """
    judged: list[list[Judgement]] = []
    others: list[list[Judgement]] = []
    for members in _judged_first(judgements):
        is_judged = members[0].verdict != ClaimVerdict.NOT_TESTED
        (judged if is_judged else others).append(members)
    lines = [tally(judgements), ""]
    if judged:
        lines += [
            "## Judged",
            "",
            _ROW.format("claim", "verdict", "difference [95 %]", "n", "where"),
        ]
        lines.append("|---|---|---|---|---|")
    numbered: list[tuple[int, Judgement]] = []
    for members in judged:
        claim = members[0].claim
        counts = f" ({overall(members)})" if len(members) > 1 else ""
        first = f"**{claim.sentence}**{counts}"
        for one in members:
            numbered.append((len(numbered) + 1, one))
            studies = ", ".join(_linked(study, links) for study in (one.study, *one.also_in))
            where = f"{studies}: {one.regime} ({len(numbered)})"
            numbers = "<br>".join(named_difference(finding) for finding in one.findings)
            lines.append(_row(first, verdict_text(one), numbers, str(one.n), where))
            first = ""
    if others:
        lines += [
            "",
            "## Not tested",
            "",
            "| claim | source | what would test it |",
            "|---|---|---|",
        ]
    for members in others:
        claim = members[0].claim
        test = how_to_test(claim) if claim.missing else f"`{how_to_test(claim)}`"
        lines.append(f"| {_cell(claim.sentence)} | {_cell(claim.source)} | {_cell(test)} |")
    return "\n".join([*lines, *_meanings(judged), *_runs(numbered)]) + "\n"


_ROW = "| {} | {} | {} | {} | {} |"


def _row(*cells: str) -> str:
    return _ROW.format(*map(_cell, cells))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _linked(study: str, links: Mapping[str, str]) -> str:
    return f"[{study}]({links[study]})" if study in links else study


def _meanings(judged: Sequence[Sequence[Judgement]]) -> list[str]:
    if not judged:
        return []
    lines = ["", "## Sources, and what was tested", ""]
    for members in judged:
        claim = members[0].claim
        tested = "; ".join(claimed(contrast) for contrast in claim.contrasts)
        note = f" {claim.note}" if claim.note else ""
        lines.append(f"- **{claim.sentence}** {claim.source} Tested: {tested}.{note}")
    return lines


def _runs(numbered: Sequence[tuple[int, Judgement]]) -> list[str]:
    if not numbered:
        return []
    lines = ["", "## Runs", "", "The first digits of the keys of the runs behind each row.", ""]
    for number, one in numbered:
        keys = " ".join(key[:_KEY_DIGITS] for key in one.run_keys)
        lines.append(f"- ({number}) {one.study}, {one.claim.name}: {keys}")
    return lines


def _judged_first(judgements: Sequence[Judgement]) -> list[list[Judgement]]:
    groups = by_claim(judgements).values()
    return sorted(groups, key=lambda members: members[0].verdict == ClaimVerdict.NOT_TESTED)


def _record(one: Judgement) -> dict[str, Any]:
    claim = one.claim
    return {
        "claim": claim.name,
        "sentence": claim.sentence,
        "source": claim.source,
        "verdict": str(one.verdict),
        "sweep": one.study,
        "also_in": list(one.also_in),
        "regime": one.regime,
        "n": one.n,
        "unit": one.unit,
        "more_replicates": one.more,
        "contrasts": [_contrast_record(finding) for finding in one.findings],
        "run_keys": list(one.run_keys),
        "tested_by": claim.sweep,
        "command": claim.command,
        "missing": claim.missing,
        "note": claim.note,
    }


def _contrast_record(finding: Finding) -> dict[str, Any]:
    contrast, found = finding.contrast, finding.estimated
    return {
        "name": contrast.name,
        "difference_of": contrast.formula.text,
        "metric": contrast.metric,
        "direction": contrast.direction,
        "margin": contrast.margin,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "n": found.n,
        "verdict": str(finding.verdict),
        "note": found.note,
    }
