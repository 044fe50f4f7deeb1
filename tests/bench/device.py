"""The kernels on a GPU, beside `out.copy_(x)` and the eager code of the same run.

    python -m tests.bench.device
    python -m tests.bench.device --json results/benchmarks/device.json

Everything is captured in a CUDA graph and replayed, so that what the host costs is left out; each
call in a graph has an input of its own, so that no cache holds it. A method's time is that of the
pixels (with the mask read, where there is one); "a call" draws the plan and mixes images and labels
too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import pixels

MASKED = ("fmix", "smoothmix", "gridmix", "cowmask")
METHODS = ("mixup", "cutmix", "cutout", "random_erasing", "ricap", "resizemix", *MASKED)
LARGE, SMALL = (256, 3, 224, 224), (512, 3, 32, 32)
MOST_COPIES, MOST_COPIES_MASKED = 1.25, 2.0
MOST_MICROSECONDS = 40.0
SETS = 4


def main() -> int:
    """Measure and print; exit status 1 when a target is missed, 0 without a GPU."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing was measured")
        return 0
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "pixels": [],
        "calls": [],
    }
    print(f"{found['device']}, torch {found['torch']}, bfloat16, per sample")
    print(f"{'pixels':16}{'shape':18}{'format':10}{'us':>9}{'x copy':>8}{'eager':>8}{'MiB':>7}")
    for shape in (LARGE, SMALL):
        for layout in (torch.contiguous_format, torch.channels_last):
            found["pixels"] += measured_pixels(shape, layout)
    print(f"\n{'a call':16}{'shape':18}{'us':>9}")
    found["calls"] = measured_calls()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    missed = missed_targets(found)
    print(f"missed: {'; '.join(missed)}" if missed else "all targets met")
    return 1 if missed else 0


def measured_pixels(shape: tuple[int, ...], layout: torch.memory_format) -> list[dict[str, Any]]:
    """Every method's mix of images of this shape, beside the copy and the eager code."""
    inputs = [
        torch.randn(shape, device="cuda", dtype=torch.bfloat16).contiguous(memory_format=layout)
        for _ in range(SETS)
    ]
    outputs = [torch.empty_like(images) for images in inputs]
    copy = graph_time([lambda o=o, x=x: o.copy_(x) for o, x in zip(outputs, inputs, strict=True)])
    del outputs
    form = "last" if layout == torch.channels_last else "first"
    rows = [{"method": "copy", "shape": shape, "channels": form, "us": copy, "x_copy": 1.0}]
    print(f"{'copy':16}{shape!s:18}{form:10}{copy:9.1f}{1:8.2f}")
    for name in METHODS:
        plans = [_plan(name, shape) for _ in inputs]
        calls = [lambda p=p, x=x: p.mix_images(x) for p, x in zip(plans, inputs, strict=True)]
        ours = graph_time(calls)
        peak = _peak(calls[0])
        pixels.EAGER = True
        eager = graph_time(calls)
        pixels.EAGER = False
        rows.append(
            {
                "method": name,
                "shape": shape,
                "channels": form,
                "us": ours,
                "x_copy": ours / copy,
                "x_copy_eager": eager / copy,
                "peak_mib": peak,
            }
        )
        print(
            f"{name:16}{shape!s:18}{form:10}{ours:9.1f}{ours / copy:8.2f}{eager / copy:8.2f}"
            f"{peak:7.0f}"
        )
    return rows


def measured_calls() -> list[dict[str, Any]]:
    """A whole call at the small shape: draws, images and labels."""
    inputs = [torch.randn(SMALL, device="cuda", dtype=torch.bfloat16) for _ in range(SETS)]
    labels = torch.arange(SMALL[0], device="cuda") % 10
    rows = []
    for name in METHODS:
        mix = augmentations.create(name, per_sample=True)
        spent = graph_time([lambda x=x, mix=mix: mix(x, labels).images for x in inputs])
        rows.append({"method": name, "shape": SMALL, "us": spent})
        print(f"{name:16}{SMALL!s:18}{spent:9.1f}")
    return rows


def missed_targets(found: dict[str, Any]) -> list[str]:
    """What is slower than it should be."""
    missed = []
    for row in found["pixels"]:
        most = MOST_COPIES_MASKED if row["method"] in MASKED else MOST_COPIES
        if row["shape"] == LARGE and row["x_copy"] > most:
            missed.append(f"{row['method']} ({row['channels']}) {row['x_copy']:.2f} copies")
        if row["shape"] == SMALL and row["us"] > MOST_MICROSECONDS:
            missed.append(f"{row['method']} ({row['channels']}) {row['us']:.0f} us")
    return missed


def graph_time(calls: list[Callable[[], Tensor]], rounds: int = 5, replays: int = 30) -> float:
    """Microseconds of one call: the median replay of a graph of `rounds` times all of them."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls * 2:
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(rounds):
            for call in calls:
                call()
    for _ in range(3):
        graph.replay()
    times = []
    for _ in range(replays):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return 1000 * statistics.median(times) / (rounds * len(calls))


def _peak(call: Callable[[], Tensor]) -> float:
    """MiB that a call takes beyond what there is, its result among them."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def _plan(name: str, shape: tuple[int, ...]) -> augmentations.Plan:
    return augmentations.create(name, per_sample=True).sample(shape, device="cuda")


if __name__ == "__main__":
    sys.exit(main())
