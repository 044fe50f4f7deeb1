"""What each faster path of mixing on a CPU gains in a whole training; one below 1% is to go.

    python -m tests.bench.paths
    python -m tests.bench.paths --turns 100 --out results/benchmarks/paths.md

Two settings, each with one thread, as a worker has it:
- a step of the demo: 128 images of 28 x 28, small_cnn of width 12, forward, backward and update;
- a batch of a DataLoader's worker: 32 JPEG files decoded, cropped to 224 x 224, normalised,
  stacked and mixed by `Collate`, which is all that it does.
A path and the code without it take turns, with the same random numbers. The gain is the median
difference of their mixing, in CPU time, over the median time of the whole step or batch.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import pixels
from mixbench.augmentations.integrations.dropin import Collate
from mixbench.augmentations.pixels import eager, host
from mixbench.augmentations.sampling import top_k_mask
from mixbench.experiments.config.schema import ModelConfig
from mixbench.experiments.data.crops import prepare
from mixbench.experiments.models.build import build
from mixbench.experiments.store import provenance

LEAST = 0.01
STEP, BATCH = "step at 28", "batch at 224"
Timed = Callable[[], tuple[float, float]]
"""Takes a step, or makes a batch; the seconds of mixing and of all of it."""


@dataclass(frozen=True)
class SpeedPath:
    """One path, where it is used, and what takes its place to see what it gains."""

    name: str
    setting: str
    method: dict[str, Any]
    without: tuple[Any, str, Any]


def paths() -> list[SpeedPath]:
    """Every path that is there for speed alone."""
    no_host = (pixels, "on_host", lambda _: False)
    each = (host, "_paste_shared", _paste_each_of_shared)
    return [
        SpeedPath("host.paste", STEP, {"name": "cutmix"}, no_host),
        SpeedPath("host.paste", STEP, {"name": "ricap"}, no_host),
        SpeedPath("host.paste", BATCH, {"name": "cutmix", "per_sample": True}, no_host),
        SpeedPath("host.paste", BATCH, {"name": "ricap", "per_sample": True}, no_host),
        SpeedPath("host.paste", BATCH, {"name": "random_erasing"}, no_host),
        SpeedPath("host._paste_shared", STEP, {"name": "ricap"}, each),
        SpeedPath(
            "host.blend",
            BATCH,
            {"name": "mixup", "per_sample": True},
            (host, "blend", eager.blend),
        ),
        SpeedPath(
            "top_k_mask._mask_short_rows",
            STEP,
            {"name": "fmix", "per_sample": True},
            (top_k_mask, "top_k_mask", top_k_mask._by_rank),
        ),
        SpeedPath(
            "top_k_mask._mask_long_rows",
            BATCH,
            {"name": "fmix", "per_sample": True},
            (top_k_mask, "LONG", 1 << 30),
        ),
    ]


def _paste_each_of_shared(
    images: Tensor, target: Tensor, partner: Tensor, source: Tensor | None
) -> Tensor:
    shape = (images.shape[0], *target.shape)
    origins = None if source is None else source.expand(shape)
    return host._paste_each(images, target.expand(shape), partner, origins)


def main() -> int:
    """Measure, print and write; exit status 1 when a path gains less than 1% everywhere."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=40, help="of each path, with and without it")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/paths.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    best: dict[str, float] = {}
    rows = []
    for path in paths():
        mix = augmentations.create(**path.method)
        timed = _training_step(mix) if path.setting == STEP else _loaded_batch(mix)
        difference, whole = _compared(timed, path.without, options.turns)
        gain = difference / whole
        best[path.name] = max(best.get(path.name, 0.0), gain)
        mode = "per sample" if mix.per_sample else "per batch"
        rows.append(
            f"| `{path.name}` | {mix.name}, {mode} | {path.setting} | {whole * 1e3:.1f} ms "
            f"| {difference * 1e3:+.2f} ms | {gain:+.1%} |"
        )
        print(rows[-1], flush=True)
    useless = [name for name, gain in best.items() if gain < LEAST]
    options.out.write_text(_page(rows, options.turns), encoding="utf-8")
    for name in useless:
        print(f"missed: {name} gains less than {LEAST:.0%}")
    return 1 if useless else 0


def _compared(timed: Timed, without: tuple[Any, str, Any], turns: int) -> tuple[float, float]:
    """Seconds that mixing takes longer without the path, and seconds of the whole with it."""
    differences, wholes = [], []
    for turn in range(turns + 2):
        mixing = {}
        # Another one begins each time.
        for is_used in (True, False) if turn % 2 else (False, True):
            torch.manual_seed(turn)
            if is_used:
                mixing[is_used], whole = timed()
                wholes.append(whole)
            else:
                with mock.patch.object(*without):
                    mixing[is_used], _ = timed()
        differences.append(mixing[False] - mixing[True])
    # The first turns warm up.
    return statistics.median(differences[2:]), statistics.median(wholes[2:])


def _training_step(mix: augmentations.Method) -> Timed:
    raw = torch.randint(256, (128, 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (128,))
    mean, std = torch.tensor([0.286]), torch.tensor([0.353])
    config = ModelConfig(name="small_cnn", width=12)
    network = build(config, channels=1, classes=10, size=28, seed=0)
    network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(
        network.parameters(), lr=0.1, momentum=0.9, nesterov=True, fused=True
    )

    def step() -> tuple[float, float]:
        started = time.process_time()
        images = prepare(raw, mean, std, channels_last=True)
        before = time.process_time()
        batch = mix(images, labels, 10)
        mixing = time.process_time() - before
        loss = batch.targets.cross_entropy(network(batch.images))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return mixing, time.process_time() - started

    return step


def _loaded_batch(mix: augmentations.Method) -> Timed:
    from PIL import Image
    from torchvision.transforms import v2

    collate = Collate(mix, num_classes=1000)
    transform = v2.Compose(
        [
            v2.PILToTensor(),
            v2.RandomResizedCrop(224, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5] * 3, [0.25] * 3),
        ]
    )
    files = [_jpeg() for _ in range(32)]

    def batch() -> tuple[float, float]:
        started = time.process_time()
        samples = [
            (transform(Image.open(io.BytesIO(file)).convert("RGB")), label)
            for label, file in enumerate(files)
        ]
        before = time.process_time()
        collate(samples)
        ended = time.process_time()
        return ended - before, ended - started

    return batch


def _jpeg() -> bytes:
    """A smooth picture of 256 x 256 pixels."""
    from PIL import Image

    coarse = torch.rand(1, 3, 16, 16)
    fine = torch.nn.functional.interpolate(coarse, size=(256, 256), mode="bicubic")
    content = io.BytesIO()
    values = fine[0].clamp(0, 1).mul(255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(values).save(content, "JPEG", quality=90)
    return content.getvalue()


def _page(rows: list[str], turns: int) -> str:
    device = provenance.device_name(torch.device("cpu"))
    return "\n".join(
        [
            "# What the faster paths of mixing gain",
            "",
            f"`python -m tests.bench.paths` on {device}, {os.cpu_count()} cores, torch "
            f"{torch.__version__}, Python {platform.python_version()}: CPU time of",
            f"one thread, medians of {turns} turns with and without the path, with the same random "
            "numbers. The gain is",
            "what mixing takes longer without the path, as a share of the whole: a training step "
            "of the demo (small_cnn,",
            "128 images of 28 x 28), or a batch of a DataLoader's worker (32 JPEG files decoded, "
            "cropped to 224 x 224,",
            "stacked, mixed). A path that gains less than 1% everywhere is deleted.",
            "",
            "| path | method | whole | takes | without it | gain |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
