"""The mixing methods of a run: its own, and those of its phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mixbench import augmentations
from mixbench.experiments.staging.values import SCHEDULED, value_at


def resolve_method(section: Any) -> dict[str, Any]:
    """Return a method with all its parameters, from its name or a mapping with a `name`.

    Raises ValueError for an unknown method or parameter, or a value that is not allowed.
    """
    if isinstance(section, str):
        section = {"name": section}
    if not isinstance(section, Mapping) or "name" not in section:
        raise ValueError(
            f"a name with parameters, such as {{name: cutmix, alpha: 1.0}}, or without them, such "
            f"as none; got {section!r}"
        )
    parameters = {str(key): value for key, value in section.items() if key != "name"}
    return {"name": section["name"], **augmentations.resolve(section["name"], parameters)}


def parameters_of(name: str) -> frozenset[str]:
    """Return the names of a method's parameters; none for an unknown method."""
    try:
        return frozenset(one.name for one in augmentations.describe(name).parameters)
    except ValueError:
        return frozenset()


def method_at(
    phase: Mapping[str, Any], augmentation: Mapping[str, Any], share: float
) -> augmentations.Method:
    """Return the method after `share` of a resolved phase, in a run with this augmentation.

    Raises ValueError for values that the method does not allow.
    """
    method = augmentations.create(**phase.get("method", augmentation))
    values: dict[str, Any] = {key: value_at(phase[key], share) for key in SCHEDULED if key in phase}
    return replace(method, **values) if values else method


def methods_of(
    augmentation: Mapping[str, Any], phases: Sequence[Mapping[str, Any]] | None
) -> list[tuple[str, augmentations.Method]]:
    """Return every method of a run with the section that it comes from.

    phases: the resolved phases; None for a run without staging.
    """
    if phases is None:
        return [("augmentation", augmentations.create(**augmentation))]
    return [
        (
            f"staging.phases[{number}].method" if "method" in phase else "augmentation",
            method_at(phase, augmentation, 0.0),
        )
        for number, phase in enumerate(phases)
    ]


def passes_of(config: Mapping[str, Any]) -> float:
    """Return the forward passes of a step beyond the usual one, of the costliest phase.

    config: resolved, as JSON values. A method that is not installed here counts as any other.
    """
    phases = (config.get("staging") or {}).get("phases")
    try:
        methods = methods_of(config["augmentation"], phases)
    except ValueError:
        return 0.0
    return max(mix.passes if mix.prob > 0 else 0.0 for _, mix in methods)
