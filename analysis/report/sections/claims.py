"""What the sweep says of published claims."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from mixbench.analysis.claims.claim import shipped
from mixbench.analysis.claims.judge import ClaimVerdict, Judgement, judge
from mixbench.analysis.claims.study import Study
from mixbench.analysis.claims.words import by_claim, named_difference, overall, verdict_text
from mixbench.analysis.report.data import ReportData
from mixbench.analysis.report.parts import Cell, Row, Table
from mixbench.experiments.text import plural

MOST_CELLS = 300
"""With more cells the claims are left to `mixbench claims`."""
_TONES = {ClaimVerdict.SUPPORTED: "good", ClaimVerdict.CONTRADICTED: "bad"}


def section(data: ReportData) -> dict[str, Any]:
    """Return a row per claim, and all regimes of those that were judged in several.

    left_out: what is said in their place of a sweep with too many cells, before `command`.
    """
    empty = {"table": None, "regimes": None, "left_out": "", "command": ""}
    cells = len(data.tables.cells)
    if cells > MOST_CELLS:
        return {
            **empty,
            "left_out": f"Claims are not judged on this page: the sweep has {cells:,} "
            f"configurations, of which each pair would count ({MOST_CELLS} at most). "
            f"{len(shipped())} claims are judged by",
            "command": f"mixbench claims {shlex.quote(data.folder.name)}",
        }
    judged = judge(study_of(data))
    if not judged:
        return empty
    groups = by_claim(judged)
    rows = [_row(members) for members in groups.values()]
    several = any(len(members) > 1 for members in groups.values())
    return {
        **empty,
        "table": Table(["Verdict", "Difference"], rows, first="Claim"),
        "regimes": _regimes(groups.values()) if several else None,
    }


def study_of(data: ReportData) -> Study:
    """Return what claims are judged by: the tests of the report itself."""
    return Study(data.folder.name, data.judged or data.comparison, data.tables.runs)


def _row(members: Sequence[Judgement]) -> Row:
    claim = members[0].claim
    if len(members) == 1:
        one = members[0]
        hint = f"n = {one.n}; {one.regime}"
        verdict = Cell(verdict_text(one), tone=_TONES.get(one.verdict, ""), tip=hint)
        return Row(claim.sentence, (verdict, Cell("; ".join(map(named_difference, one.findings)))))
    verdicts = {one.verdict for one in members}
    tone = _TONES.get(members[0].verdict, "") if len(verdicts) == 1 else ""
    where = f"in {plural(len(members), 'regime')}, see below"
    return Row(claim.sentence, (Cell(overall(members), tone=tone), Cell(where)))


def _regimes(groups: Any) -> Table:
    rows = []
    for members in groups:
        rows.append(Row(members[0].claim.sentence, heading=True))
        for one in members:
            verdict = Cell(verdict_text(one), tone=_TONES.get(one.verdict, ""))
            numbers = Cell("; ".join(map(named_difference, one.findings)))
            rows.append(Row(one.regime, (verdict, numbers, Cell(str(one.n)))))
    return Table(["Verdict", "Difference", "n"], rows, first="Regime")
