"""What is decided at which look, and which cells need more replicates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from mixbench.analysis.statistics.comparison import Comparison
from mixbench.analysis.statistics.contrasts import Contrast, Verdict
from mixbench.analysis.statistics.declared import SEVERAL, ByMetric, DeclaredContrast, declare
from mixbench.analysis.statistics.metrics import metric_of
from mixbench.analysis.statistics.sequential import look_levels
from mixbench.experiments.design.decide import Decide


@dataclass(frozen=True)
class Decided:
    """A declared contrast as of the last look at it.

    Attributes:
        contrast: With the interval and the verdict at the level of that look.
        look: The number of replicates with which it was decided; None while it is undecided.
    """

    contrast: DeclaredContrast
    look: int | None


@dataclass(frozen=True)
class Looks:
    """How far a sweep with looks has come.

    Attributes:
        taken: The replicates of the looks that could be taken.
        decisions: (cell, against) -> what is decided; empty before the first look.
        cells: Those that need more replicates, because a contrast of theirs is undecided.
        next_look: How many replicates these need; None where nothing is left to look at.
    """

    taken: tuple[int, ...]
    decisions: Mapping[tuple[str, str], Decided]
    cells: tuple[str, ...]
    next_look: int | None


def take_looks(decide: Decide, cells: pd.DataFrame, values: ByMetric, unit: str) -> Looks:
    """Take every look that the finished runs allow.

    A look counts the first so many replicates, and is taken when every cell of an undecided
    contrast has them; what is decided stays decided, and its cells may have stopped. All declared
    contrasts stay one family, at the level that the look spends (`sequential.look_levels`).

    Args:
        decide: The looks, and the contrasts.
        cells: One row per cell, with blocks by the sweep's own baseline (`blocks.with_blocks`).
        values: (cell_key, metric key) -> replicate -> value.
        unit: What is paired, for notes.

    Returns:
        What is decided, and what needs more.
    """
    metric = metric_of(decide.question.metric, decide.question.margins)
    numbers = sorted({r for (_, key), of in values.items() if key == metric.key for r in of})
    live = [str(cell) for cell in cells["cell_key"]]
    declared = declare(decide.question, cells, {}, metric, unit)
    if declared.contrasts:
        live = _cells_of({(one.contrast.cell, one.contrast.against) for one in declared.contrasts})
    decisions: dict[tuple[str, str], Decided] = {}
    taken: list[int] = []
    levels = look_levels(decide.looks, decide.level)
    for look, level in zip(decide.looks, levels, strict=True):
        first = set(numbers[:look])
        known = {
            key: {r: value for r, value in of.items() if r in first} for key, of in values.items()
        }
        if any(len(known.get((cell, metric.key), {})) < look for cell in live):
            return Looks(tuple(taken), decisions, tuple(live), look)
        found = declare(decide.question, cells, known, metric, unit, level=level)
        taken.append(look)
        undecided = set()
        for one in found.contrasts:
            pair = one.contrast.cell, one.contrast.against
            is_over = pair in decisions and decisions[pair].look is not None
            if is_over or not set(_cells_of({pair})) <= set(live):
                continue
            is_decided = one.contrast.verdict != "undecided"
            decisions[pair] = Decided(one, look if is_decided else None)
            if not is_decided:
                undecided.add(pair)
        live = [cell for cell in live if cell in _cells_of(undecided)]
        if not live:
            return Looks(tuple(taken), decisions, (), None)
    return Looks(tuple(taken), decisions, tuple(live), None)


def with_looks(comparison: Comparison, looks: Looks) -> Comparison:
    """Return the comparison with the intervals and verdicts of the looks.

    All replicates that are there by now would tell more than the looks have paid for. Before the
    first look a declared contrast has an estimate, but neither interval nor verdict.

    Args:
        comparison: Of the finished runs.
        looks: Those that the runs allow.
    """
    declared = comparison.declared
    if declared is None:
        return comparison
    seen = {
        (one.contrast.cell, one.contrast.against): _at_look(one.contrast, looks)
        for one in declared.contrasts
    }
    differences = {
        (cell, metric): seen.get((cell, contrast.against), contrast)
        if metric == declared.metric.key
        else contrast
        for (cell, metric), contrast in comparison.differences.items()
    }
    contrasts = tuple(
        replace(one, contrast=seen[one.contrast.cell, one.contrast.against])
        for one in declared.contrasts
    )
    return replace(
        comparison, declared=replace(declared, contrasts=contrasts), differences=differences
    )


def _at_look(contrast: Contrast, looks: Looks) -> Contrast:
    decided = looks.decisions.get((contrast.cell, contrast.against))
    if decided is not None:
        return decided.contrast.contrast
    note = f"the first look is at {looks.next_look} replicates" if looks.next_look else "no look"
    return replace(
        contrast,
        standard_error=None,
        low=None,
        high=None,
        p=None,
        p_better=None,
        verdict=Verdict.UNDECIDED,
        note="; ".join(part for part in (contrast.note, note) if part),
    )


def _cells_of(pairs: set[tuple[str, str]]) -> list[str]:
    sides = (side for pair in sorted(pairs) for side in pair)
    return list(dict.fromkeys(cell for side in sides for cell in side.split(SEVERAL)))
