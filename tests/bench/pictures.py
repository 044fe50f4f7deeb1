"""Epochs of a folder of photographs: from the cache of decoded pictures, and decoded each time.

    python -m tests.bench.pictures

2,000 JPEG files of 500 x 375 pixels are made for it. An epoch is what a training gets: random
crops, stacked into batches, on one thread. Both are measured in this call, so that the ratio holds
on a noisy machine. Memory is that of the process without the pages of files, which the system takes
back as it likes, and with them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PICTURES, SIDES = 2000, (500, 375)
TARGET = 5.0
LIMIT = 32 * 2**20
"""Bytes that later epochs may add to those of the first."""


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    import torch

    from mixbench.experiments.data import folder_pixels, picture_cache

    torch.set_num_threads(1)
    folder_pixels.IN_MEMORY_BYTES = 0
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MIXBENCH_CACHE"] = f"{scratch}/cache"
        root = Path(scratch, "photographs")
        size = _make(root, options.pictures)
        print(f"{options.pictures} JPEG files of {SIDES[0]} x {SIDES[1]}, {size / 1e6:.0f} MB")
        open_or_make = picture_cache.open_or_make
        picture_cache.open_or_make = lambda *_: None
        decoded = _load(root, options.image_size)
        picture_cache.open_or_make = open_or_make
        started = time.perf_counter()
        cached = _load(root, options.image_size)
        made = time.perf_counter() - started
        kept = sum(entry.size for entry in picture_cache.entries())
        print(f"cache: {kept / 1e6:.0f} MB, made in {made:.1f} s")
        # In turns: what else the machine does hits both.
        times: dict[str, list[float]] = {"decoded": [], "from the cache": []}
        memory = []
        for epoch in range(options.epochs):
            times["from the cache"].append(_epoch(cached, epoch))
            memory.append(_memory())
            times["decoded"].append(_epoch(decoded, epoch))
    images = len(decoded.train)
    for name, seconds in times.items():
        each = ", ".join(f"{second:.2f}" for second in seconds)
        print(f"epochs {name:15} {each} s  {images / min(seconds):6.0f} images/s")
    ratio = min(times["decoded"]) / min(times["from the cache"])
    grown = max(now for now, _ in memory) - memory[0][0]
    columns = zip(*memory, strict=True)
    own, mapped = (", ".join(f"{size / 1e6:.0f}" for size in column) for column in columns)
    print(f"memory after epochs from the cache: {own} MB; with the pages of files: {mapped} MB")
    print(f"cache over decoding: {ratio:.1f}x (target: at least {TARGET:g})")
    print(f"memory added by later epochs: {grown / 1e6:.1f} MB (target: at most {LIMIT / 1e6:.0f})")
    return 0 if ratio >= TARGET and grown <= LIMIT else 1


def _make(root: Path, count: int) -> int:
    """Write photographs: smooth shapes with some noise, as JPEG files compress them."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    size = 0
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = random.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        picture = np.asarray(Image.fromarray(small).resize(SIDES, Image.Resampling.BICUBIC))
        noise = random.integers(-12, 13, picture.shape)
        pixels = (picture + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=90)
        size += path.stat().st_size
    return size


def _load(root: Path, size: int) -> Any:
    from mixbench.experiments.config.schema import CROP_SCALE, DatasetConfig
    from mixbench.experiments.data.load import load

    config = DatasetConfig(name=f"imagefolder:{root}", image_size=size)
    return load(config, workers=0, crops=CROP_SCALE)


def _epoch(dataset: Any, seed: int) -> float:
    import torch

    from mixbench.experiments.config.schema import CROP_SCALE

    generator = torch.Generator().manual_seed(seed)
    started = time.perf_counter()
    for images, _ in dataset.train.epoch(128, generator, crops=CROP_SCALE):
        assert images.shape[1] == 3
    return time.perf_counter() - started


def _memory() -> tuple[int, int]:
    """Bytes of this process in memory: its own, and with the pages of files."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("RssAnon", "VmRSS"):
            found[name] = 1024 * int(value.split()[0])
    return found["RssAnon"], found["VmRSS"]


if __name__ == "__main__":
    sys.exit(main())
