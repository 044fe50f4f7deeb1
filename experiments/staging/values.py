"""The values that a phase sets: constant, or changing from its first step to its last."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

SCHEDULED = ("prob", "alpha", "min_area", "max_area")
"""The parameters of a method that a phase may set."""
SHAPES = ("linear", "cosine")


def value_at(value: Any, share: float) -> float:
    """Return a number, or a change's value after `share` of its phase: exact at 0 and 1."""
    if not isinstance(value, Mapping):
        return float(value)
    first, last = value["from"], value["to"]
    if value["shape"] == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    between = first * (1 - share) + last * share
    # Rounding must not leave the allowed range.
    return float(min(max(between, min(first, last)), max(first, last)))


def changing(phase: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the values of a resolved phase that change from step to step."""
    return {key: phase[key] for key in SCHEDULED if isinstance(phase.get(key), Mapping)}
