"""The optimiser of a training, from groups of parameters with learning rates of their own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import SGD, AdamW, Optimizer

from mixbench.experiments.config.training import TrainingConfig


class _Eager:
    """A part of torch's optimisers without its compiler.

    Its import, at the first use of any of these, takes as long as that of torch itself, and no
    training here is compiled. Results are the same.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)


class EagerSGD(_Eager, SGD):
    """torch's SGD, without its compiler."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        return _SGD_STEP(self, closure)


class EagerAdamW(_Eager, AdamW):
    """torch's AdamW, without its compiler."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        return _ADAM_STEP(self, closure)


def eager_lamb(groups: list[dict[str, Any]], **options: Any) -> Optimizer:
    """Return timm's Lamb, without torch's compiler; timm's optimisers are imported here."""
    from timm.optim import Lamb  # type: ignore[attr-defined]

    class EagerLamb(_Eager, Lamb):
        """timm's Lamb, without torch's compiler."""

    return EagerLamb(groups, **options)


_SGD_STEP: Callable[..., float | None] = inspect.unwrap(SGD.step)
_ADAM_STEP: Callable[..., float | None] = inspect.unwrap(AdamW.step)


def optimiser_for(groups: list[dict[str, Any]], training: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that `training` asks for; of sam, the one that makes its steps.

    groups: as torch takes them; `scale` in one of them multiplies its learning rate.
    """
    rate, decay = training.learning_rate, training.weight_decay
    if training.base_optimiser == "adamw":
        return EagerAdamW(groups, lr=rate, weight_decay=decay, fused=True)
    if training.base_optimiser == "lamb":
        return eager_lamb(groups, lr=rate, weight_decay=decay)
    return EagerSGD(
        groups,
        lr=rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=decay,
        fused=True,
    )


def begin_momentum(optimiser: torch.optim.Optimizer) -> None:
    """Give parameters that have just been unfrozen a momentum of 0.

    torch's fused SGD needs a group in which all have a momentum, or none has.
    """
    if not isinstance(optimiser, torch.optim.SGD):
        return
    for group in optimiser.param_groups:
        for parameter in group["params"] if group["momentum"] else ():
            if parameter.requires_grad and "momentum_buffer" not in optimiser.state[parameter]:
                optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
