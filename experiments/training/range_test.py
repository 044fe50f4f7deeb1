"""The learning-rate range test: losses while the rate grows, and the rate that they speak for.

Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017 (arXiv:1506.01186): train
for some steps while the rate rises from far too small to far too large. Where the loss falls, the
rate learns; where it rises again, it is too large.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mixbench.augmentations.forward import step_loss
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.training.control import Control
from mixbench.experiments.training.setup import Training

STEPS = 100
FEWEST_STEPS = 20
RANGES = {"sgd": (1e-5, 10.0), "adamw": (1e-7, 1.0), "lamb": (1e-5, 1.0)}
"""What makes the steps -> the first and the last rate that are tried."""
BELOW_THE_RISE = {True: 3.0, False: 10.0}
"""Has the schedule a warm-up? -> how far below the rate from which on the loss rises to propose.

A tenth is usual for a rate that a training begins with; the peak of one that warms up can be higher
(Smith and Topin 2018, arXiv:1708.07120). With `one_cycle` and 500 Fashion-MNIST images the best of
five rates were 0.06 with SGD and 0.004 with AdamW; a third is 0.019 and 0.004, a tenth 0.006 and
0.0012, which cost 3 and 2 points of accuracy.
"""
_WARM_UP = 2
"""Steps at the first rate, which are slower than the rest and don't count."""
_WINDOW = 0.09
"""Over which share of the steps losses are averaged."""
_FALL = 0.05
"""A loss that falls by less than this share of its start has not learnt anything."""
_DIVERGED = 2.0
"""The test ends once the loss is so many times the smallest one before."""


@dataclass(frozen=True)
class RangeTest:
    """What a range test saw, and what follows.

    Attributes:
        rates: Of each step, rising by the same factor.
        losses: Of each step, before it was made.
        smoothed: The mean of the losses around each step.
        proposed: Below the rate from which on the loss rises; None where no rate learnt.
        rises_from: That rate; None where the loss did not rise within the range.
        at_edge: "low" or "high" where the proposal lies at an edge of what was tried, else "".
        step_seconds: The median time of a step.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    proposed: float | None
    rises_from: float | None
    at_edge: str = ""
    step_seconds: float = 0.0


def range_test(
    network: nn.Module,
    dataset: Dataset,
    config: RunConfig,
    device: torch.device,
    *,
    steps: int = STEPS,
    seconds: float | None = None,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> RangeTest:
    """Train `network` in place for up to `steps` steps at rising rates; see `RangeTest`.

    Args:
        config: Of the run, without mixing: batches, crops, optimiser and frozen layers are its own.
        steps: How many at most.
        seconds: About how long it may take: with slow steps there are fewer, `FEWEST_STEPS` at
            least.
        asked_to_stop: Asked before every step; once true, what was seen so far is judged.
    """
    first, last = RANGES[config.training.base_optimiser]
    losses: list[float] = []
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="mixbench-range-") as scratch:
        control = Control(_beat)
        run = Training(network, dataset, _alone(config, steps), device, Path(scratch), control)
        batches = _batches(run)
        run.learner.set_rate(first)
        times += [_step(run, 0, *next(batches))[1] for _ in range(_WARM_UP)]
        if seconds is not None:
            steps = max(FEWEST_STEPS, min(steps, int(seconds / min(times))))
        rates = [first * (last / first) ** (step / (steps - 1)) for step in range(steps)]
        for step, rate in enumerate(rates):
            if asked_to_stop():
                break
            run.learner.set_rate(rate)
            loss, took = _step(run, step, *next(batches))
            losses.append(loss)
            times.append(took)
            if not math.isfinite(loss) or _is_diverged(losses):
                break
    seen = judge(rates[: len(losses)], losses, steps, below(config))
    return replace(seen, step_seconds=statistics.median(times))


def below(config: RunConfig) -> float:
    """Return how far below the rate from which on the loss rises the proposed one lies."""
    return BELOW_THE_RISE[bool(config.training.warmup)]


def judge(
    rates: Sequence[float], losses: Sequence[float], steps: int, factor: float = 10.0
) -> RangeTest:
    """Return what losses at rising rates speak for; `steps` were planned, the last may diverge.

    Examples:
        >>> rates = [10.0 ** (power / 10) for power in range(-40, 11)]
        >>> losses = [2.3 - 2 * min(1, rate / 0.1) + max(0, rate - 1) ** 2 for rate in rates]
        >>> seen = judge(rates, losses, len(rates))
        >>> 0.03 < seen.proposed < 0.2, seen.at_edge
        (True, '')
    """
    known = [loss if math.isfinite(loss) else math.inf for loss in losses]
    smoothed = smooth(known, max(1, round(steps * _WINDOW)))
    finite = [value for value in smoothed if math.isfinite(value)]
    seen = (tuple(rates), tuple(losses), tuple(smoothed))
    if not finite:
        return RangeTest(*seen, proposed=None, rises_from=None)
    lowest = min(range(len(smoothed)), key=lambda at: smoothed[at])
    start = smoothed[0]
    if start - smoothed[lowest] < _FALL * start:
        return RangeTest(*seen, proposed=None, rises_from=None)
    rises = lowest < len(smoothed) - 1
    proposed = rates[lowest] / factor
    edge = "" if rises else "high"
    if proposed <= rates[0]:
        proposed, edge = rates[0], "low"
    return RangeTest(*seen, _rounded(proposed), rates[lowest] if rises else None, edge)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return the mean of the values around each, over `window` of them, fewer at the ends.

    Examples:
        >>> smooth([1.0, 2.0, 6.0, 2.0], 3)
        [1.5, 3.0, 3.3333333333333335, 4.0]
    """
    half = window // 2
    parts = (values[max(0, at - half) : at + half + 1] for at in range(len(values)))
    return [sum(part) / len(part) for part in parts]


def _alone(config: RunConfig, steps: int) -> RunConfig:
    """Return the run without all that is no part of its steps; long enough for `steps` of them."""
    # The average may answer for images without labels.
    ema = config.training.ema if config.streams else None
    training = config.training.model_copy(
        update={"epochs": steps, "ema": ema, "swa": None, "gradient_noise": None}
    )
    return config.model_copy(update={"training": training})


def _beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
    """Do nothing: nobody else waits for this training."""


def _batches(run: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches, epoch after epoch, but those that batch normalisation can't take."""
    while True:
        for _, raw, labels in run.batches():
            if len(labels) > 1 or run.batches_of_one:
                yield raw, labels


def _step(run: Training, step: int, raw: Tensor, labels: Tensor) -> tuple[float, float]:
    """Make a step; return the loss before it, and the seconds that it took."""
    began = time.perf_counter()
    method = run.schedules.method(step)
    with run.learner.precision():
        clean, batch = run.inputs.mix(method, raw, labels, run.bank)
    beside = run.beside(step, batch, 1.0)
    batch = batch if beside is None else beside.labelled
    forward = run.forward(run.model, clean, batch, beside)
    loss = run.learner.step(lambda: step_loss(method, forward, clean, batch), 1.0, step)
    run.bank.clear()
    return float(loss), time.perf_counter() - began


def _is_diverged(losses: Sequence[float]) -> bool:
    """Is the loss, over three steps, far above the smallest such mean before, and the start?"""
    if len(losses) < 6:
        return False
    means = smooth(losses, 3)[1:-1]
    return means[-1] > _DIVERGED * max(min(means), 0.5 * means[0])


def _rounded(rate: float) -> float:
    """Return the rate with one digit, or two below 2: nobody knows it better.

    Examples:
        >>> _rounded(0.0173), _rounded(0.00468)
        (0.017, 0.005)
    """
    exponent = math.floor(math.log10(rate))
    return round(rate, -exponent + (1 if rate / 10**exponent < 2 else 0))
