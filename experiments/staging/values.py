"""What a phase does to a method: constant values, and values that change from its start to its end.

A phase here is one of a resolved configuration.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mixbench import augmentations

SCHEDULED = ("prob", "alpha", "min_area", "max_area")
"""The parameters of a method that a phase may set."""
SHAPES = ("linear", "cosine")


def value_at(value: Any, share: float) -> float:
    """A number, or what a change has come to after `share` of its phase: exact at 0 and 1."""
    if not isinstance(value, Mapping):
        return float(value)
    first, last = value["from"], value["to"]
    if value["shape"] == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    between = first * (1 - share) + last * share
    # Rounding must not lead out of what is allowed.
    return float(min(max(between, min(first, last)), max(first, last)))


def changes(phase: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The values of a phase that are not the same at all of its steps."""
    return {key: phase[key] for key in SCHEDULED if isinstance(phase.get(key), Mapping)}


def method_at(
    phase: Mapping[str, Any], augmentation: Mapping[str, Any], share: float
) -> augmentations.Method:
    """The method after `share` of a phase of a run with this augmentation.

    Raises ValueError for values that the method does not allow.
    """
    method = augmentations.create(**phase.get("method", augmentation))
    given: dict[str, Any] = {key: value_at(phase[key], share) for key in SCHEDULED if key in phase}
    return replace(method, **given) if given else method
