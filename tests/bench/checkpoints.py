"""What part of the training time goes into checkpoints, at the default interval.

    python -m tests.bench.checkpoints

For a small network, whose checkpoint costs nothing, and for a large one (11 million weights), whose
checkpoints come less often so that they stay below their share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mixbench.experiments.config import resolve
from mixbench.experiments.data.load import load
from mixbench.experiments.models.build import build
from mixbench.experiments.signals import Stopped
from mixbench.experiments.store import checkpoint
from mixbench.experiments.training import loop

TARGET = 0.02


def main() -> int:
    """Measure and print; exit status 1 when a share is above the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=100.0, help="of training, each network")
    options = parser.parse_args()
    worst = 0.0
    for name in ("small_cnn", "timm/resnet18"):
        share, count, megabytes = _share(name, options.seconds)
        worst = max(worst, share)
        print(
            f"{name:14} {count} checkpoints of {megabytes:.1f} MB in {options.seconds:.0f} s: "
            f"{share:.2%} of the time (target: below 2%)"
        )
    return 0 if worst < TARGET else 1


def _share(name: str, seconds: float) -> tuple[float, int, float]:
    made = resolve.parse(
        {
            "dataset": {"name": "digits", "image_size": 32},
            "model": {"name": name},
            "training": {"epochs": 100_000},
        }
    )
    dataset = load(made.dataset)
    network: nn.Module = build(made.model, channels=1, classes=10, size=32, seed=0)
    took = []
    save = checkpoint.save

    def timed(folder: Path, state: dict[str, Any]) -> None:
        started = time.perf_counter()
        save(folder, state)
        took.append(time.perf_counter() - started)

    started = time.monotonic()
    checkpoint.save = timed
    with tempfile.TemporaryDirectory() as scratch:
        try:
            loop.train(
                network,
                dataset,
                made,
                torch.device("cpu"),
                Path(scratch),
                lambda *_, **__: None,
                stopping=lambda: time.monotonic() - started > seconds,
            )
        except Stopped:
            size = (Path(scratch) / checkpoint.NEWEST).stat().st_size
        finally:
            checkpoint.save = save
    # The last one is the end's, not the interval's.
    return sum(took[:-1]) / seconds, len(took) - 1, size / 1e6


if __name__ == "__main__":
    sys.exit(main())
