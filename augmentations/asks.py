"""What a method may ask of the network that is trained (`Method.asks`), checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from mixbench.augmentations.method import Method

ASKS = ("logits", "features", "class_maps", "input_gradients", "attention")
"""The functions of `NetworkView`."""


def why_not_asked(method: Method, network: nn.Module, shape: Sequence[int]) -> str | None:
    """Return the reason why a network can't serve a method; None if it can.

    Args:
        method: The method, whose `asks` are tried.
        network: The network, on any device.
        shape: (C, H, W) of the images.
    """
    from mixbench.augmentations.network_views import NetworkView

    view = NetworkView(network)
    for what in sorted(method.asks):
        reason = view.can(what, shape)
        if reason is not None:
            return f"{method.name} asks the network for its {what.replace('_', ' ')}: {reason}"
    return None
