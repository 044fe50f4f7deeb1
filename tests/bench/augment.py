"""Mixing beside others' code: the targets of speed on this device, measured in one run.

    python -m tests.bench.augment
    python -m tests.bench.augment --threads 1 --seconds 4     # on a busy machine

Per-sample CutMix, MixUp, Cutout, RICAP and FMix are to be ahead of everyone who draws per sample,
batch mode no slower than the best of those who leave the images as they are; FMix with a mask per
sample ten times as fast as the authors' sampler; mixing below 3% of the demo's step. To those that
write into the images they are given (timm), the time of the copy that this saves them is added;
the table shows them without.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import torch

from mixbench import augmentations
from mixbench.experiments.benchmarks import augment, peers
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.data.crops import prepare
from mixbench.experiments.models.build import build

METHODS = ("cutmix", "mixup", "cutout", "ricap", "fmix")
SAMPLER, SHARE = 10.0, 0.03
TIE = 0.97
"""Two that are this close can't be told apart here."""


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each method and shape")
    parser.add_argument("--threads", type=int, default=0, help="of torch; default: its own choice")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    result = augment.measure(METHODS, augment.SHAPES, torch.device("cpu"), options.seconds)
    print(augment.table(result))
    print()
    missed = [*_peers(result["rows"]), *_sampler(options.seconds), *_share()]
    for line in missed:
        print(f"missed: {line}")
    return 1 if missed else 0


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    missed = []
    for shape in augment.SHAPES:
        for method in METHODS:
            for mode in ("sample", "batch"):
                chosen = [
                    r
                    for r in rows
                    if (tuple(r["shape"]), r["method"], r["mode"]) == (shape, method, mode)
                ]
                own = next(row for row in chosen if row["library"] == peers.OURS)
                copy = own["seconds"] / own["times_copy"]
                others = {
                    row["library"]: (row["seconds"] + copy * row["in_place"]) / own["seconds"]
                    for row in chosen
                    if row is not own and not (mode == "batch" and row["in_place"])
                }
                nearest = min(others, key=lambda name: others[name])
                line = (
                    f"{method}, {'per sample' if mode == 'sample' else 'one draw'}, "
                    f"{' x '.join(map(str, shape))}: {others[nearest]:.2f} times as fast as "
                    f"{nearest}"
                )
                print(line)
                if others[nearest] < TIE:
                    missed.append(line)
    return missed


def _sampler(seconds: float) -> list[str]:
    missed = []
    for batch, _, height, width in augment.SHAPES:
        mix = augmentations.create("fmix", per_sample=True)
        generator = torch.Generator().manual_seed(0)
        ours, theirs = augment.interleaved(
            [
                lambda: mix.sample((batch, 3, height, width), generator=generator),  # noqa: B023
                lambda: peers.official_fmix_masks(batch, height, width),  # noqa: B023
            ],
            torch.device("cpu"),
            seconds,
        )
        line = (
            f"fmix, {batch} masks of {height} x {width}: {ours * 1e3:.1f} ms, "
            f"{theirs / ours:.1f} times as fast as the authors' sampler (target: {SAMPLER:g})"
        )
        print(line)
        if theirs / ours < SAMPLER:
            missed.append(line)
    return missed


def _share() -> list[str]:
    """Mixing within whole training steps of the demo, as a worker takes them: one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    missed = []
    raw = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (128,))
    mean, std = torch.tensor([0.286]), torch.tensor([0.353])
    network = build(
        ModelConfig(name="small_cnn", width=12), channels=1, classes=10, size=28, seed=0
    )
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True
    )
    methods = {
        name: augmentations.create(name, **({"size": 14} if name == "cutout" else {}))
        for name in (*METHODS, "random_erasing")
    }
    mixing: dict[str, list[float]] = {name: [] for name in methods}
    steps: list[float] = []
    generators = {name: torch.Generator().manual_seed(0) for name in methods}
    for _ in range(20):
        for name, mix in methods.items():
            times: list[float] = []
            for _ in range(8):
                started = time.perf_counter()
                images = prepare(raw, mean, std, channels_last=True)
                before = time.perf_counter()
                plan = mix.sample(images.shape, generator=generators[name])
                mixed, targets = plan.mix_images(images), plan.mix_labels(labels, 10)
                times.append(time.perf_counter() - before)
                loss = targets.cross_entropy(network(mixed))
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                steps.append(time.perf_counter() - started)
            mixing[name].append(sum(times) / len(times))
    torch.set_num_threads(threads)
    step = augment.best(steps)
    for name, means in mixing.items():
        share = augment.best(means) / step
        line = (
            f"{name}: {share:.2%} of the demo's step of {step * 1e3:.1f} ms (target: {SHARE:.0%})"
        )
        print(line)
        if share > SHARE:
            missed.append(line)
    return missed


if __name__ == "__main__":
    sys.exit(main())
