"""How long detection boxes take: by the number of rectangles, through a chain, by method.

    python -m tests.bench.boxes

16 images of 256 x 256 pixels with 100 boxes each; each rectangle is of a random partner. Sixteen
times as many rectangles are to take at most 32 times as long (all pairs would take 256 times).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from mixbench import augmentations
from mixbench.augmentations import Paste
from mixbench.augmentations.plans.composite import chain

BATCH, BOXES, SIDE = 16, 100, 256
GRIDS = (1, 2, 4, 8, 16)
MOST_GROWTH = 32.0
METHODS = ("cutmix", "mixup", "fmix", "ricap", "mosaic")


def main() -> int:
    """Measure and print; exit status 1 when the time grows faster than the target."""
    targets = _targets(BOXES)
    took = {}
    for cells in GRIDS:
        took[cells] = _seconds(_grid(cells), targets)
        print(f"{cells * cells:4} rectangles: {1000 * took[cells]:7.1f} ms a batch")
    both = chain([_grid(8), _grid(8)])
    print(f"64 rectangles, then 64 again: {1000 * _seconds(both, targets):.1f} ms a batch")
    few = _targets(10)
    for name in METHODS:
        mix = augmentations.create(name, per_sample=True, prob=1.0)
        plan = mix.sample((BATCH, 3, SIDE, SIDE), generator=_seeded())
        print(f"{name}, 10 boxes an image: {1000 * _seconds(plan, few):.1f} ms a batch")
    growth = took[16] / took[4]
    print(f"growth from 16 to 256 rectangles: {growth:.1f}, target: at most {MOST_GROWTH:g}")
    return 0 if growth <= MOST_GROWTH else 1


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _targets(count: int) -> list[dict[str, Any]]:
    corners = torch.rand(BATCH, count, 2, generator=_seeded()) * (SIDE - 40)
    return [
        {"boxes": torch.cat([corner, corner + 40], dim=1), "labels": torch.arange(count)}
        for corner in corners
    ]


def _grid(cells: int) -> Paste:
    """Cells of equal size, with a gap of one pixel above and left of each."""
    step = SIDE // cells
    edges = range(0, SIDE, step)
    target = torch.tensor([[y + 1, x + 1, y + step, x + step] for y in edges for x in edges])
    partner = torch.randint(0, BATCH, (BATCH, cells * cells), generator=_seeded())
    return Paste((SIDE, SIDE), target.expand(BATCH, -1, -1), partner)


def _seconds(plan: Any, targets: list[dict[str, Any]]) -> float:
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        plan.mix_boxes(targets)
        best = min(best, time.perf_counter() - started)
    return best


if __name__ == "__main__":
    sys.exit(main())
