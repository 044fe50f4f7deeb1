"""Mix inside a network: apply a plan with a depth to the output of one of its layers.

    with mixbench.mixing_inside(model, batch.plan):
        logits = model(batch.images)

This works for any network: it puts a forward hook on the layer and removes it at the end. The
layers are derived from the structure of the modules: of all sequences of modules (a `Sequential`,
a `ModuleList`, numbered attributes such as `layer1`, `layer2`), the outermost one that holds most
of the network's convolutions and linear layers. These are the stages of a residual network, or the
blocks of a transformer. In a plain sequence of convolutions, a layer reaches from one convolution
to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from mixbench.augmentations.networks.layers import layer_names
from mixbench.augmentations.parameters import nearest
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import stages_of

__all__ = ["checked_layers", "mixing_inside"]


@contextmanager
def mixing_inside(
    model: nn.Module, plan: Plan, layers: Sequence[str] | None = None
) -> Iterator[None]:
    """Mix the output of the plan's layer in the forward passes of this block.

    Does nothing for a plan of depth 0, which mixes the images. A network that recomputes
    activations in the backward pass (checkpointing) needs the backward pass inside the block too.

    Args:
        model: The network, also one wrapped in DistributedDataParallel.
        plan: A plan for the batch; `plan.depth` is the number of the layer.
        layers: The names of the modules at depth 1, 2, ..., as in `model.named_modules()`; None for
            those of `layer_names`. The layer's output must be a tensor whose first axis is the
            batch.

    Raises:
        ValueError: There is no such layer (the message lists those there are), its output is no
            tensor, or `torch.compile` compiled the network without checks for new hooks.
        RuntimeError: At the end of the block, if the layer did not run.

    Examples:
        >>> import mixbench, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
        >>> mix = mixbench.create("manifold_mixup", depths=[1])
        >>> plan = mix.sample((3, 1, 2, 2))
        >>> with mixbench.mixing_inside(model, plan):
        ...     logits = model(torch.rand(3, 4))
        >>> logits.shape
        torch.Size([3, 2])
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
    """Return the names of the layers at depth 1, 2, ..., after checking that they exist.

    Args:
        model: The network.
        deepest: How many layers are needed at least.
        layers: Names of modules, as in `model.named_modules()`; None for those of `layer_names`.

    Raises:
        ValueError: The network has no such module, or too few layers.
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
