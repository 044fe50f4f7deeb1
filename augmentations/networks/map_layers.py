"""The last maps of a network: which module's output they are, and its positions.

Outputs are taken as (B, C, h, w), as (B, h, w, C), which some transformers have, and as tokens
(B, N, C), of which the first may have no position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.augmentations.networks.layers import layer_names

Predict = Callable[[Tensor], Tensor]


class NoMapsError(ValueError):
    """No module of the network has a spatial output."""


@dataclass(frozen=True)
class MapLayer:
    """The module whose output is the map.

    Attributes:
        name: As in `network.named_modules()`.
        size: Height and width of its output.
    """

    name: str
    size: tuple[int, int]


@dataclass(frozen=True)
class _Output:
    layer: MapLayer
    weighted: bool
    matters: bool


def find_map_layer(network: nn.Module, predict: Predict, images: Tensor) -> MapLayer:
    """Find the last module with a spatial output, by running the network once.

    Candidates are the network's layers, as `mixbench.mixing_inside` counts them, and modules
    outside of layers; not modules inside them. Of the outputs on which logits depend at their
    positions, and not by a class token alone, it is the last that has the size of the last one with
    weights: after normalisation and activation, and before pooling. The network must be
    in evaluation mode, with gradients on.

    Args:
        network: Whose module is wanted.
        predict: From images to logits, by the network.
        images: (B,C,H,W), as `predict` takes them.

    Raises:
        NoMapsError: No module has a spatial output.
    """
    outputs = _traced(network, predict, images)
    # All of them, where a network ignores what it sees.
    outputs = [output for output in outputs if output.matters] or outputs
    if not outputs:
        raise NoMapsError(
            "no part of the network has a spatial output, which a class activation map needs"
        )
    weighted = [number for number, output in enumerate(outputs) if output.weighted]
    rest = outputs[weighted[-1] if weighted else -1 :]
    return [output.layer for output in rest if output.layer.size == rest[0].layer.size][-1]


def _traced(network: nn.Module, predict: Predict, images: Tensor) -> list[_Output]:
    """The spatial outputs, in the order in which they are computed."""
    layers = layer_names(network)
    seen: list[tuple[str, nn.Module, Tensor]] = []

    def recorder(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def record(module: nn.Module, _arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and grid(network, output) is not None:
                seen.append((name, module, output))

        return record

    with ExitStack() as hooks:
        for name, module in network.named_modules():
            within = any(name.startswith(f"{layer}.") for layer in layers)
            around = any(layer.startswith(f"{name}.") for layer in layers)
            if name and not within and not around:
                hooks.enter_context(module.register_forward_hook(recorder(name)))
        logits = predict(images.clone().requires_grad_(True))
    # Different weights: those of classes may cancel in a plain sum.
    total = (logits * torch.arange(1, logits.shape[1] + 1, device=logits.device)).sum()
    tensors = [output for _, _, output in seen]
    slopes: tuple[Tensor | None, ...] = (None,) * len(seen)
    if total.requires_grad and tensors:
        slopes = torch.autograd.grad(total, tensors, allow_unused=True)
    outputs = []
    for (name, module, output), slope in zip(seen, slopes, strict=True):
        positions = grid(network, output)
        at_places = None if slope is None else grid(network, slope)
        if positions is not None:
            size = (positions.shape[2], positions.shape[3])
            weighted = any(parameter.dim() > 1 for parameter in module.parameters())
            matters = at_places is not None and bool(at_places.any())
            outputs.append(_Output(MapLayer(name, size), weighted, matters))
    return outputs


@contextmanager
def cut_at(network: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """Begin gradients at the outputs of module `name`, which are appended to the list."""
    outputs: list[Tensor] = []

    def begin(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        outputs.append(output.detach().requires_grad_(True))
        # A copy: what follows may change it in place.
        return outputs[-1].clone()

    hook = network.get_submodule(name).register_forward_hook(begin)
    try:
        yield outputs
    finally:
        hook.remove()


def grid(network: nn.Module, output: Tensor) -> Tensor | None:
    """An output for images as (B,C,h,w); None where it is not spatial, or a single position.

    Also channels last (B,h,w,C), as some transformers have them, and tokens (B,N,C), of which the
    first may have no position.
    """
    if output.dim() == 4:
        _, first, second, third = output.shape
        # Channels are more than columns; images that are no squares have other columns than rows.
        if first == second < third:
            output = output.permute(0, 3, 1, 2)
        return output if min(output.shape[2:]) > 1 else None
    if output.dim() != 3:
        return None
    count = output.shape[1]
    rows, columns = getattr(getattr(network, "patch_embed", None), "grid_size", None) or (0, 0)
    if rows > 1 and columns > 1 and count - rows * columns in (0, 1, 2, 4, 5):
        # Behind a class token, a token of distillation, registers.
        tokens: Tensor = output[:, count - rows * columns :].transpose(1, 2)
        return tokens.reshape(*tokens.shape[:2], rows, columns)
    side = math.isqrt(count)
    first = getattr(network, "num_prefix_tokens", count - side**2)
    side = math.isqrt(max(count - first, 0))
    if side < 2 or first + side**2 != count:
        return None
    tokens = output[:, first:].transpose(1, 2)
    return tokens.reshape(*tokens.shape[:2], side, side)
