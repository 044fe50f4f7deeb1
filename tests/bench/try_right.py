"""How often `mixbench try` is right, on folders where the truth is known.

    python -m tests.bench.try_right --minutes 2 --tries 20 --again FOLDER [--out TABLE.md]

Three kinds of folders, made of Fashion-MNIST, each try with other images:

- `helps`: 600 pictures of ten classes to train with, and 1,000 to test on, each with a piece of
  another picture pasted over a third of it. That is what CutMix trains for, and it is right on
  more of them by several points. Right: use a method.
- `nothing`: two classes that hardly any image is mistaken of (trousers and boots). Right: stay
  without mixing, or can't tell.
- `guess`: pictures of noise, whose classes say nothing. Right: can't be judged.

"Can't tell" counts as right only for `nothing`. With `--again` the script goes on where it was
stopped or killed: tries that are done stay, and one that was begun is gone on with. The table, a
row for each try, is written anew after each. At least 18 of 20 are to be right, and no try is to
take more than 1.1 times its budget. Twenty tries of two minutes take about 45 on two idle cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mixbench.experiments.data.by_name import named_dataset
from mixbench.experiments.data.fetch import ensure
from mixbench.experiments.store import provenance
from mixbench.experiments.store.files import atomic_write

KINDS = ("helps", "nothing", "guess")
RIGHT = {
    "helps": ("Use ",),
    "nothing": ("Stay ", "Can't tell"),
    "guess": ("Can't be judged",),
}
EASY = (1, 9)
"""Trousers and boots."""
COVERED = 1 / 3
LATE = 1.1


def make(kind: str, folder: Path, number: int) -> None:
    """Write the pictures of a try."""
    random = np.random.default_rng(number)
    arrays = named_dataset("fashion_mnist").read(ensure("fashion_mnist", verify=False))
    chosen = random.permutation(len(arrays.train_labels))
    if kind == "nothing":
        chosen = chosen[np.isin(arrays.train_labels[chosen], EASY)][:400]
    images, labels = arrays.train_images[chosen[:600]], arrays.train_labels[chosen[:600]]
    images = images.reshape(-1, 28, 28)
    if kind == "guess":
        images = random.integers(0, 256, images.shape, dtype=np.uint8)
    if kind != "helps":
        _write(folder, images, labels)
        return
    tests = random.permutation(len(arrays.test_labels))[:1000]
    _write(folder / "train", images, labels)
    covered = with_pieces(arrays.test_images[tests].reshape(-1, 28, 28), random)
    _write(folder / "test", covered, arrays.test_labels[tests])


def with_pieces(images: Any, random: np.random.Generator) -> Any:
    """Paste a piece of the next image over a third of each, somewhere inside."""
    height, width = images.shape[1:]
    tall, wide = (round(side * COVERED**0.5) for side in (height, width))
    pasted = images.copy()
    for number in range(len(images)):
        top, left = random.integers(0, height - tall + 1), random.integers(0, width - wide + 1)
        box = (slice(top, top + tall), slice(left, left + wide))
        pasted[number][box] = images[(number + 1) % len(images)][box]
    return pasted


def _write(folder: Path, images: Any, labels: Any) -> None:
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / str(label) / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def tried(work: Path, number: int, minutes: float) -> dict[str, Any]:
    """Do a try, or go on with it, and return its row."""
    kind = KINDS[number % len(KINDS)]
    folder = work / "images" / f"{kind}{number}"
    if not (folder / ".whole").exists():
        make(kind, folder, number)
        (folder / ".whole").touch()
    command = [sys.executable, "-m", "mixbench.experiments.cli", "try", str(folder)]
    done = subprocess.run(
        [*command, "--minutes", str(minutes)],
        env={**os.environ, "MIXBENCH_RUNS": str(work / "runs")},
        capture_output=True,
        text=True,
        check=False,
    )
    place = work / "runs" / "tries" / f"try_{folder.name}"
    lines = (place / "answer.txt").read_text().splitlines() if done.returncode == 0 else []
    first = lines[0] if lines else done.stderr.strip() or f"exit status {done.returncode}"
    record = json.loads((place / "try.json").read_text()) if (place / "try.json").is_file() else {}
    sure = [line.removeprefix("how sure: ") for line in lines if line.startswith("how sure: ")]
    because = [line.removeprefix("  - ") for line in lines if line.startswith("  - ")]
    return {
        "try": number,
        "truth": kind,
        "answer": first,
        "right": first.startswith(RIGHT[kind]),
        "sure": "; ".join([*because, *sure[:1]]),
        "minutes": record.get("spent", 0.0) / 60,
        "budget": minutes,
    }


def table(rows: list[dict[str, Any]], wanted: int, minutes: float) -> str:
    """Return all tries as Markdown."""
    right = sum(row["right"] for row in rows)
    late = sum(row["minutes"] > LATE * row["budget"] for row in rows)
    lines = [
        "# How often `mixbench try` is right",
        "",
        f"`python -m tests.bench.try_right --minutes {minutes:g} --tries {wanted}`, commit "
        f"{provenance.commit()}, {os.cpu_count()} CPU cores. What the three truths are: the script "
        "says so.",
        "",
        f"{right} of {len(rows)} right, {late} took more than {LATE} times the budget"
        + (f"; {wanted - len(rows)} are still to be done" if len(rows) < wanted else "")
        + ".",
        "",
        "| try | truth | answer | right | how sure | minutes of the budget |",
        "| --: | :-- | :-- | :-- | :-- | --: |",
    ]
    for row in rows:
        texts = [str(row[key]).replace("|", "\\|") for key in ("truth", "answer")]
        mark = "yes" if row["right"] else "**no**"
        sure = str(row["sure"]).replace("|", "\\|")
        time = f"{row['minutes']:.2f} of {row['budget']:g}"
        lines.append(f"| {row['try']} | {' | '.join(texts)} | {mark} | {sure} | {time} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Make the tries; return 1 where fewer than nine in ten are right, or one is too long."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--tries", type=int, default=20)
    parser.add_argument("--only", choices=KINDS, help="tries of this kind alone")
    parser.add_argument("--again", type=Path, help="where to work; tries that are there are kept")
    parser.add_argument("--out", type=Path, help="the table; default: tries.md in that folder")
    given = parser.parse_args()
    work = (given.again or Path(tempfile.mkdtemp(prefix="mixbench-tries-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    kept, out = work / "tries.json", given.out or work / "tries.md"
    print(f"in {work}; the table: {out}", flush=True)
    rows = json.loads(kept.read_text()) if kept.is_file() else []
    for number in range(given.tries):
        if any(row["try"] == number and row["budget"] == given.minutes for row in rows):
            continue
        if given.only and KINDS[number % len(KINDS)] != given.only:
            continue
        row = tried(work, number, given.minutes)
        rows = sorted([*rows, row], key=lambda one: (one["budget"], one["try"]))
        atomic_write(kept, json.dumps(rows, indent=1))
        atomic_write(out, table(rows, given.tries, given.minutes))
        mark = "right" if row["right"] else "WRONG"
        print(
            f"{number:2} {row['truth']:8} {mark}  {row['minutes']:5.2f} min  {row['answer']}",
            flush=True,
        )
    right = sum(row["right"] for row in rows)
    late = sum(row["minutes"] > LATE * row["budget"] for row in rows)
    print(f"{right} of {len(rows)} right, {late} took more than {LATE} times the budget")
    return int(right < 0.9 * len(rows) or late > 0)


if __name__ == "__main__":
    sys.exit(main())
