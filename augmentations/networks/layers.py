"""Which modules of a network are its layers, from the structure of the modules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

WHOLE = 0.8
"""Layers are searched for inside a module that holds more of its sequence than this share."""


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the modules whose outputs are at depth 1, 2, ...

    Args:
        model: The network.

    Returns:
        Names as in `model.named_modules()`; empty where no sequence of modules holds at least half
        of the network's convolutions and linear layers.

    Examples:
        >>> import mixbench, torch
        >>> first, second = torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
        >>> model = torch.nn.Sequential(first, torch.nn.ReLU(), second)
        >>> mixbench.layer_names(model)
        ('1', '2')
    """
    # Of the largest take the first: an outer sequence comes before those inside it.
    sequences = list(_sequences(model, ""))
    size, names = max(sequences, key=lambda sequence: sequence[0], default=(0, ()))
    # A sequence with less than half of the network is only a detail.
    return names if 2 * size >= _weights(model) else ()


def _sequences(module: nn.Module, prefix: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield the number of weights and the layers' names of every sequence of layers."""
    children = [(name, child) for name, child in module.named_children() if _weights(child)]
    for group in _grouped(module, children):
        sizes = [_weights(child) for _, child in group]
        if len(group) > 1 and max(sizes) < WHOLE * sum(sizes):
            last = _last_of_runs(module, group)
            yield sum(sizes), tuple(f"{prefix}{name}" for name in last)
    for name, child in children:
        yield from _sequences(child, f"{prefix}{name}.")


def _grouped(
    module: nn.Module, children: list[tuple[str, nn.Module]]
) -> list[list[tuple[str, nn.Module]]]:
    if isinstance(module, nn.Sequential | nn.ModuleList):
        return [children]
    groups: dict[str, list[tuple[str, nn.Module]]] = {}
    for name, child in children:
        match = re.fullmatch(r"(.*?)_?\d+[a-z]?", name)
        if match:
            groups.setdefault(match[1], []).append((name, child))
    return list(groups.values())


def _last_of_runs(module: nn.Module, group: list[tuple[str, nn.Module]]) -> list[str]:
    """Return the children that end a layer: each before the next one with weights, and the last."""
    if not isinstance(module, nn.Sequential):
        return [name for name, _ in group]
    last: list[str] = []
    for name, child in module.named_children():
        if _weights(child):
            last.append(name)
        elif last:
            # Normalisation, activation and pooling belong to the layer that they follow.
            last[-1] = name
    return last


def _weights(module: nn.Module) -> int:
    """Count the modules with a weight of at least two axes: convolutions, linear layers, attention.

    Modules are counted, not numbers: the classifier of an old network has most of the numbers.
    """
    return sum(
        any(parameter.dim() > 1 for parameter in inner.parameters(recurse=False))
        for inner in module.modules()
    )
