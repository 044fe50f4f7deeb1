"""What freezing a backbone saves, and what a schedule costs.

    python -m tests.bench.transfer
    python -m tests.bench.transfer --device cuda

Three comparisons on real Fashion-MNIST images, each of the training loop itself:
- an epoch (training and validation) of a linear probe, its features cached, beside the same made
  anew for every batch; making them is timed apart;
- a training step with everything but the classifier frozen, without a cache, beside one of full
  fine-tuning;
- a step with a schedule (linear_up) beside one without, which mixes as much on the mean.
What is compared is timed in turns. The weights are untrained: they change no times.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import math
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import scipy.stats
import torch

from mixbench.experiments.config import resolve, schema
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.models.build import build
from mixbench.experiments.store.provenance import device_name
from mixbench.experiments.training import loop
from mixbench.experiments.training.schedules import TrainingSchedules

IMAGES, BATCH = 1280, 64
MODELS = {
    "efficientnet_lite0 at 64": ("timm/tf_efficientnet_lite0", 64),
    "resnet20": ("resnet20", None),
}
LEAST_CACHED, LEAST_FROZEN = 20.0, 1.8
MOST_STAGED = 1.01
"""A schedule is free where the interval of the ratio of step times begins below this."""


class Enough(Exception):
    """As many steps as are timed are done."""


def main() -> int:
    """Measure and print; exit status 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=20, help="of runs with and without a schedule")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    # How long the features took is in the log.
    logging.getLogger("experiments").setLevel(logging.INFO)
    dataset = load(_configured("resnet20", None).dataset, device)
    print(
        f"{device_name(device)}, {options.threads} threads, torch {torch.__version__}; "
        f"{IMAGES} images, batches of {BATCH}"
    )
    met = [_probe(name, *model, dataset, device) for name, model in MODELS.items()]
    met += [_frozen(name, *model, dataset, device) for name, model in MODELS.items()]
    met.append(_staged(dataset, device, options.pairs))
    return 0 if all(met) else 1


def _probe(name: str, model: str, size: int | None, dataset: Dataset, device: torch.device) -> bool:
    log = _Log()
    logging.getLogger("experiments").addHandler(log)
    epochs = {}
    for cache, count in ((False, 3), (True, 21)):
        made = _configured(model, size, {"freeze": "all", "cache": cache}, epochs=count)
        ends = _Clock(device, "epoch")
        _train(made, dataset, device, ends)
        # Not the first, which warms up.
        epochs[cache] = statistics.median(ends.spans()[1:])
    logging.getLogger("experiments").removeHandler(log)
    ratio = epochs[False] / epochs[True]
    print(
        f"linear probe, {name}: {epochs[True] * 1e3:.1f} ms an epoch with cached features, "
        f"{epochs[False] * 1e3:.0f} ms without: {ratio:.0f}x (target: at least "
        f"{LEAST_CACHED:.0f}); making them took {log.seconds:.1f} s"
    )
    return ratio >= LEAST_CACHED


def _frozen(
    name: str, model: str, size: int | None, dataset: Dataset, device: torch.device
) -> bool:
    frozen = _configured(model, size, {"freeze": "all", "cache": False}, "cutmix")
    full = _configured(model, size, None, "cutmix")
    taken: dict[str, list[float]] = {"frozen": [], "full": []}
    for _ in range(3):
        for which, made in (("frozen", frozen), ("full", full)):
            taken[which].append(_step(made, dataset, device, 8))
    ratio = statistics.median(taken["full"]) / statistics.median(taken["frozen"])
    print(
        f"frozen backbone, {name}: {statistics.median(taken['frozen']) * 1e3:.1f} ms a step, "
        f"{statistics.median(taken['full']) * 1e3:.1f} ms with full fine-tuning: {ratio:.2f}x "
        f"(target: at least {LEAST_FROZEN})"
    )
    return ratio >= LEAST_FROZEN


def _staged(dataset: Dataset, device: torch.device, pairs: int) -> bool:
    """On the smallest network, where a step is shortest and a schedule weighs most."""
    half = {"name": "cutmix", "per_sample": True, "prob": 0.5}
    constant = _configured("small_cnn", None, None, half)
    rising = _configured("small_cnn", None, None, {**half, "prob": 1.0}, staging="linear_up")
    ratios = []
    for number in range(pairs):
        # In turns, so that what the machine does besides hits both.
        order = (rising, constant) if number % 2 else (constant, rising)
        taken = {id(made): _step(made, dataset, device, 120) for made in order}
        ratios.append(math.log(taken[id(rising)] / taken[id(constant)]))
    mean, error = statistics.mean(ratios), statistics.stdev(ratios) / math.sqrt(pairs)
    reach = scipy.stats.t.ppf(0.975, pairs - 1) * error
    low, high = math.exp(mean - reach), math.exp(mean + reach)
    course = TrainingSchedules(rising, 1000, 100)
    started = time.perf_counter()
    for step in range(1000):
        course.method(step)
    call = (time.perf_counter() - started) / 1000
    print(
        f"staging (linear_up), small_cnn: a step takes {math.exp(mean):.4f} of one without "
        f"(95% interval of {pairs} pairs: {low:.4f} to {high:.4f}; target: from below "
        f"{MOST_STAGED}); asking for its method takes {call * 1e6:.0f} us"
    )
    return low < MOST_STAGED


def _step(made: schema.RunConfig, dataset: Dataset, device: torch.device, steps: int) -> float:
    """The median seconds of a training step."""
    clock = _Clock(device, "step", steps + 3)
    _train(made, dataset, device, clock)
    # Not the first ones, which warm up.
    return statistics.median(clock.spans()[2:])


class _Clock:
    """A beat that notes when steps or epochs end, and ends the training after `most` of them."""

    def __init__(self, device: torch.device, unit: str, most: int | None = None) -> None:
        self._device, self._unit, self._most = device, unit, most
        self._ends: list[float] = []
        self._validated = True

    def __call__(self, progress: dict[str, Any] | None, **_: bool) -> None:
        if self._unit == "epoch":
            # The first step after a validation: an epoch lies between two of them.
            if progress is None or not self._validated:
                self._validated = progress is None
                return
            self._validated = False
        elif progress is None:
            return
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._ends.append(time.perf_counter())
        if self._most is not None and len(self._ends) >= self._most:
            raise Enough

    def spans(self) -> list[float]:
        return [end - start for start, end in zip(self._ends, self._ends[1:], strict=False)]


class _Log(logging.Handler):
    """Finds in the log how long the features took."""

    seconds = math.nan

    def emit(self, record: logging.LogRecord) -> None:
        found = re.search(r"cached: .*, ([\d.]+) s", record.getMessage())
        if found:
            self.seconds = float(found[1])


def _train(made: schema.RunConfig, dataset: Dataset, device: torch.device, beat: _Clock) -> None:
    channels, size, _ = dataset.shape
    network = build(made.model, channels=channels, classes=10, size=size, seed=0)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(Enough):
        loop.train(network, dataset, made, device, Path(folder), beat)


def _configured(
    model: str,
    size: int | None,
    transfer: dict[str, Any] | None = None,
    augmentation: Any = "none",
    *,
    epochs: int = 20,
    staging: str | None = None,
) -> schema.RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": "fashion_mnist", "train_size": IMAGES},
            "model": {"name": model, "input_size": size},
            "augmentation": augmentation,
            "staging": staging,
            "transfer": transfer,
            "training": {
                "epochs": epochs,
                "batch_size": BATCH,
                "learning_rate": 0.01,
                "crop_padding": 0,
                "flip": False,
            },
        }
    )


if __name__ == "__main__":
    sys.exit(main())
