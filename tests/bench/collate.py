"""Mixing in a DataLoader's workers, end to end, beside timm and torchvision in the same run.

    python -m tests.bench.collate

Two workers collate and mix float32 images; the main process takes the batches. All libraries take
turns, and what is compared is the CPU time of the workers, so that the ratios hold on a busy
machine. "none" collates and mixes nothing.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, default_collate

from mixbench import augmentations
from mixbench.augmentations.integrations.dropin import Collate

SHAPES = ((32, 128, 300), (224, 32, 60))
"""Side, batch, batches a round."""
CLASSES, WORKERS = 100, 2
METHODS = ("mixup", "cutmix")
TIE = 0.97
"""Two that are this close can't be told apart here."""


def main() -> int:
    """Measure and print; exit status 1 where a peer is ahead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--share", type=float, default=1.0, help="of the batches of a round")
    options = parser.parse_args()
    behind = []
    for side, batch, most in SHAPES:
        batches = int(most * options.share)
        for method in METHODS:
            collates = _collates(method)
            data = _Images(side, batch * batches)
            took: dict[str, list[tuple[float, float]]] = {name: [] for name in collates}
            for _ in range(options.rounds):
                for name, collate in collates.items():
                    took[name].append(_seconds(data, batch, collate))
            cpu = {name: statistics.median(c for c, _ in times) for name, times in took.items()}
            wall = {name: min(w for _, w in times) for name, times in took.items()}
            for name in collates:
                ratios = [
                    other[0] / own[0]
                    for other, own in zip(took[name], took["mixbench"], strict=True)
                ]
                ratio = statistics.median(ratios)
                print(
                    f"{method}, {side} pixels, {name}: {1000 * cpu[name] / batches:.2f} ms of CPU "
                    f"a batch, {batch * batches / wall[name]:,.0f} images/s at best; mixbench is "
                    f"{ratio:.2f} times as fast",
                    flush=True,
                )
                if name not in ("mixbench", "none") and ratio < TIE:
                    behind.append(f"{method}, {side} pixels: {name} is ahead, {ratio:.2f}")
    for line in behind:
        print(f"missed: {line}")
    return 1 if behind else 0


class _Images(Dataset[Any]):
    def __init__(self, side: int, count: int) -> None:
        self.images = torch.rand(64, 3, side, side)
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.images[index % 64], index % CLASSES


def _collates(method: str) -> dict[str, Callable[[list[Any]], Any]]:
    from timm.data.mixup import Mixup
    from torchvision.transforms import v2

    alphas = {"mixup_alpha": float(method == "mixup"), "cutmix_alpha": float(method == "cutmix")}
    timm: Callable[..., Any] = Mixup(**alphas, num_classes=CLASSES)  # type: ignore[no-untyped-call]
    torchvision = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[method](num_classes=CLASSES)

    def by(mix: Callable[..., Any]) -> Callable[[list[Any]], Any]:
        return lambda samples: mix(*default_collate(samples))

    mix = augmentations.create(method)
    return {
        "mixbench": Collate(mix, CLASSES),
        "timm": by(timm),
        "torchvision": by(torchvision),
        "none": default_collate,
    }


def _seconds(
    data: Dataset[Any], batch: int, collate: Callable[[list[Any]], Any]
) -> tuple[float, float]:
    """Return the CPU time of the workers and the time on the clock."""
    loader = DataLoader(data, batch, num_workers=WORKERS, collate_fn=collate)
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for _ in loader:
        pass
    clock = time.perf_counter() - started
    del loader
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, clock


if __name__ == "__main__":
    sys.exit(main())
