"""Patterns of cells in claim files, and which cells fit them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mixbench.analysis.tables.nested_methods import KEY as METHODS
from mixbench.experiments.design import question as questions
from mixbench.experiments.design.question import Flat
from mixbench.experiments.errors import UserError

_COMPARISONS = ("<=", ">=", "<", ">")
_ANY = "any"


def read(where: str, given: Any) -> dict[str, Any]:
    """Return a pattern as dotted keys and values; UserError, which names `where`, if it is none."""
    if not isinstance(given, Mapping) or not given:
        raise UserError(
            f"{where}: got {given!r}, expected keys and values, such as {{augmentation: none}}"
        )
    pattern = questions.pattern_of(given)
    for key, wanted in pattern.items():
        if _is_comparison(wanted):
            try:
                _limit(wanted)
            except ValueError:
                raise UserError(
                    f"{where}.{key}: got {wanted!r}, expected a number after the sign, such as "
                    "'<= 0.1'"
                ) from None
    return pattern


def fits(row: Flat, pattern: Flat) -> bool:
    """Tell whether a cell has all of a pattern.

    A list stands for any of its values, "<= 0.1" for all numbers up to that, "any" for whatever is
    set, and `augmentation.methods: [mixup, cutmix]` for methods of these names in this order.
    """
    plain = {}
    for key, wanted in pattern.items():
        if key == METHODS:
            if _names(row.get(key)) != wanted:
                return False
        elif wanted == _ANY:
            if value_of(row, key) is None:
                return False
        elif _is_comparison(wanted):
            if not _compares(row.get(key), wanted):
                return False
        else:
            plain[key] = wanted
    return questions.fits(row, plain)


def _names(methods: Any) -> list[str] | None:
    if not isinstance(methods, str):
        return None
    return [str(method.get("name")) for method in json.loads(methods)]


def _is_comparison(wanted: Any) -> bool:
    return isinstance(wanted, str) and wanted.startswith(_COMPARISONS)


def _limit(wanted: str) -> tuple[str, float]:
    sign = next(sign for sign in _COMPARISONS if wanted.startswith(sign))
    return sign, float(wanted.removeprefix(sign))


def _compares(value: Any, wanted: str) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return False
    sign, limit = _limit(wanted)
    if sign == "<=":
        return value <= limit
    if sign == ">=":
        return value >= limit
    return value < limit if sign == "<" else value > limit


def value_of(row: Flat, key: str) -> Any:
    """Return a field of a configuration; None where it is missing."""
    value = row.get(key)
    return None if isinstance(value, float) and math.isnan(value) else value
