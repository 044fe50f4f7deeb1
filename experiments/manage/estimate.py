"""How long runs will take: from epochs that were measured, else from a few steps timed here.

Every figure carries its source in words. What was measured in this sweep comes first, then what
other sweeps measured with the same data, network, batch and device, then timing.
"""

from __future__ import annotations

import heapq
import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import provenance
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder

SAMPLES = 5
"""How many runs of a kind are looked at: they differ little, and reading takes time."""
_SPEED = (
    "batch_size",
    "crop_padding",
    "flip",
    "amp",
    "channels_last",
    "devices",
    "optimiser",
)
_FROZEN = ("freeze", "unfreeze", "mixing", "cache")
"""Of `transfer`, what decides how much of the network is computed; which weights does not."""

FEW_IMAGES = 8
LONG_STEP = 4.0
"""Seconds of a training step from which on it is timed with a few images, and multiplied."""


@dataclass(frozen=True)
class Cost:
    """What runs of one kind cost, in seconds: an epoch, and what is not training, once per run."""

    epoch: float
    rest: float
    source: str


@dataclass(frozen=True)
class Where:
    """What the runs will be done on. `device` is as results name it; None for one not seen yet."""

    on_gpu: bool
    device: str | None
    threads: int | None

    def fits(self, made: Mapping[str, Any]) -> bool:
        """Was a result of this provenance made on such a device?"""
        device = str(made.get("device"))
        if self.device is None:
            return device.startswith("cuda" if self.on_gpu else "cpu")
        same_threads = self.on_gpu or self.threads in (None, made.get("threads"))
        return device == self.device and same_threads


def here(on_gpu: bool, threads: int) -> Where:
    """This machine's first GPU, or so many threads of its CPU."""
    if on_gpu:
        asked = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        names = asked.stdout.strip().splitlines()
        return Where(True, f"cuda: {names[0]}" if names else None, threads)
    # What it takes of a torch.device is the type; torch itself takes seconds to import.
    cpu = cast(Any, SimpleNamespace(type="cpu"))
    return Where(False, provenance.device_name(cpu), threads)


def kind(config: Mapping[str, Any]) -> str:
    """What decides the length of an epoch: two configurations of a kind differ in nothing of it."""
    staged = _given((config.get("staging") or {}).get("phases"))
    return json.dumps([_given(config["augmentation"]), staged, *_loosely(config)], sort_keys=True)


def measured(folder: SweepFolder, epochs: Mapping[str, float]) -> dict[str, Cost]:
    """kind -> cost, from what the runs of this sweep have measured so far.

    epochs: run_key -> epochs done, in parts. A kind of which no run has got through two epochs is
    left out.
    """
    chosen: dict[str, list[PlannedRun]] = {}
    for planned in folder.plan():
        if epochs.get(planned.run_key, 0.0) >= 1:
            chosen.setdefault(kind(planned.config), []).append(planned)
    costs = {}
    for name, runs in chosen.items():
        # Those that got furthest: they know the rest too.
        runs.sort(key=lambda planned: -epochs[planned.run_key])
        seen = [one for planned in runs[:SAMPLES] if (one := _measured(planned))]
        if seen:
            costs[name] = _cost(seen, "this sweep")
    return costs


def alike(configs: Sequence[Mapping[str, Any]], name: str, where: Where) -> dict[str, Cost]:
    """kind -> cost, from done runs with the same data, network and batch on such a device.

    Their augmentation may be another. Those of the sweep `name` come first, then all others below
    the root.
    """
    wanted = {kind(config): json.dumps(_loosely(config), sort_keys=True) for config in configs}
    found: dict[str, list[_Seen]] = {}
    sweeps: dict[str, list[str]] = {}
    names = SweepFolder.names()
    for other in [*(n for n in names if n == name), *(n for n in names if n != name)]:
        if set(found) >= set(wanted.values()):
            break
        try:
            plan = SweepFolder.open(other).plan()
        except UserError:
            continue
        for planned in plan:
            key = json.dumps(_loosely(planned.config), sort_keys=True)
            if key not in wanted.values() or len(found.get(key, [])) >= SAMPLES:
                continue
            seen = _measured(planned)
            if seen and seen.made and where.fits(seen.made):
                found.setdefault(key, []).append(seen)
                place = "this sweep with another augmentation"
                sweeps.setdefault(key, []).append(place if other == name else f"sweep {other}")
    return {
        one: _cost(found[key], " and ".join(dict.fromkeys(sweeps[key])))
        for one, key in wanted.items()
        if key in found
    }


def timed(configs: Iterable[RunConfig], where: Where) -> dict[str, Cost]:
    """kind -> cost, from three training steps and a forward pass of each kind timed here and now.

    On random pixels, so the data need not be there; the data set's catalogued size gives the
    steps. Start-up and the mixing itself are not in it. What is unfrozen on the way counts as
    trained from the beginning, and features count as cached where they can be.
    """
    configs = list(configs)
    if not configs:
        return {}
    import torch

    torch.set_num_threads(where.threads or 1)
    device = torch.device("cuda" if where.on_gpu else "cpu")
    took: dict[Any, tuple[float, float]] = {}
    costs = {}
    for config in configs:
        name = kind(config.model_dump(mode="json"))
        if name in costs:
            continue
        training = config.training
        frozen = _lastingly_frozen(config)
        alike = (config.model, config.dataset, training.batch_size, training.optimiser, frozen)
        if alike not in took:
            took[alike] = _time(config, device)
        step, forward = took[alike]
        train, test = _sizes(config)
        hidden = config.evaluation.occlusion
        occluded = (hidden.images or test) * (1 + len(hidden.shapes) * len(hidden.fractions))
        share = config.dataset.validation_fraction
        costs[name] = Cost(
            epoch=-(-train // training.batch_size) * step + train * share / (1 - share) * forward,
            rest=(train + test + occluded) * forward,
            source="a few training steps timed now on "
            f"{_on(where.device or 'this machine', None if where.on_gpu else where.threads)}, "
            "start-up not counted",
        )
    return costs


def wall(seconds: Sequence[float], workers: int, needed: Mapping[int, int] | None = None) -> float:
    """Seconds until all are done when each of `workers` takes the next as soon as it is free.

    needed: the place of a run -> that of the one before it which must be done before it begins.
    """
    free = [0.0] * max(1, min(workers, len(seconds)))
    ends: list[float] = []
    for place, length in enumerate(seconds):
        other = (needed or {}).get(place)
        ready = 0.0 if other is None else ends[other]
        ends.append(max(heapq.heappop(free), ready) + length)
        heapq.heappush(free, ends[-1])
    return max(free)


@dataclass(frozen=True)
class _Seen:
    """One run: seconds of an epoch, seconds of all else, where it was made; None if not known."""

    epoch: float
    rest: float | None
    made: Mapping[str, Any] | None


def _loosely(config: Mapping[str, Any]) -> list[Any]:
    training = {key: config["training"].get(key) for key in _SPEED}
    transfer = config.get("transfer") or {}
    frozen = {key: transfer.get(key) for key in _FROZEN}
    return [_given(part) for part in (config["dataset"], config["model"], training, frozen)]


def _given(part: Any) -> Any:
    """Without what is not set: a sweep of before there was such an option says nothing of it."""
    if isinstance(part, Mapping):
        return {key: _given(value) for key, value in part.items() if value is not None}
    return [_given(item) for item in part] if isinstance(part, list | tuple) else part


def _measured(planned: PlannedRun) -> _Seen | None:
    result = planned.folder.result()
    times = [row["time"] for row in planned.folder.metrics() if "time" in row]
    steps = [later - before for before, later in itertools.pairwise(times)]
    epoch = statistics.median(steps) if steps else None
    if result is None:
        return None if epoch is None else _Seen(epoch, None, None)
    timing = result.get("timing")
    if not timing or "provenance" not in result:
        # Written by something else: a result for all that, only without its times.
        return None
    if epoch is None:
        # A single epoch: its validation is not in the sum, and is short.
        epoch = timing["train_seconds"] / planned.config["training"]["epochs"]
    return _Seen(epoch, timing["setup_seconds"] + timing["evaluate_seconds"], result["provenance"])


def _cost(seen: Sequence[_Seen], place: str) -> Cost:
    rests = [one.rest for one in seen if one.rest is not None]
    devices = sorted(
        {
            _on(one.made["device"], None if "cuda" in one.made["device"] else one.made["threads"])
            for one in seen
            if one.made
        }
    )
    on = f" on {' and '.join(devices)}" if devices else ""
    lacking = "" if rests else ", start-up and measurements not counted"
    return Cost(
        statistics.median(one.epoch for one in seen),
        statistics.median(rests) if rests else 0.0,
        f"epochs measured in {place}{on}{lacking}",
    )


def _on(device: str, threads: int | None) -> str:
    name = device.partition(": ")[2] or device
    return name if threads is None else f"{name} with {threads} thread{'s' * (threads > 1)}"


def _time(config: RunConfig, device: Any) -> tuple[float, float]:
    """Seconds per training step, and per image of a forward pass."""
    import torch

    from mixbench.experiments.config import datasets
    from mixbench.experiments.config.transfer import TransferConfig
    from mixbench.experiments.models.build import build
    from mixbench.experiments.training.optimiser import optimiser_for
    from mixbench.experiments.transfer.freeze import Freezing
    from mixbench.experiments.transfer.layers import Layers

    facts = datasets.info(config.dataset.name)
    size = config.dataset.image_size or facts.size
    network = build(
        config.model, channels=facts.channels, classes=facts.classes or 10, size=size, seed=0
    )
    network.to(device).to(memory_format=torch.channels_last)
    frozen = _lastingly_frozen(config)
    layers = Layers.of(network, config.model.name)
    freezing = Freezing(network, layers, None if frozen is None else TransferConfig(freeze=frozen))
    freezing.train()
    optimiser = optimiser_for(freezing.groups(), config.training)
    whole = torch.randn(config.training.batch_size, facts.channels, size, size, device=device)
    whole = whole.to(memory_format=torch.channels_last)
    labels = torch.zeros(len(whole), dtype=torch.int64, device=device)

    def step(images: torch.Tensor) -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), labels[: len(images)]).backward()
        optimiser.step()

    def forward(images: torch.Tensor) -> None:
        with torch.inference_mode():
            network(images)

    some = whole[:FEW_IMAGES]
    times = len(whole) / len(some)
    if _best_of(lambda: step(some), 1, device) * times > LONG_STEP:
        # On a CPU a large network takes minutes for a batch; who plans would wait for them.
        return (
            _best_of(lambda: step(some), 1, device) * times,
            _best_of(lambda: forward(some), 1, device) / len(some),
        )
    return (
        _best_of(lambda: step(whole), 3, device),
        _best_of(lambda: forward(whole), 3, device) / len(whole),
    )


def _lastingly_frozen(config: RunConfig) -> int | str | None:
    """What of the network is frozen from the first step to the last."""
    transfer = config.transfer
    return None if transfer is None or transfer.unfreeze is not None else transfer.freeze


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
    from mixbench.experiments.config import datasets

    facts = datasets.info(config.dataset.name)
    available = facts.train or 10_000
    taken = config.dataset.train_size or round(available * (config.dataset.train_fraction or 1.0))
    train = round(min(taken, available) * (1 - config.dataset.validation_fraction))
    return max(1, train), facts.test or 2_000
