"""Looks at a sweep that grows until its contrasts are decided, declared before it runs.

decide: {metric: test/accuracy, margin: 0.005, looks: [5, 10, 20], level: 0.05}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from mixbench.experiments.design import question as questions
from mixbench.experiments.design.question import Question
from mixbench.experiments.errors import UserError, unknown

KEYS = ("metric", "margin", "looks", "level")
LEVEL = 0.05
_MOST_LOOKS = 20


@dataclass(frozen=True)
class Decide:
    """When a sweep is looked at, and what is decided then.

    Attributes:
        question: The contrasts, the metric and its margin.
        looks: How many replicates there are at each look, rising.
        level: The familywise error over all looks together.
    """

    question: Question
    looks: tuple[int, ...]
    level: float = LEVEL


def read(spec: Mapping[str, Any]) -> Decide | None:
    """Return the looks of a sweep; None where it has none, UserError where they are wrong."""
    given = spec.get("decide")
    asked = questions.read(spec)
    if given is None:
        return None
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"decide: got {given!r}, expected a mapping of {', '.join(KEYS)}")
    for key in given:
        if key not in KEYS:
            raise unknown("key of decide", key, KEYS)
    if spec.get("replicates") is None:
        raise UserError(
            "decide: looks are numbers of replicates, and the sweep has none; give `replicates` "
            "instead of `seeds`, as many as the first look"
        )
    looks, level = _looks(given.get("looks")), given.get("level", LEVEL)
    is_number = isinstance(level, int | float) and not isinstance(level, bool)
    if not is_number or not 0 < level < 0.5:
        raise UserError(f"decide.level: got {level!r}, expected a number above 0 and below 0.5")
    return Decide(_question(given, asked), looks, float(level))


def _looks(given: Any) -> tuple[int, ...]:
    are_numbers = isinstance(given, list) and all(type(each) is int and each >= 2 for each in given)
    if not are_numbers or not 0 < len(given) <= _MOST_LOOKS:
        raise UserError(
            f"decide.looks: got {given!r}, expected a list of numbers of replicates from 2, such "
            "as [5, 10, 20]"
        )
    if any(later <= earlier for earlier, later in pairwise(given)):
        raise UserError(f"decide.looks: got {given!r}, expected numbers that rise")
    return tuple(given)


def _question(given: Mapping[str, Any], asked: Question | None) -> Question:
    """Return the question, with the metric and the margin of `decide` where it has none."""
    parts = {key: given[key] for key in ("metric", "margin") if given.get(key) is not None}
    metric = parts.get("metric", asked.metric if asked else questions.ACCURACY)
    questions.check_metric("decide.metric", metric)
    if asked is not None and metric != asked.metric:
        raise UserError(
            f"decide.metric: got {metric!r}, but question.metric is {asked.metric!r}; expected the "
            "same"
        )
    margins = dict(asked.margins) if asked else {}
    if "margin" in parts:
        margin = questions.check_margin("decide.margin", parts["margin"], metric)
        if margins.get(metric, margin) != margin:
            raise UserError(
                f"decide.margin: got {margin!r}, but question.margin is {margins[metric]!r}; "
                "expected the same"
            )
        margins[metric] = margin
    if asked is None:
        return Question(metric, margins=margins)
    return Question(metric, asked.contrasts, asked.groups, margins)
