"""Parameters of methods as text, for listings and captions."""

from __future__ import annotations

from typing import Any

from mixbench import augmentations


def parameter_text(value: Any) -> str:
    """Write a parameter's value as YAML does; of a nested method only what is not its default."""
    if isinstance(value, list):
        return f"[{', '.join(map(parameter_text, value))}]"
    if isinstance(value, dict):
        defaults = augmentations.resolve(value["name"], {})
        changed = [
            f"{key}: {parameter_text(one)}"
            for key, one in value.items()
            if defaults.get(key) != one
        ]
        return f"{{{', '.join(changed)}}}" if len(changed) > 1 else str(value["name"])
    return str(value).lower() if isinstance(value, bool) else str(value)


def passes_text(passes: float) -> str:
    """Say what a method that asks the network costs.

    Examples:
        >>> passes_text(1), passes_text(3.5)
        ('1 more forward pass for a batch', '3.5 more forward passes for a batch')
    """
    return f"{passes:g} more forward pass{'es' * (passes != 1)} for a batch"
