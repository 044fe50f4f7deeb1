"""Mixing inside a network: a plan with a depth, applied to the output of one of its layers.

    with augmentations.mixing_inside(model, batch.plan):
        logits = model(batch.images)

Any network will do: a forward hook is put on the layer and taken away again. Which modules count
as layers is found from the modules' structure: of all sequences of modules (a `Sequential`, a
`ModuleList`, attributes that are numbered as `layer1`, `layer2`), the outermost that holds most of
the network's convolutions and linear layers: the stages of a residual network, the blocks of a
transformer. In a plain sequence of convolutions a layer reaches from one to the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mixbench.augmentations.parameters import nearest
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import stages_of

WHOLE = 0.8
"""A module that holds more of its sequence than this is no layer of many: it is looked into."""


@contextmanager
def mixing_inside(
    model: nn.Module, plan: Plan, layers: Sequence[str] | None = None
) -> Iterator[None]:
    """Within the context, the output of the plan's layer goes through `plan.mix_features`.

    Does nothing for a plan of depth 0, which has mixed the images. `model`: the network, or one
    wrapped in DistributedDataParallel. `layers`: the names of the modules that are depth 1, 2, ...
    as in `model.named_modules()`; None: as `layer_names` finds them. The output must be a tensor
    with the batch first. A network that recomputes activations in the backward pass (checkpointing)
    needs that inside the context too.
    Raises ValueError, which names the layers that exist, where there is no such layer or its output
    is no tensor, and for a network of `torch.compile` that was told not to look for new hooks;
    RuntimeError at the end if the layer did not run.
    """
    deep = [stage for stage in stages_of(plan) if stage.depth > 0]
    if not deep:
        yield
        return
    if isinstance(model, nn.parallel.DistributedDataParallel):
        model = model.module
    _refuse_stale_hooks(model)
    names = checked_layers(model, max(stage.depth for stage in deep), layers)
    ran: set[str] = set()
    with ExitStack() as hooks:
        # By depth; stages of the same depth are applied in their order.
        for stage in deep:
            name = names[stage.depth - 1]
            hook = _hook(name, stage, ran)
            hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
        yield
    for stage in deep:
        name = names[stage.depth - 1]
        if name not in ran:
            raise RuntimeError(
                f"mixing_inside: layer {name!r} did not run, so nothing was mixed there although "
                "the labels were (was the network compiled?)"
            )


def checked_layers(
    model: nn.Module, deepest: int, layers: Sequence[str] | None = None
) -> tuple[str, ...]:
    """The names of the layers at depth 1, 2, ...; arguments and ValueError as in `mixing_inside`.

    deepest: at least so many are needed.
    """
    names = layer_names(model) if layers is None else tuple(layers)
    if layers is not None:
        known = {name for name, _ in model.named_modules() if name}
        for name in names:
            if name not in known:
                raise ValueError(
                    f"layers: the network has no module {name!r}{nearest(name, known)} "
                    f"Its layers: {_listed(layer_names(model))}"
                )
    if deepest > len(names):
        raise ValueError(
            f"depth {deepest}: expected at most {len(names)}, the network's layers: "
            f"{_listed(names)}"
        )
    return names


def layer_names(model: nn.Module) -> tuple[str, ...]:
    """The names of the modules whose outputs are at depth 1, 2, ..., found from the structure."""
    # The first of the largest: an outer one comes before those within it.
    sequences = list(_sequences(model, ""))
    size, names = max(sequences, key=lambda sequence: sequence[0], default=(0, ()))
    # Less than half of the network is a detail of it.
    return names if 2 * size >= _weights(model) else ()


def _sequences(module: nn.Module, prefix: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every sequence of layers in `module`: how many weights it holds, and the layers' names."""
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
    """The children after which a layer ends: before the next one with weights, or at the end."""
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
    """How many modules hold a weight of at least two axes: convolutions, linear layers, attention.

    Counted in modules, not in numbers: the classifier of an old network has most of the numbers.
    """
    return sum(
        any(parameter.dim() > 1 for parameter in inner.parameters(recurse=False))
        for inner in module.modules()
    )


def _refuse_stale_hooks(model: nn.Module) -> None:
    if not hasattr(model, "_orig_mod"):
        return
    import torch._dynamo.config

    if torch._dynamo.config.skip_nnmodule_hook_guards:
        raise ValueError(
            "mixing_inside: expected a network whose compiled code notices hooks: set "
            "torch._dynamo.config.skip_nnmodule_hook_guards = False before its first run"
        )


def _hook(name: str, plan: Plan, ran: set[str]) -> Any:
    def mix(_module: nn.Module, _arguments: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"layer {name!r}: expected a tensor as its output, got {type(output).__name__}; "
                "name other layers"
            )
        ran.add(name)
        return plan.mix_features(output)

    return mix


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return shown or "none found; name them with layers="
