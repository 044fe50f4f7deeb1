"""Move the blocks of an image so that its salient ones lie where a mask shows them."""

from __future__ import annotations

import torch
from torch import Tensor


def transport_blocks(
    shown: Tensor, saliency: Tensor, distance_cost: float, rounds: int | None = None
) -> Tensor:
    """Assign blocks to places: near ones, and salient ones to places that are shown.

    Moving block i to place j costs distance_cost times their squared distance, in units of the
    grid's side, less the block's saliency if j is shown. In each round every block takes the place
    that costs least; where several want one, it goes to the one for which it costs least, and the
    others pay 1 more for it from then on (Kim et al. 2020, algorithm 1). A place that no block has
    after the last round keeps its own.

    Args:
        shown: (B, n, n) float32, above 0 where the mask shows the image.
        saliency: (B, n, n) float32, of each block, with the sum 1.
        distance_cost: The cost of a move along a side of the grid.
        rounds: How many rounds there are; None for n.

    Returns:
        (B, n * n) int64, the block that each place shows.
    """
    side = shown.shape[1]
    count = side * side
    number = torch.arange(count, device=shown.device)
    row, column = torch.div(number, side, rounding_mode="floor"), number % side
    squared = (row.unsqueeze(1) - row).square() + (column.unsqueeze(1) - column).square()
    far = distance_cost * squared.float() / max(side - 1, 1) ** 2
    cost = far - saliency.reshape(-1, count, 1) * (shown.reshape(-1, 1, count) > 0).float()
    taken = number.expand(cost.shape[0], -1)
    for _ in range(side if rounds is None else rounds):
        least, wanted = cost.min(dim=2)
        bids = torch.full_like(cost, torch.inf).scatter_(2, wanted.unsqueeze(2), least.unsqueeze(2))
        lowest, winner = bids.min(dim=1)
        taken = torch.where(lowest.isfinite(), winner, number)
        lost = winner.gather(1, wanted) != number
        cost = cost.scatter_add(2, wanted.unsqueeze(2), lost.float().unsqueeze(2))
    return taken
