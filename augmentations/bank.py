"""Earlier batches of a training, for methods that need them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
