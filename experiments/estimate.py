"""How long runs will take: from runs that are done, else from a few steps timed here and now."""

from __future__ import annotations

import time
from typing import Any

from experiments.config import RunConfig
from experiments.store import PlannedRun


def from_results(plan: list[PlannedRun]) -> float | None:
    """Mean seconds of a run in this sweep, start to result; None before the first is done."""
    spent = []
    for planned in plan:
        result = planned.folder.result()
        if result:
            spent.append(result["provenance"]["finished"] - result["provenance"]["started"])
    return sum(spent) / len(spent) if spent else None


def by_timing(configs: list[RunConfig], threads: int, on_gpu: bool) -> float:
    """Seconds that all `configs` take one after the other on the first GPU, or on CPU threads.

    Times three training steps and a forward pass of each kind of network and batch on random
    pixels, so the data need not be there; the data set's catalogued size gives the steps.
    """
    import torch

    torch.set_num_threads(threads)
    device = torch.device("cuda" if on_gpu else "cpu")
    timed: dict[Any, tuple[float, float]] = {}
    total = 0.0
    for config in configs:
        kind = (config.model, config.dataset, config.training.batch_size)
        if kind not in timed:
            timed[kind] = _time(config, device)
        step, forward = timed[kind]
        train, test = _sizes(config)
        hidden = config.evaluation.occlusion
        occluded = (hidden.images or test) * (1 + len(hidden.shapes) * len(hidden.fractions))
        steps = config.training.epochs * -(-train // config.training.batch_size)
        share = config.dataset.validation_fraction
        validated = config.training.epochs * train * share / (1 - share)
        total += steps * step + (train + validated + test + occluded) * forward
    return total


def _time(config: RunConfig, device: Any) -> tuple[float, float]:
    """Seconds per training step, and per image of a forward pass."""
    import torch

    from experiments import data
    from experiments.models.build import build

    facts = data.info(config.dataset.name)
    size = config.dataset.image_size or facts.size
    network = build(
        config.model, channels=facts.channels, classes=facts.classes or 10, size=size, seed=0
    )
    network.to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    images = torch.randn(config.training.batch_size, facts.channels, size, size, device=device)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.zeros(len(images), dtype=torch.int64, device=device)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimiser.step()

    def forward() -> None:
        with torch.inference_mode():
            network(images)

    return _best_of(step, 3, device), _best_of(forward, 3, device) / len(images)


def _best_of(action: Any, times: int, device: Any) -> float:
    import torch

    best = float("inf")
    for _ in range(times + 1):
        started = time.perf_counter()
        action()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def _sizes(config: RunConfig) -> tuple[int, int]:
    from experiments import data

    facts = data.info(config.dataset.name)
    available = facts.train or 10_000
    taken = config.dataset.train_size or round(available * (config.dataset.train_fraction or 1.0))
    train = round(min(taken, available) * (1 - config.dataset.validation_fraction))
    return max(1, train), facts.test or 2_000
