"""Fit pretrained weights to a network, where that has one clear meaning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mixbench.experiments.config.models import without_tag
from mixbench.experiments.errors import UserError
from mixbench.experiments.transfer.layers import head_of

PARTS = ("module.", "model.", "network.", "encoder.", "backbone.")
"""What Lightning and others put before the names of a network within a larger module."""
SHOWN = 3
"""How many of the tensors that don't fit an error names."""


def fit_weights(
    network: nn.Module, state: dict[str, Tensor], *, model: str, keep_head: bool, hint: str = ""
) -> dict[str, Tensor]:
    """Return the part of `state` that `network` is to load: all of it but a new head, fitted.

    The network may be on the meta device: only its shapes count. A stem for other channels sums
    over colours for grey images, which is what the weights make of the grey image repeated for
    every colour, and shares a grey stem out evenly among the colours, which makes of a grey image
    repeated what they made of it once. Position embeddings of vision transformers are resampled
    for another size of image, as timm does it. UserError for anything else that is missing, too
    much or of another shape; `hint` is added to it.
    """
    heads = _heads(network)

    def relevant(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in tensors.items() if keep_head or not _in(name, heads)}

    wanted = relevant(network.state_dict())
    given = relevant(_without_prefix(state, wanted))
    stems = _stems(network)
    for name, value in given.items():
        if name not in wanted or value.shape == wanted[name].shape:
            continue
        adapted = value
        if name in stems:
            adapted = _for_channels(value, wanted[name].shape[1])
        elif name == "pos_embed":
            adapted = _resampled(network, value)
        # Where it does not help, the error is to show the shape that came.
        given[name] = adapted if adapted.shape == wanted[name].shape else value
    _check_shapes(given, wanted, model, heads, hint)
    return given


def _without_prefix(state: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights without the names of what the network was a part of, where that fits more.

    What stands beside a `backbone.` and is nothing of the network are old heads and projections.
    """
    for prefix in (*PARTS, *(outer + inner for outer in PARTS for inner in PARTS)):
        inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
        if len(inside.keys() & wanted.keys()) > len(state.keys() & wanted.keys()):
            may_drop = "backbone." in prefix
            beside = {
                n: v
                for n, v in state.items()
                if not n.startswith(prefix) and (n in wanted or not may_drop)
            }
            state = {**beside, **inside}
    return state


def _in(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)


def _heads(network: nn.Module) -> tuple[str, ...]:
    """The names of the classifier and of further ones that timm lists."""
    named: Any = (getattr(network, "pretrained_cfg", None) or {}).get("classifier")
    others = (named,) if isinstance(named, str) else tuple(named or ())
    return tuple(dict.fromkeys((head_of(network), *others)))


def _stems(network: nn.Module) -> tuple[str, ...]:
    """The names of the weights that take an image's channels."""
    named: Any = (getattr(network, "pretrained_cfg", None) or {}).get("first_conv")
    stems = (named,) if isinstance(named, str) else tuple(named or ())
    if not stems:
        convolutions = (
            name for name, module in network.named_modules() if isinstance(module, nn.Conv2d)
        )
        stems = tuple(convolutions)[:1]
    return tuple(f"{name}.weight" for name in stems)


def _for_channels(weight: Tensor, channels: int) -> Tensor:
    if weight.dim() == 4 and weight.shape[1] == 3 and channels == 1:
        return weight.sum(dim=1, keepdim=True)
    if weight.dim() == 4 and weight.shape[1] == 1 and channels == 3:
        return weight.expand(-1, 3, -1, -1) / 3
    return weight


def _resampled(network: Any, embedding: Tensor) -> Tensor:
    from timm.layers.pos_embed import resample_abs_pos_embed

    size = getattr(getattr(network, "patch_embed", None), "grid_size", None)
    tokens = getattr(network, "num_prefix_tokens", None)
    if size is None or tokens is None or embedding.dim() != 3:
        return embedding
    if getattr(network, "no_embed_class", False):
        tokens = 0
    patches = embedding.shape[1] - tokens
    if patches < 1 or math.isqrt(patches) ** 2 != patches:
        return embedding
    resampled: Tensor = resample_abs_pos_embed(
        embedding, new_size=list(size), num_prefix_tokens=tokens
    )
    return resampled


def _check_shapes(
    given: dict[str, Tensor],
    wanted: dict[str, Tensor],
    model: str,
    heads: tuple[str, ...],
    hint: str,
) -> None:
    """UserError unless names and shapes are the same."""
    shapes = {name: tuple(value.shape) for name, value in given.items()}
    expected = {name: tuple(value.shape) for name, value in wanted.items()}
    for name, shape in shapes.items():
        if name in expected and shape != expected[name] and _in(name, heads) and shape:
            raise UserError(
                f"transfer.head: keep needs weights for the data set's {expected[name][0]} "
                f"classes, got weights for {shape[0]}"
            )
    problems = [
        f"{name} is {_shown(shape)}, expected {_shown(expected[name])}"
        for name, shape in shapes.items()
        if name in expected and shape != expected[name]
    ]
    # Files of old versions of torch have no such counters, and nothing depends on them.
    problems += [
        f"{name}, {_shown(shape)}, is missing"
        for name, shape in expected.items()
        if name not in shapes and not name.endswith("num_batches_tracked")
    ]
    problems += [
        f"{name}, {_shown(shape)}, is too much"
        for name, shape in shapes.items()
        if name not in expected
    ]
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise UserError(
            f"transfer.weights: they don't fit {without_tag(model)}: "
            f"{'; '.join(problems[:SHOWN])}{more}{hint}"
        )


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape) or "a number"
