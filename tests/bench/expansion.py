"""How long a grid takes to become checked runs with keys: 100 to 100,000 runs.

    python -m tests.bench.expansion

Once with five seeds a cell, and once, harder, with one: every run is a configuration of its own.
"""

from __future__ import annotations

import sys
import time

from mixbench.experiments.sweep import expand

TARGET_SECONDS = 3.0


def main() -> int:
    """Measure and print; exit status 1 when 100,000 runs take longer than the target."""
    slowest = 0.0
    for seeds in (5, 1):
        for runs in (100, 1000, 10_000, 100_000):
            took = min(_seconds(runs, seeds) for _ in range(2))
            each = took / runs * 1e6
            print(f"{runs:7,} runs, {seeds} seeds a cell: {took:6.2f} s  {each:5.0f} us a run")
        slowest = max(slowest, took)
    print(f"target: at most {TARGET_SECONDS:.0f} s for 100,000")
    return 0 if slowest <= TARGET_SECONDS else 1


def _seconds(runs: int, seeds: int) -> float:
    cells = runs // seeds
    smoothings = min(cells, 10)
    decays = min(cells // smoothings, 20)
    alphas = cells // smoothings // decays
    spec = {
        "name": "large",
        "fixed": {"dataset": {"name": "fashion_mnist"}, "augmentation.name": "cutmix"},
        "grid": {
            "augmentation.alpha": [step / 1000 for step in range(1, alphas + 1)],
            "training.label_smoothing": [step / 100 for step in range(smoothings)],
            "training.weight_decay": [step / 10_000 for step in range(decays)],
        },
        "seeds": list(range(seeds)),
    }
    started = time.perf_counter()
    made = expand.expand(spec)
    took = time.perf_counter() - started
    assert len(made.runs) == len(set(made.keys)) == runs
    return took


if __name__ == "__main__":
    sys.exit(main())
