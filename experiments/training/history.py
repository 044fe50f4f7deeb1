"""A run's `metrics.jsonl`, a row per epoch, and sums over all epochs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

NOISE = "train/gradient_noise/"
"""What the names of gradient noise begin with, in the rows of epochs."""
CONFIDENT = "unlabelled/confident"
"""The share of images (or pixels) without labels whose answer was sure enough to count."""
_OF_THE_CONSTRUCTOR = ("path", "metric", "better")


class History:
    """`metrics.jsonl`, its length at the last checkpoint, and sums over epochs.

    Attributes but for those of the constructor are stored in checkpoints under their names.

    Args:
        path: Of the file.
        metric: What tells the best epoch, of the validation split.
        better: 1 where more of it is better, -1 where less is.
    """

    def __init__(self, path: Path, metric: str = "accuracy", better: int = 1) -> None:
        self.path = path
        self.metric = metric
        self.better = better
        self.length = 0
        self.seconds = 0.0
        self.images = 0
        self.best_epoch = 0
        # Named as in the checkpoints of earlier versions; of any metric, so that more is better.
        self.best_accuracy = -math.inf

    def begin(self) -> None:
        """Start an empty file."""
        self.path.write_bytes(b"")

    def add(self, row: dict[str, Any], seconds: float, images: int) -> None:
        """Write the row of an epoch, which took `seconds` and saw `images`."""
        with self.path.open("r+b") as file:
            # Not simply appended: a worker that was overtaken may have written in the meantime.
            file.truncate(self.length)
            file.seek(self.length)
            file.write((json.dumps(row) + "\n").encode())
            self.length = file.tell()
        self.seconds += seconds
        self.images += images
        value = row.get(f"validation/{self.metric}")  # Not there without validation.
        if value is not None and self.better * value > self.best_accuracy:
            self.best_epoch, self.best_accuracy = row["epoch"], self.better * value

    def holds(self, length: int) -> bool:
        """Has the file at least `length` bytes?"""
        return self.path.exists() and self.path.stat().st_size >= length

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from `state`; rows of later epochs are dropped, because these run again."""
        vars(self).update(state)
        with self.path.open("ab") as file:
            file.truncate(self.length)

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        stored = vars(self).keys() - set(_OF_THE_CONSTRUCTOR)
        return {name: value for name, value in vars(self).items() if name in stored}

    def dose(self) -> float:
        """The mean over all images of all epochs of the share that is not their own label's."""
        shares = [row["mix/own_weight"] for row in map(json.loads, self.path.open())]
        return max(0.0, 1.0 - math.fsum(shares) / max(1, len(shares)))

    def noise(self) -> dict[str, float]:
        """The means over epochs of `train/gradient_noise/...`, as far as it was measured."""
        rows = list(map(json.loads, self.path.open()))
        names = dict.fromkeys(name for row in rows for name in row if name.startswith(NOISE))
        found = {name: [row[name] for row in rows if name in row] for name in names}
        return {f"{name}/mean": math.fsum(one) / len(one) for name, one in found.items()}

    def unlabelled(self) -> dict[str, float]:
        """The share of images without labels that counted in the last epoch, if there are any."""
        last = list(map(json.loads, self.path.open()))[-1]
        return {CONFIDENT: last[CONFIDENT]} if CONFIDENT in last else {}

    def summary(self) -> dict[str, Any]:
        """Speed, dose and noise over all epochs, and the best of them on the validation split."""
        return {
            "dose": self.dose(),
            "noise": self.noise(),
            "unlabelled": self.unlabelled(),
            "train_seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
            "best_epoch": self.best_epoch,
            f"best_validation_{self.metric}": self.better * self.best_accuracy,
        }
