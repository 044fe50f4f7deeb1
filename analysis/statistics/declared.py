"""The declared contrasts of a sweep: what its `question` asks, as one family of tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.blocks import blocks, stratum_titles
from mixbench.analysis.statistics.contrasts import LEVEL, Contrast, Stratum, Values
from mixbench.analysis.statistics.metrics import Metric
from mixbench.analysis.tables.labels import JOIN
from mixbench.experiments.design import question as questions
from mixbench.experiments.design.question import Cells, Question

SEVERAL = "+"
"""Joins the keys of cells whose mean is one side of a contrast."""

ByMetric = Mapping[tuple[str, str], Values]
"""(cell_key, metric key) -> replicate -> value."""


@dataclass(frozen=True)
class DeclaredContrast:
    """A contrast with the names of its sides. size: the cells of the larger side."""

    contrast: Contrast
    label: str
    against: str
    size: int = 1


@dataclass(frozen=True)
class Declared:
    """The answer to a question.

    Attributes:
        question: What is asked.
        metric: The metric of the contrasts, with the margin that counts.
        contrasts: One family. Where the best is asked for, each cell against the best of the
            others, with the intervals of all pairs.
        best: stratum -> names that can't be told apart from the best; where the best is asked for.
        notes: What can't be answered, and why.
    """

    question: Question
    metric: Metric
    contrasts: tuple[DeclaredContrast, ...]
    best: Mapping[str, Sequence[str]]
    notes: tuple[str, ...] = ()

    @cached_property
    def by_cells(self) -> dict[tuple[str, str], Contrast]:
        """(cell, against) -> contrast."""
        found = (one.contrast for one in self.contrasts)
        return {(contrast.cell, contrast.against): contrast for contrast in found}


def declare(
    question: Question,
    cells: pd.DataFrame,
    values: ByMetric,
    metric: Metric,
    unit: str,
    planned: int | None = None,
    level: float = LEVEL,
) -> Declared:
    """Test the declared contrasts of a sweep, all as one family.

    Args:
        question: What is asked.
        cells: One row per cell, with blocks by the sweep's own baseline.
        values: The values of the metric.
        metric: The metric that the question names, with the margin that counts.
        unit: What is paired: "seed" or "replicate".
        planned: Give what could be detected with so many replicates, instead of those there are.
        level: The familywise error.
    """
    if question.contrasts == questions.NAMED:
        return _of_groups(question, cells, values, metric, unit, planned, level)
    strata, best = [], {}
    titles = stratum_titles([title for title, _ in blocks(cells)])
    names = dict(zip(cells["cell_key"], cells["series"], strict=True))
    for title, (_, members) in zip(titles, blocks(cells), strict=True):
        of_block = {str(key): values.get((str(key), metric.key), {}) for key in members["cell_key"]}
        strata.append(Stratum(title, of_block, _pairs(question, members)))
        if question.contrasts == questions.BEST:
            keys = best_set(of_block, metric.better, level, unit)
            best[title] = [str(names[key]) for key in keys]
    found = contrasts.compare(
        strata,
        better=metric.better,
        margin=metric.margin,
        level=level,
        unit=unit,
        planned=planned,
    )
    if question.contrasts == questions.BEST:
        found = _against_the_best(found, strata, metric)
    labelled = (
        DeclaredContrast(one, str(names[one.cell]), str(names[one.against])) for one in found
    )
    has_pairs = any(stratum.pairs for stratum in strata)
    notes = () if has_pairs else ("there is nothing to compare among the sweep's cells",)
    return Declared(question, metric, tuple(labelled), best, notes)


def _pairs(question: Question, members: pd.DataFrame) -> list[tuple[str, str]]:
    bases = [base for base in members["baseline_key"] if isinstance(base, str)]
    if question.contrasts == questions.BASELINE:
        together = zip(members["cell_key"], members["baseline_key"], strict=True)
        return [(str(cell), base) for cell, base in together if base in bases and base != cell]
    # A baseline comes first, so that others are compared with it, not it with others.
    keys = sorted(map(str, members["cell_key"]), key=lambda key: key not in bases)
    return contrasts.all_pairs(keys)


def _against_the_best(
    found: Sequence[Contrast], strata: Sequence[Stratum], metric: Metric
) -> list[Contrast]:
    """Keep, for each cell, its contrast with the best of the others, turned round where needed."""
    by_cells = {(one.cell, one.against): one for one in found}
    kept: dict[tuple[str, str], Contrast] = {}
    for stratum in strata:
        means = {cell: mean for cell, v in stratum.values.items() if (mean := _mean(v)) is not None}
        ranked = sorted(means, key=lambda cell: -metric.better * means[cell])
        for cell in ranked:
            other = next((each for each in ranked if each != cell), None)
            if other is None:
                continue
            pair = (cell, other) if (cell, other) in by_cells else (other, cell)
            kept[pair] = by_cells[pair]
    return list(kept.values())


def _of_groups(
    question: Question,
    cells: pd.DataFrame,
    values: ByMetric,
    metric: Metric,
    unit: str,
    planned: int | None,
    level: float,
) -> Declared:
    """Compare named groups in every setting of all else; the mean where one has several cells."""
    columns = ["cell_key", *(column for column in cells.columns if "." in column)]
    rows = {str(row["cell_key"]): row for row in cells[columns].to_dict("records")}
    labels = {str(k): str(v) for k, v in zip(cells["cell_key"], cells["label"], strict=True)}
    bases = dict(zip(map(str, cells["cell_key"]), cells["baseline_key"], strict=True))
    names: dict[tuple[str, str], tuple[str, str, int]] = {}
    pairs: list[tuple[Cells, Cells]] = []
    notes = []
    for pairing in questions.pairings(
        {cell: {str(k): v for k, v in row.items()} for cell, row in rows.items()}, question.groups
    ):
        sides = pairing.name, pairing.against
        if not pairing.strata:
            notes.append(f"{sides[0]} and {sides[1]} have no cells that are alike in all else")
        elif pairing.left_out:
            listed = ", ".join(labels[cell] for cell in pairing.left_out)
            notes.append(f"between {sides[0]} and {sides[1]}, no counterpart for {listed}")
        for here, there in pairing.strata:
            named = sides
            if len(here) == len(there) == 1 and bases.get(there[0]) == here[0]:
                # Such a contrast is in the tables too, where it is taken from the baseline.
                here, there, named = there, here, (sides[1], sides[0])
            pairs.append((here, there))
            names[_key(here), _key(there)] = (*named, max(len(here), len(there)))
    groups = _connected(pairs)
    titles = stratum_titles([_common(labels, group) for group in groups])
    strata = [
        Stratum(
            title,
            {_key(side): _mean_values(side, values, metric) for pair in group for side in pair},
            [(_key(here), _key(there)) for here, there in group],
        )
        for title, group in zip(titles, groups, strict=True)
    ]
    found = contrasts.compare(
        strata,
        better=metric.better,
        margin=metric.margin,
        level=level,
        unit=unit,
        planned=planned,
    )
    labelled = (DeclaredContrast(one, *names[one.cell, one.against]) for one in found)
    return Declared(question, metric, tuple(labelled), {}, tuple(notes))


def _connected(pairs: Sequence[tuple[Cells, Cells]]) -> list[list[tuple[Cells, Cells]]]:
    """Group the pairs that share a side: their differences are correlated."""
    groups: list[list[tuple[Cells, Cells]]] = []
    for pair in pairs:
        touching = [group for group in groups if any(set(pair) & set(other) for other in group)]
        rest = [group for group in groups if group not in touching]
        groups = [*rest, [*(one for group in touching for one in group), pair]]
    return groups


def _common(labels: Mapping[str, str], group: Sequence[tuple[Cells, Cells]]) -> str:
    """Return the parts of the labels that all cells of a stratum have."""
    parts = [labels[cell].split(JOIN) for pair in group for side in pair for cell in side]
    common = [part for part in parts[0] if all(part in other for other in parts)]
    # "dose 0.5 early" and "dose 0.5 late" have their dose in common.
    doses = [{part.rpartition(" ")[0] for part in each if _is_dose(part)} for each in parts]
    if not any(map(_is_dose, common)):
        common += doses[0].intersection(*doses)
    return JOIN.join(common)


def _is_dose(part: str) -> bool:
    return part.startswith("dose ")


def _mean_values(cells: Cells, values: ByMetric, metric: Metric) -> Values:
    """Average cells over the replicates that all of them have."""
    known = [
        {r: float(v) for r, v in values.get((cell, metric.key), {}).items() if is_number(v)}
        for cell in cells
    ]
    shared = [r for r in known[0] if all(r in each for each in known)]
    return {r: math.fsum(each[r] for each in known) / len(known) for r in shared}


def _mean(values: Values) -> float | None:
    known = [float(value) for value in values.values() if is_number(value)]
    return math.fsum(known) / len(known) if known else None


def _key(cells: Cells) -> str:
    return SEVERAL.join(cells)
