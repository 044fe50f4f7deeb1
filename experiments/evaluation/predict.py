"""Run a network on batches, in evaluation mode and full precision: logits, or scores.

Where several ranks share the work, `batches` are every `size`-th one, and rank 0 gets the results
of all, in their order; the others get their own, which may be empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.metrics import losses
from mixbench.experiments.ranks import ALONE, Ranks

Batches = Iterable[tuple[Tensor, Tensor]]


def logits_of(
    network: nn.Module, batches: Batches, ranks: Ranks = ALONE
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits and labels of all `batches`. The network is left in evaluation mode.

    Args:
        network: From normalised images (B,C,H,W) to logits (B,K).
        batches: Normalised images and labels (B,).
        ranks: Who shares the work.

    Returns:
        Logits (N,K) float32 and labels (N,) int64.

    Raises:
        UserError: There is no image.
    """
    return outputs_of(network, batches, ranks)


@torch.inference_mode()
def outputs_of(
    network: nn.Module, batches: Batches, ranks: Ranks = ALONE
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Outputs and targets of all `batches`, whatever the task. Leaves evaluation mode on.

    Args:
        network: From normalised images (B,C,H,W) to outputs (B,...).
        batches: Normalised images and targets (B,...).
        ranks: Who shares the work.

    Returns:
        Outputs (N,...) float32 and targets (N,...) as they are.

    Raises:
        UserError: There is no image.
    """
    network.eval()
    pairs_here = [
        (network(images).float().cpu(), labels.cpu()) if len(labels) else None
        for images, labels in batches
    ]
    pairs = [pair for pair in ranks.interleave(pairs_here) if pair is not None]
    if not pairs:
        _not_on_rank_0(ranks)
        return np.empty((0, 0), np.float32), np.empty(0, np.int64)
    logits, labels = zip(*pairs, strict=True)
    return torch.cat(logits).numpy(), torch.cat(labels).numpy()


@torch.inference_mode()
def score(network: nn.Module, batches: Batches, ranks: Ranks = ALONE) -> dict[str, float]:
    """Accuracy and NLL over all `batches`; complete on rank 0 only.

    The same numbers, to the last digit, as from `logits_of`, without the memory for all logits:
    those of a million images and a thousand classes would take 4 GB.

    Args:
        network: From normalised images (B,C,H,W) to logits (B,K).
        batches: Normalised images and labels (B,).
        ranks: Who shares the work.

    Returns:
        `accuracy` from 0 to 1 and `nll` in nats.

    Raises:
        UserError: There is no image.
    """
    network.eval()
    scored: list[tuple[Tensor, Tensor] | None] = []
    for images, labels in batches:
        if not len(labels):
            scored.append(None)
            continue
        logits = network(images).float().cpu().numpy()
        truth = labels.cpu().numpy()
        hits = torch.from_numpy(logits.argmax(axis=1) == truth)
        scored.append((hits, torch.from_numpy(losses(logits, truth))))
    pairs = [pair for pair in ranks.interleave(scored) if pair is not None]
    if not pairs:
        _not_on_rank_0(ranks)
        return {}
    hits_of_all, losses_of_all = (torch.cat(part).numpy() for part in zip(*pairs, strict=True))
    return {"accuracy": float(hits_of_all.mean()), "nll": float(losses_of_all.mean())}


def _not_on_rank_0(ranks: Ranks) -> None:
    if ranks.leads:
        raise UserError("dataset: no image of a split can be read")
