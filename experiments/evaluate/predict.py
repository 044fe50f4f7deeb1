"""Logits of a network over batches, in evaluation mode and full precision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@torch.inference_mode()
def logits_of(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits (N, K) float32 and labels (N,) int64 of all `batches` of normalised images.

    The network is left in evaluation mode.
    """
    network.eval()
    pairs: list[tuple[Any, Any]] = [
        (network(images).float().cpu(), labels.cpu()) for images, labels in batches
    ]
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()
