"""The question of a sweep: the contrasts that it is run for, declared before it runs.

question:
  metric: test/accuracy
  margin: 0.005
  contrasts: baseline        # or all pairs, best, or groups of cells with names of their own:
  # contrasts: {early: {staging: first_50}, late: {staging: last_50}}
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from mixbench.experiments.design import tasks
from mixbench.experiments.errors import UserError, unknown

KEYS = ("metric", "margin", "contrasts")
BASELINE, ALL_PAIRS, BEST, NAMED = "baseline", "all pairs", "best", "named"
KINDS = (BASELINE, ALL_PAIRS, BEST)
ACCURACY = "test/accuracy"
METRICS = tuple(tasks.test_metrics())
"""Those of the test set, of all tasks; those of its occlusion shapes come on top."""
_FRACTIONS = tuple(key for key, metric in tasks.test_metrics().items() if metric.percent)
_LARGEST_FRACTION = 0.1
_NAME, _PHASES, _ALWAYS = "staging.name", "staging.phases", "always"
_METHOD = "augmentation.name"
TUNE = "augmentation.tune"
"""Of a cell whose setting is chosen "tuned", of the same cell with its own setting "default"."""
_OF_SCHEDULES = (_NAME, _PHASES)
"""What other fields of a schedule decide."""
_OF_MIXING = (
    *_OF_SCHEDULES,
    "staging.match_dose",
    "staging.shape",
    "task.mixing",
    "transfer.mixing",
    "transfer.cache",
)
"""Fields that mean nothing in a run without augmentation."""

Flat = Mapping[str, Any]
"""A cell's configuration with dotted keys."""
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What a sweep is run to answer.

    Attributes:
        metric: The metric of the declared contrasts.
        contrasts: "baseline", "all pairs", "best", or "named".
        groups: name -> pattern of its cells, dotted key -> value; for "named" alone.
        margins: metric -> the smallest difference that matters, in its own unit; others have
            their defaults.
    """

    metric: str = ACCURACY
    contrasts: str = BASELINE
    groups: Mapping[str, Flat] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Pairing:
    """Two named groups of cells, side by side wherever all else is alike.

    Attributes:
        name, against: The groups.
        strata: The cells of each in every setting of all else that has both.
        left_out: Cells that no cell of the other group is like in all else.
    """

    name: str
    against: str
    strata: tuple[tuple[Cells, Cells], ...]
    left_out: Cells


def read(spec: Mapping[str, Any]) -> Question | None:
    """Return the question of a sweep; None where it has none, UserError where it is wrong."""
    given = spec.get("question")
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"question: got {given!r}, expected a mapping of {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise unknown("key of question", key, KEYS)
    metric = given.get("metric", ACCURACY)
    check_metric("question.metric", metric)
    contrasts, groups = _contrasts(given.get("contrasts", BASELINE))
    return Question(metric, contrasts, groups, _margins(given.get("margin"), metric))


def check_margin(where: str, margin: Any, metric: str) -> float:
    """Return a margin; UserError, which names `where`, unless it can be one of the metric."""
    is_number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if not is_number or not math.isfinite(margin) or margin <= 0:
        raise UserError(f"{where}: got {margin!r}, expected a number above 0")
    if _is_fraction(metric) and margin >= _LARGEST_FRACTION:
        raise UserError(
            f"{where}: got {margin!r}, but {metric} is a fraction: {margin:g} points are "
            f"{margin / 100:g}, and {margin:g} would be {margin * 100:g} points; expected a number "
            f"above 0 and below {_LARGEST_FRACTION}"
        )
    return float(margin)


def in_words(metric: str, margin: float) -> str:
    """Return a margin as it is shown, such as "0.005 (0.5 points)".

    Examples:
        >>> in_words("test/accuracy", 0.005), in_words("test/nll", 0.02)
        ('0.005 (0.5 points)', '0.02')
    """
    number = f"{margin * 100:g}"
    unit = "point" if number == "1" else "points"
    points = f" ({number} {unit})" if _is_fraction(metric) else ""
    return f"{margin:g}{points}"


def pattern_of(given: Any) -> dict[str, Any]:
    """Return a pattern in any of its spellings as dotted keys and values.

    Examples:
        >>> pattern_of("cutmix"), pattern_of({"staging": "first_50"})
        ({'augmentation.name': 'cutmix'}, {'staging.name': 'first_50'})
    """
    if isinstance(given, str):
        return {_METHOD: given}
    return _flattened(given)


def fits(row: Flat, pattern: Flat) -> bool:
    """Tell whether a cell has all of a pattern, where a list stands for any of its values."""
    return all(_is_one_of(_value(row, key), wanted) for key, wanted in pattern.items())


def pairings(rows: Mapping[str, Flat], groups: Mapping[str, Flat]) -> list[Pairing]:
    """Return each pair of groups, with the cells that are alike in all but what names them.

    First only the fields of the patterns may differ; where no two cells are so alike, their whole
    sections, because the parameters of one method are not those of another; then also the
    schedule, where methods are compared.

    Args:
        rows: cell_key -> its configuration with dotted keys.
        groups: name -> pattern.
    """
    members = {
        name: [cell for cell, row in rows.items() if fits(row, pattern)]
        for name, pattern in groups.items()
    }
    fields = list(dict.fromkeys(key for row in rows.values() for key in row if "." in key))
    found = []
    for name, other in combinations(groups, 2):
        wanted = {*groups[name], *groups[other]}
        sections = {key.partition(".")[0] for key in wanted}
        decided = _OF_SCHEDULES if "staging" in sections else ()
        narrow = [key for key in fields if key not in wanted and key not in decided]
        wide = [key for key in fields if key.partition(".")[0] not in sections]
        wider = [key for key in wide if "augmentation" not in sections or key not in _OF_MIXING]
        for shared in (narrow, wide, wider):
            strata = _strata(rows, members[name], members[other], shared)
            if strata:
                break
        used = {cell for sides in strata for side in sides for cell in side}
        left = [cell for cell in (*members[name], *members[other]) if cell not in used]
        found.append(Pairing(name, other, tuple(strata), tuple(left)))
    return found


def _strata(
    rows: Mapping[str, Flat], here: Sequence[str], there: Sequence[str], shared: Sequence[str]
) -> list[tuple[Cells, Cells]]:
    sides: dict[tuple[Any, ...], tuple[list[str], list[str]]] = {}
    for side, cells in enumerate((here, there)):
        for cell in cells:
            setting = tuple(_comparable(rows[cell].get(key)) for key in shared)
            sides.setdefault(setting, ([], []))[side].append(cell)
    return [(tuple(one), tuple(other)) for one, other in sides.values() if one and other]


def _contrasts(given: Any) -> tuple[str, dict[str, Flat]]:
    if isinstance(given, str):
        if given not in KINDS:
            hint = ", or a mapping of names to cells"
            raise unknown("value of question.contrasts", given, KINDS, hint)
        return given, {}
    if not isinstance(given, Mapping) or len(given) < 2:
        raise UserError(
            f"question.contrasts: got {given!r}, expected one of {', '.join(KINDS)}, or at least "
            "two names with their cells, such as {early: {staging: first_50}, late: {staging: "
            "last_50}}"
        )
    for name, pattern in given.items():
        is_text = isinstance(pattern, str) and pattern
        is_filled = isinstance(pattern, Mapping) and pattern
        if not (is_text or is_filled):
            raise UserError(
                f"question.contrasts.{name}: got {pattern!r}, expected a method's name or a "
                "mapping such as {staging: first_50}"
            )
    return NAMED, {str(name): pattern_of(pattern) for name, pattern in given.items()}


def _margins(given: Any, metric: str) -> dict[str, float]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        return {metric: check_margin("question.margin", given, metric)}
    margins = {}
    for name, margin in given.items():
        check_metric("question.margin", name)
        margins[name] = check_margin(f"question.margin.{name}", margin, name)
    return margins


def check_metric(where: str, metric: Any) -> None:
    if not isinstance(metric, str) or not (metric in METRICS or _is_area(metric)):
        known = (*METRICS, "occlusion/centre/area", "occlusion/patches/area")
        raise unknown(f"metric in {where}", metric, known)


def _is_area(metric: str) -> bool:
    first, *parts = metric.split("/")
    return first == "occlusion" and parts[-1:] == ["area"] and parts[1:-1] in ([], ["noise"])


def _is_fraction(metric: str) -> bool:
    return metric in _FRACTIONS or _is_area(metric)


def _flattened(pattern: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in pattern.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= _flattened(value, f"{name}.")
        elif name in ("augmentation", "staging", "dataset", "model"):
            # `staging: null` is a run that mixes always.
            flat[f"{name}.name"] = _ALWAYS if value is None and name == "staging" else value
        else:
            flat[name] = value
    return flat


def _value(row: Flat, key: str) -> Any:
    value = _comparable(row.get(key))
    if key == _NAME and value is None and _comparable(row.get(_PHASES)) is None:
        return _ALWAYS
    return value


def _comparable(value: Any) -> Any:
    # Tables have NaN for what is missing.
    return None if isinstance(value, float) and math.isnan(value) else value


def _is_one_of(value: Any, wanted: Any) -> bool:
    if not isinstance(wanted, list):
        return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)
    return value == json.dumps(wanted) or any(_is_one_of(value, each) for each in wanted)
