"""What a step updates: a network, with its optimiser and precision."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.schedule import Schedule
from mixbench.experiments.training.averaging import Averaging
from mixbench.experiments.training.optimiser import begin_momentum, optimiser_for
from mixbench.experiments.training.sharpness import Sharpness
from mixbench.experiments.training.swa import WeightAverage
from mixbench.experiments.transfer.freeze import Freezing
from mixbench.experiments.transfer.layers import Layers


@dataclass(frozen=True)
class Learner:
    """A network on its device, which of its layers are frozen, and what trains the others.

    half: the 16-bit type of mixed precision; None for float32 throughout.
    averaging: the moving average of the weights; None without `training.ema`.
    sharpness: None unless `training.optimiser` is sam.
    swa: the mean over the last epochs; None without `training.swa`.
    """

    network: nn.Module
    layers: Layers
    freezing: Freezing
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    device: torch.device
    half: torch.dtype | None
    averaging: Averaging | None = None
    sharpness: Sharpness | None = None
    swa: WeightAverage | None = None

    @classmethod
    def of(cls, network: nn.Module, config: RunConfig, device: torch.device) -> Learner:
        """Move `network` to `device` and prepare to train it.

        UserError for a layer to mix or freeze that the network doesn't have.
        """
        training = config.training
        layers = Layers.of(network, config.model.name)
        try:
            layers.check_depth(network, Schedule(config.augmentation, config.phases, 1, 1).deepest)
        except ValueError as error:
            raise UserError(f"augmentation: {config.model.name}: {error}") from None
        memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        # Two calls: the types of `Module.to` know device and memory format only apart.
        network.to(device).to(memory_format=memory_format)
        freezing = Freezing(network, layers, config.transfer)
        optimiser = optimiser_for(freezing.parameter_groups(), training)
        half = _half_type() if training.amp and device.type == "cuda" else None
        # bfloat16 has the range of float32: its gradients need no scaling.
        scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
        averaging = Averaging(network, training.ema) if training.ema else None
        sharpness = Sharpness.of(network, training, device)
        swa = WeightAverage.of(network, training)
        return cls(
            network, layers, freezing, optimiser, scaler, device, half, averaging, sharpness, swa
        )

    def precision(self) -> torch.autocast:
        """The precision of the forward passes of training; measurements are in full."""
        enabled = self.half is not None
        return torch.autocast(self.device.type, dtype=self.half, enabled=enabled)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step; groups of parameters scale it."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)

    def step(self, compute_loss: Callable[[], Tensor], share: float, number: int) -> Tensor:
        """Update the weights by the gradient of `share` times the loss; return the loss.

        compute_loss: A forward pass, always with the same mixed batch; SAM makes two.
        number: Of the step, from 0.
        """

        def backward() -> Tensor:
            loss = compute_loss()
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss if share == 1 else loss * share).backward()
            return loss.detach()

        loss = backward() if self.sharpness is None else self.sharpness.gradients(backward)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.averaging is not None:
            self.averaging.update(self.network, number)
        return loss

    def evaluated(self) -> contextlib.AbstractContextManager[None]:
        """In this block the network has the weights to measure: the last ones, or the average."""
        if self.averaging is None:
            return contextlib.nullcontext()
        return self.averaging.evaluated(self.network)

    def unfreeze(self, unfreezings: int) -> bool:
        """Apply so many unfreezings; did that change what is trained?"""
        changed = self.freezing.unfreeze(unfreezings)
        if changed:
            begin_momentum(self.optimiser)
        return changed

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            **({"ema": self.averaging.state()} if self.averaging is not None else {}),
            **(self.swa.state() if self.swa is not None else {}),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        if self.averaging is not None:
            self.averaging.restore(state["ema"])
        if self.swa is not None:
            self.swa.restore(state)


def _half_type() -> torch.dtype:
    native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16
