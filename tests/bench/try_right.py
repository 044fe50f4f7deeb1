"""How often `mixbench try` is right, on folders where the truth is known.

    python -m tests.bench.try_right [--minutes 5] [--tries 20] [--again FOLDER]

Three kinds of folders, made of Fashion-MNIST, each try with other images:

- `helps`: 600 pictures of ten classes to train with, which a small network learns by
  heart, and 3,000 to test on. In `main` CutMix gains 1.7 to 3.2 points in such trainings. Right:
  use a method.
- `nothing`: two classes that hardly any image is mistaken of (trousers and boots). Right: stay
  without mixing, or can't tell.
- `guess`: pictures of noise, whose classes say nothing. Right: can't be judged.

"Can't tell" counts as right only for `nothing`. Writes a line per try: kind, answer, right or not,
minutes kept. At least 18 of 20 are to be right, and no try is to take more than 1.1 times its
budget.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixbench.experiments.data.fetch import ensure
from mixbench.experiments.data.named import named_dataset

KINDS = ("helps", "nothing", "guess")
RIGHT = {
    "helps": ("Use ",),
    "nothing": ("Stay ", "Can't tell"),
    "guess": ("Can't be judged",),
}
EASY = (1, 9)
"""Trousers and boots."""


def make(kind: str, folder: Path, number: int) -> None:
    """Write the pictures of a try."""
    random = np.random.default_rng(number)
    arrays = named_dataset("fashion_mnist").read(ensure("fashion_mnist", verify=False))
    chosen = random.permutation(len(arrays.train_labels))
    if kind == "nothing":
        chosen = chosen[np.isin(arrays.train_labels[chosen], EASY)][:400]
    images, labels = arrays.train_images[chosen[:600]], arrays.train_labels[chosen[:600]]
    if kind == "guess":
        images = random.integers(0, 256, images.shape, dtype=np.uint8)
    if kind != "helps":
        _write(folder, images, labels)
        return
    _write(folder / "train", images, labels)
    _write(folder / "test", arrays.test_images[:3000], arrays.test_labels[:3000])


def _write(folder: Path, images: Any, labels: Any) -> None:
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.reshape(28, 28)).save(path)


def main() -> int:
    """Make the tries; return 1 where fewer than nine in ten are right, or one is too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--again", type=Path, help="where to work; tries that are there are kept")
    given = parser.parse_args()
    work = given.again or Path(tempfile.mkdtemp(prefix="mixbench-tries-"))
    print(f"in {work}", flush=True)
    right, late = 0, 0
    for number in range(given.tries):
        kind = KINDS[number % len(KINDS)]
        folder = work / "images" / f"{kind}{number}"
        if not folder.exists():
            make(kind, folder, number)
        began = time.monotonic()
        command = [sys.executable, "-m", "mixbench.experiments.cli", "try", str(folder)]
        done = subprocess.run(
            [*command, "--minutes", str(given.minutes)],
            env={**os.environ, "MIXBENCH_RUNS": str(work / "runs")},
            capture_output=True,
            text=True,
            check=False,
        )
        took = (time.monotonic() - began) / 60
        answer = work / "runs" / "tries" / f"try_{folder.name}" / "answer.txt"
        first = answer.read_text().splitlines()[0] if answer.is_file() else done.stderr.strip()
        is_right = first.startswith(RIGHT[kind])
        right += is_right
        late += took > 1.1 * given.minutes
        mark = "right" if is_right else "WRONG"
        print(f"{number:2} {kind:8} {mark}  {took:5.1f} min  {first}", flush=True)
    print(f"{right} of {given.tries} right, {late} took more than 1.1 times the budget")
    return int(right < 0.9 * given.tries or late > 0)


if __name__ == "__main__":
    sys.exit(main())
