"""The optimiser of a training, from groups of parameters with learning rates of their own."""

from __future__ import annotations

from typing import Any

import torch

from mixbench.experiments.config.schema import TrainingConfig


def optimiser_for(groups: list[dict[str, Any]], training: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser that `training` asks for.

    groups: as torch takes them; `scale` in one of them multiplies its learning rate.
    """
    if training.optimiser == "adamw":
        return torch.optim.AdamW(
            groups, lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
        )
    return torch.optim.SGD(
        groups,
        lr=training.learning_rate,
        momentum=training.momentum,
        nesterov=training.nesterov,
        weight_decay=training.weight_decay,
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
