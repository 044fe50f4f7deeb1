"""Sharpness-aware minimisation: gradients of the worst weights near the present ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mixbench.experiments.config.training import SAM_RHO, TrainingConfig


class Sharpness:
    """SAM (Foret et al. 2021, arXiv:2010.01412): a step by the gradient at w + rho g / |g|.

    g is the gradient at the weights w, |g| its norm over all parameters that are trained. Both
    passes see the same mixed batch and the same dropout; what the second one changes in buffers,
    such as the statistics of batch normalisation, is undone. Several ranks share g, so they move to
    the same weights (not each to its own, as the paper's m-sharpness has it).
    """

    def __init__(self, network: nn.Module, rho: float, device: torch.device) -> None:
        self._network = network
        self._rho = rho
        self._device = device

    @classmethod
    def of(
        cls, network: nn.Module, training: TrainingConfig, device: torch.device
    ) -> Sharpness | None:
        """Return that of a training with `optimiser: sam`; None for others."""
        if training.optimiser != "sam":
            return None
        return cls(network, training.sam_rho or SAM_RHO, device)

    @torch.no_grad()
    def gradients(self, backward: Callable[[], Tensor]) -> Tensor:
        """Leave the gradients at the worst weights; return the loss of the first pass.

        backward: Leaves the gradients of a forward and backward pass, and returns its loss. They
            may all be scaled: only their direction counts.
        """
        random_states = self._random_states()
        with torch.enable_grad():
            loss = backward()
        trained = [each for each in self._network.parameters() if each.grad is not None]
        gradients = [each.grad for each in trained if each.grad is not None]
        scale = self._rho / (nn.utils.get_total_norm(gradients) + 1e-12)
        kept = [each.clone() for each in trained]
        buffers = list(self._network.buffers())
        kept_buffers = [each.clone() for each in buffers]
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.add_(gradient * scale)
            parameter.grad = None
        self._set_random_states(random_states)
        with torch.enable_grad():
            backward()
        # Copied back, as taking the step off again would round.
        for tensor, value in zip([*trained, *buffers], [*kept, *kept_buffers], strict=True):
            tensor.copy_(value)
        return loss

    def _random_states(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self._device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self._device))
        return states

    def _set_random_states(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self._device)
