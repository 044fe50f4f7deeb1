"""What a method may ask of the network that is trained (`Method.asks`), checked before training."""

from __future__ import annotations

ASKS = ("logits", "features", "class_maps", "input_gradients", "attention")
"""The functions of `NetworkView`."""
