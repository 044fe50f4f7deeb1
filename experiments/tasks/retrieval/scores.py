"""Recall among all pairs of a split, both ways."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

AT = (1, 5)
_ROWS = 1024


def recalls(embeddings: Tensor, same: Tensor) -> dict[str, float | None]:
    """Return recall@1 and @5 both ways with their means, and the NLL of the right one.

    What belongs to a query is found if it comes before all but k - 1 others; one that is as similar
    comes before it, so that a network that answers the same to all finds nothing. Pairs with the
    same number in `same` belong together.

    Args:
        embeddings: (N,2,E): of images, and of what belongs to them; products are similarities.
        same: (N,) int64.
    """
    images, others = embeddings[:, 0], embeddings[:, 1]
    found: dict[str, float | None] = {}
    losses = []
    for way, queries, items in (("second", images, others), ("first", others, images)):
        rank, loss = _ranks(queries, items, same)
        losses.append(loss)
        for k in AT:
            found[f"recall_at_{k}_to_{way}"] = float((rank < k).double().mean())
    for k in AT:
        both = [found[f"recall_at_{k}_to_{way}"] or 0.0 for way in ("second", "first")]
        found[f"recall_at_{k}"] = sum(both) / 2
    return {**found, "nll": float(torch.cat(losses).double().mean())}


def same_pairs(targets: Tensor) -> Tensor:
    """Number pairs (N,) by what belongs to the image: equal texts or images are one thing."""
    _, same = torch.unique(targets.flatten(1), dim=0, return_inverse=True)
    return cast(Tensor, same)


def _ranks(queries: Tensor, items: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """How many wrong items come before the first right one, and the loss: (N,) each."""
    ranks, losses = [], []
    for part, right in zip(queries.split(_ROWS), same.split(_ROWS), strict=True):
        similar = part @ items.T
        belongs = right[:, None] == same[None, :]
        best = similar.masked_fill(~belongs, -torch.inf).amax(dim=1, keepdim=True)
        ranks.append(((similar >= best) & ~belongs).sum(dim=1))
        losses.append(
            -torch.logsumexp(F.log_softmax(similar, 1).masked_fill(~belongs, -torch.inf), 1)
        )
    return torch.cat(ranks), torch.cat(losses)
