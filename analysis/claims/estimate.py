"""Estimate the contrasts of a claim in each regime, with intervals that hold together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

from mixbench.analysis.claims.claim import ClaimContrast
from mixbench.analysis.claims.formula import Weights
from mixbench.analysis.claims.regimes import Regime
from mixbench.analysis.claims.study import Study
from mixbench.analysis.numbers import is_number
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.contrasts import Contrast, Stratum, Values, Verdict
from mixbench.analysis.statistics.recommendation import turned

CellWeights = tuple[tuple[str, float], ...]
"""(cell_key, weight) of a contrast; the weights add up to 0."""
Entry = tuple[int, int]
"""The number of a regime and that of a contrast of the claim."""


@dataclass(frozen=True)
class Estimated:
    """A contrast of a claim in one regime.

    Attributes:
        n: How many replicates all its cells have.
        difference, low, high: In the metric's unit; None where nothing is known.
        is_equivalent: Whether the simultaneous 90 % interval lies within the margin.
        more: How many more replicates find a difference of the margin with a probability of 80 %;
            None if unknown.
        replicates: Those that all cells have.
        note: Why something is missing.
    """

    n: int
    difference: float | None
    low: float | None
    high: float | None
    is_equivalent: bool
    more: int | None
    replicates: tuple[int, ...] = ()
    note: str = ""


def estimate(
    study: Study, found: Sequence[Regime], wanted: Sequence[ClaimContrast]
) -> dict[Entry, Estimated]:
    """Estimate every contrast in every regime.

    A difference of two cells that the sweep's report has keeps the test that it has there: one
    contrast, one test. All others of the claim in one metric and margin are one family; each is a
    paired t test over replicates, with the critical value of the family.
    """
    parts: dict[tuple[Entry, int], Contrast] = {}
    families: dict[tuple[str, float], dict[tuple[Entry, int], CellWeights]] = {}
    for entry in product(range(len(found)), range(len(wanted))):
        regime, contrast = found[entry[0]], wanted[entry[1]]
        for place, weights in enumerate(contrast.formula.parts):
            of_cells = _of_cells(weights, regime)
            known = _in_report(study, of_cells, contrast)
            if known is not None:
                parts[entry, place] = known
            else:
                family = families.setdefault((contrast.metric, contrast.margin), {})
                family[entry, place] = of_cells
    for (metric, margin), family in families.items():
        parts |= _family(study, metric, margin, family)
    return {
        entry: _by_size([parts[entry, place] for place in (0, 1)])
        if wanted[entry[1]].formula.second is not None
        else _plain(parts[entry, 0])
        for entry in product(range(len(found)), range(len(wanted)))
    }


def _of_cells(weights: Weights, regime: Regime) -> CellWeights:
    total: dict[str, float] = {}
    for group, weight in weights.items():
        cells = regime.cells[group]
        for cell in cells:
            total[cell] = total.get(cell, 0.0) + weight / len(cells)
    return tuple((cell, weight) for cell, weight in total.items() if abs(weight) > 1e-12)


def _in_report(study: Study, cells: CellWeights, contrast: ClaimContrast) -> Contrast | None:
    """Return the test that the report has of a difference of two cells, if it has one."""
    sides = dict(cells)
    plus = [cell for cell, weight in sides.items() if weight == 1]
    minus = [cell for cell, weight in sides.items() if weight == -1]
    if len(sides) != 2 or not plus or not minus:
        return None
    tests = study.of_report(contrast.metric, contrast.margin)
    if known := tests.get((plus[0], minus[0])):
        return known
    if known := tests.get((minus[0], plus[0])):
        return turned(known, better=1)
    return None


def _family(
    study: Study, metric: str, margin: float, family: Mapping[tuple[Entry, int], CellWeights]
) -> dict[tuple[Entry, int], Contrast]:
    values = study.values(metric)
    strata: list[Stratum] = []
    places: dict[tuple[Entry, int], int] = {}
    for key, cells in family.items():
        sides = {
            "more": _combined([(c, w) for c, w in cells if w > 0], values),
            "less": _combined([(c, -w) for c, w in cells if w < 0], values),
        }
        places[key] = len(strata)
        # A stratum of its own: the critical value of independent tests is above that of
        # correlated ones (Sidak's inequality), so the error is held.
        strata.append(Stratum(str(key), sides, [("more", "less")]))
    tested = contrasts.compare(strata, better=1, margin=margin, unit=study.unit)
    return {key: tested[place] for key, place in places.items()}


def _combined(cells: Sequence[tuple[str, float]], values: Mapping[str, Values]) -> Values:
    """Return the weighted sum of cells over the replicates that all of them have."""
    known = [
        {r: float(v) for r, v in values.get(cell, {}).items() if is_number(v)} for cell, _ in cells
    ]
    if not known:
        return {}
    shared = [r for r in known[0] if all(r in each for each in known)]
    return {
        r: math.fsum(weight * each[r] for (_, weight), each in zip(cells, known, strict=True))
        for r in shared
    }


def _plain(one: Contrast) -> Estimated:
    return Estimated(
        one.n,
        one.difference,
        one.low,
        one.high,
        one.verdict == Verdict.EQUIVALENT,
        one.more_replicates,
        one.replicates,
        one.note,
    )


def _by_size(parts: Sequence[Contrast]) -> Estimated:
    """Return |A| - |B| from A - B and A + B."""
    difference, total = parts
    plain = _plain(difference)
    more = [one.more_replicates for one in parts]
    known = [number for number in more if number is not None]
    if any(one.difference is None or one.low is None for one in parts):
        sizes = [one.difference for one in parts if one.difference is not None]
        value = _smaller(*sizes) if len(sizes) == 2 else None
        return replace(plain, difference=value, low=None, high=None, is_equivalent=False)
    low, high = _range_of_smaller(_ends(difference), _ends(total))
    return replace(
        plain,
        difference=_smaller(difference.difference or 0.0, total.difference or 0.0),
        low=low,
        high=high,
        # The smaller of the two in size is |A| - |B|, so either within the margin is enough.
        is_equivalent=any(one.verdict == Verdict.EQUIVALENT for one in parts),
        more=max(known) if len(known) == len(more) else None,
    )


def _ends(one: Contrast) -> tuple[float, float]:
    return one.low or 0.0, one.high or 0.0


def _smaller(x: float, y: float) -> float:
    """Return |A| - |B| for x = A - B and y = A + B.

    Examples:
        >>> _smaller(3 - 1, 3 + 1), _smaller(1 - -3, 1 + -3)
        (2.0, -2.0)
    """
    return abs(x + y) / 2 - abs(x - y) / 2


def _range_of_smaller(x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
    """Return the smallest and largest value over a box.

    It is linear between the lines x = y and x = -y, so the ends are at corners of the box or where
    these lines cross its edges.
    """
    points = [*product(x, y)]
    for sign in (1, -1):
        points += [(each, sign * each) for each in x if y[0] <= sign * each <= y[1]]
        points += [(sign * each, each) for each in y if x[0] <= sign * each <= x[1]]
    if x[0] <= 0 <= x[1] and y[0] <= 0 <= y[1]:
        points.append((0.0, 0.0))
    values = [_smaller(*point) for point in points]
    return min(values), max(values)
