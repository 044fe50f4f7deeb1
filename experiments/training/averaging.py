"""The moving average of a network's weights, by timm, and where it stands in for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from mixbench.experiments.config.training import EmaConfig


class Averaging:
    """timm's ModelEmaV3 of a network on its device: of parameters and of buffers.

    Of several ranks, each averages for itself: parameters are the same everywhere, and of the
    buffers those of rank 0 are given to all before they are used (`Ranks.align`).
    """

    def __init__(self, network: nn.Module, config: EmaConfig) -> None:
        from timm.utils import ModelEmaV3  # type: ignore[attr-defined]

        self._average = ModelEmaV3(network, decay=config.decay, use_warmup=config.warmup)
        self._evaluate = config.evaluate

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after `step`, from 0; those after the first one are the average."""
        self._average.update(network, step=step + 1)

    def parameters(self) -> dict[str, Tensor]:
        """Return the averages of the parameters, by name, as they are now."""
        return dict(self._average.module.named_parameters())

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return dict(self._average.module.state_dict())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Continue from `state`."""
        self._average.module.load_state_dict(state)

    @contextlib.contextmanager
    def evaluated(self, network: nn.Module) -> Iterator[None]:
        """Put the average into `network` in this block, if it is measured instead of it.

        In place, so that whatever holds a part of the network computes with the average too.
        """
        if self._evaluate == "beside":
            yield
            return
        tensors = list(network.state_dict().values())
        kept = [tensor.clone() for tensor in tensors]
        self.put_into(network)
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, kept, strict=True):
                    tensor.copy_(value)

    def put_into(self, network: nn.Module) -> None:
        """Overwrite the weights of `network` with the average."""
        network.load_state_dict(self.state())
