"""How long runs will take, from epochs that were measured.

Every figure says where it comes from: this sweep, or other sweeps with the same data, network,
batch and device. What neither has measured is timed by `time_steps`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

from mixbench.experiments.config.streams import images_beside
from mixbench.experiments.errors import UserError
from mixbench.experiments.staging.methods import passes_of
from mixbench.experiments.store import provenance
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder

SAMPLES = 5
"""How many runs of a kind are read: they differ little, and reading takes time."""
_SPEED = (
    "batch_size",
    "crop",
    "crop_padding",
    "flip",
    "amp",
    "channels_last",
    "devices",
    "optimiser",
    "sam_base",
)
_FROZEN = ("freeze", "unfreeze", "mixing", "cache")
"""Keys of `transfer` that decide how much of the network is computed."""


@dataclass(frozen=True)
class Cost:
    """What runs of one kind cost in seconds: an epoch, and once per run what is not training."""

    epoch: float
    rest: float
    source: str


@dataclass(frozen=True)
class Where:
    """The device of the runs, as results name it; None for one that is not known yet."""

    on_gpu: bool
    device: str | None
    threads: int | None

    def fits(self, provenance: Mapping[str, Any]) -> bool:
        """Was a result of this provenance made on such a device?"""
        device = str(provenance.get("device"))
        if self.device is None:
            return device.startswith("cuda" if self.on_gpu else "cpu")
        same_threads = self.on_gpu or self.threads in (None, provenance.get("threads"))
        return device == self.device and same_threads


def here(on_gpu: bool, threads: int) -> Where:
    """Return this machine's first GPU, or so many threads of its CPU."""
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
    """Return what decides the length of an epoch; equal for configurations of a kind."""
    staged = _without_none((config.get("staging") or {}).get("phases"))
    return json.dumps(
        [_without_none(config["augmentation"]), staged, *_speed_factors(config)], sort_keys=True
    )


def measured(folder: SweepFolder, epochs: Mapping[str, float]) -> dict[str, Cost]:
    """Return kind -> cost, from what the runs of this sweep have measured so far.

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
    """Return kind -> cost, from done runs with the same data, network and batch on such a device.

    Their augmentation may be another; what it asks of the network is taken off, and added for that
    of `configs`. Those of the sweep `name` come first, then all others below the root.
    """
    wanted = {kind(config): _speed_key(config) for config in configs}
    factors = {kind(config): _step_factor(config) for config in configs}
    measurements: dict[str, list[_Measured]] = {}
    sweeps: dict[str, list[str]] = {}
    names = SweepFolder.names()
    for other in [*(n for n in names if n == name), *(n for n in names if n != name)]:
        if set(measurements) >= set(wanted.values()):
            break
        try:
            plan = SweepFolder.open(other).plan()
        except UserError:
            continue
        for planned in plan:
            key = _speed_key(planned.config)
            if key not in wanted.values() or len(measurements.get(key, [])) >= SAMPLES:
                continue
            seen = _measured(planned)
            if seen and seen.provenance and where.fits(seen.provenance):
                plain = replace(seen, epoch=seen.epoch / _step_factor(planned.config))
                measurements.setdefault(key, []).append(plain)
                this = "this sweep with another augmentation"
                sweeps.setdefault(key, []).append(this if other == name else f"sweep {other}")
    costs = {}
    for one, key in wanted.items():
        if key in measurements:
            cost = _cost(measurements[key], " and ".join(dict.fromkeys(sweeps[key])))
            costs[one] = replace(cost, epoch=cost.epoch * factors[one])
    return costs


def wall(seconds: Sequence[float], workers: int, needed: Mapping[int, int] | None = None) -> float:
    """Return the seconds until all are done when each worker takes the next run once it is free.

    needed: index of a run -> index of the earlier one that must be done before it begins.
    """
    free = [0.0] * max(1, min(workers, len(seconds)))
    ends: list[float] = []
    for index, length in enumerate(seconds):
        other = (needed or {}).get(index)
        ready = 0.0 if other is None else ends[other]
        ends.append(max(heapq.heappop(free), ready) + length)
        heapq.heappush(free, ends[-1])
    return max(free)


@dataclass(frozen=True)
class _Measured:
    """One run: seconds of an epoch, seconds of all else, provenance; None if not known."""

    epoch: float
    rest: float | None
    provenance: Mapping[str, Any] | None


def _step_factor(config: Mapping[str, Any]) -> float:
    """Return how long a step takes beside a usual one: a pass forward, and back, which counts 2."""
    # Images beside the labelled ones are trained on too, and answered for by a teacher.
    return 1 + passes_of(config) / 3 + images_beside(config.get("streams")) * 4 / 3


def _speed_key(config: Mapping[str, Any]) -> str:
    return json.dumps(_speed_factors(config), sort_keys=True)


def _speed_factors(config: Mapping[str, Any]) -> list[Any]:
    training = {key: config["training"].get(key) for key in _SPEED}
    transfer = config.get("transfer") or {}
    frozen = {key: transfer.get(key) for key in _FROZEN}
    if config.get("teacher"):
        # Another network runs for every batch.
        frozen["teacher"] = config["teacher"].get("model") or config["model"]
    if config.get("streams"):
        frozen["streams"] = {
            name: [stream["ratio"], stream.get("algorithm")]
            for name, stream in config["streams"].items()
            if stream
        }
    # Another subset of the same size takes as long.
    dataset = {key: value for key, value in config["dataset"].items() if key != "split_seed"}
    return [_without_none(part) for part in (dataset, config["model"], training, frozen)]


def _without_none(part: Any) -> Any:
    """Drop options that are not set: earlier sweeps don't have them."""
    if isinstance(part, Mapping):
        return {key: _without_none(value) for key, value in part.items() if value is not None}
    return [_without_none(item) for item in part] if isinstance(part, list | tuple) else part


def _measured(planned: PlannedRun) -> _Measured | None:
    result = planned.folder.result()
    times = [row["time"] for row in planned.folder.metrics() if "time" in row]
    steps = [later - before for before, later in itertools.pairwise(times)]
    epoch = statistics.median(steps) if steps else None
    if result is None:
        return None if epoch is None else _Measured(epoch, None, None)
    timing = result.get("timing")
    if not timing or "provenance" not in result:
        # Written by something else: a result for all that, only without its times.
        return None
    if epoch is None:
        # A single epoch: its validation is not in the sum, and is short.
        epoch = timing["train_seconds"] / planned.config["training"]["epochs"]
    return _Measured(
        epoch, timing["setup_seconds"] + timing["evaluate_seconds"], result["provenance"]
    )


def _cost(seen: Sequence[_Measured], sweep: str) -> Cost:
    rests = [one.rest for one in seen if one.rest is not None]
    devices = sorted(
        {
            device_text(
                one.provenance["device"],
                None if "cuda" in one.provenance["device"] else one.provenance["threads"],
            )
            for one in seen
            if one.provenance
        }
    )
    on = f" on {' and '.join(devices)}" if devices else ""
    uncounted = "" if rests else ", start-up and measurements not counted"
    return Cost(
        statistics.median(one.epoch for one in seen),
        statistics.median(rests) if rests else 0.0,
        f"epochs measured in {sweep}{on}{uncounted}",
    )


def _device_of(provenance: Mapping[str, Any]) -> str:
    device = provenance["device"]
    return device_text(device, None if "cuda" in device else provenance["threads"])


def device_text(device: str, threads: int | None) -> str:
    """Name a device, with the threads of a CPU."""
    name = device.partition(": ")[2] or device
    return name if threads is None else f"{name} with {threads} thread{'s' * (threads > 1)}"
