"""Earlier batches of a training, for methods that need them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass
class Bank:
    """The last batch of a training, as its method remembers it; empty before the first step.

    Whoever trains owns it: one for each process, saved in checkpoints.

    Attributes:
        images: (B, C, H, W), floating point; None before the first step.
        labels: (B,) int64 or (B, num_classes) floating point; None before the first step.
        logits: (B, num_classes), what the network returned; None where the method keeps none.
    """

    images: Tensor | None = None
    labels: Tensor | None = None
    logits: Tensor | None = None

    def clear(self) -> None:
        """Forget everything."""
        self.images = self.labels = self.logits = None

    def state(self) -> dict[str, Tensor]:
        """Return what there is, on the CPU, for a checkpoint."""
        return {name: value.cpu() for name, value in vars(self).items() if value is not None}

    def restore(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Continue from `state`."""
        for name in vars(self):
            value = state.get(name)
            setattr(self, name, None if value is None else value.to(device))
