"""Which parameters of a network belong to which of its layers: stem, layers, neck, head.

The layers are those that `mixbench.mixing_inside` counts: depth 1, 2, ... What comes before
the first is the stem, what comes between the last and the classifier the neck.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from mixbench.augmentations.integrations.hooks import checked_layers
from mixbench.augmentations.networks.layers import layer_names
from mixbench.experiments.config.models import our_networks
from mixbench.experiments.errors import UserError


@dataclass(frozen=True)
class Layers:
    """The layers of one network. `named` is what `mixing_inside` takes."""

    names: tuple[str, ...]
    named: tuple[str, ...] | None

    @classmethod
    def of(cls, network: nn.Module, model: str) -> Layers:
        """Those that the catalogue names for `model`, or those numbers from the structure."""
        if model in our_networks():
            stages = our_networks()[model].stages
            return cls(stages, stages)
        return cls(layer_names(network), None)

    @property
    def neck(self) -> int:
        """The neck's number; the head's is the next."""
        return len(self.names) + 1

    def numbers(self, network: nn.Module) -> dict[str, int]:
        """Module name -> the layer that it is in: 0 the stem, 1..N, N + 1 the neck, N + 2 the head.

        Of all modules of `network`, in the order in which they are registered. A module stands for
        the parameters and buffers of its own, not for those of the modules in it. Where the layers
        are a plain sequence, the first one begins with it and the stem ends before. ValueError for
        a network without these layers, UserError for one without a head.
        """
        checked_layers(network, 0, self.named)
        order = [name for name, _ in network.named_modules()]
        head = head_of(network)
        begin = self._begin(network, order)
        ends = [last_within(name, order) for name in self.names]
        numbers = {}
        behind = False
        for position, name in enumerate(order):
            number = 0 if position < begin else 1 + sum(end < position for end in ends)
            is_head = name == head or name.startswith(f"{head}.")
            # What follows the classifier makes logits too; one that is registered early doesn't
            # make a head of the layers.
            behind = behind or (is_head and number == self.neck)
            numbers[name] = self.neck + 1 if is_head or behind else number
        return numbers

    def _begin(self, network: nn.Module, order: list[str]) -> int:
        """The position in `order` at which the first layer begins."""
        if not self.names:
            return 0
        parent, _, first = self.names[0].rpartition(".")
        holder = network.get_submodule(parent)
        if isinstance(holder, nn.Sequential | nn.ModuleList):
            first = next(name for name, _ in holder.named_children())
        return order.index(f"{parent}.{first}" if parent else first)

    def check_depth(self, network: nn.Module, deepest: int) -> None:
        """ValueError where the network has no layer at depth `deepest`, with those that it has."""
        if deepest:
            checked_layers(network, deepest, self.named)


def last_within(name: str, order: Sequence[str]) -> int:
    """The position in `order`, a network's modules by name, of the last module within `name`."""
    within = (position for position, one in enumerate(order) if one.startswith(f"{name}."))
    return max(within, default=order.index(name))


def head_of(network: nn.Module) -> str:
    """The name of the module that makes logits from features, as in `network.named_modules()`.

    UserError for a network of timm that has no classifier or several.
    """
    # Our own networks call it so; those of timm have a method that says which it is.
    if not hasattr(network, "get_classifier"):
        # A convolution where every pixel has a class.
        if isinstance(getattr(network, "classifier", None), nn.Linear | nn.Conv2d):
            return "classifier"
        raise UserError(f"transfer: {type(network).__name__} has no classifier")
    classifier: Any = network.get_classifier
    head = classifier()
    names: list[str] = [name for name, module in network.named_modules() if module is head]
    if len(names) != 1:
        raise UserError(f"transfer: {type(network).__name__} has no single classifier")
    return names[0]
