"""Configurations and sweep folders with schedules and with weights that were trained before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, config, keys, write_sweep

NONE, MIXUP, CUTMIX = METHODS[:3]
FIRST_50 = {"name": "first_50", "phases": [{"from": 0.0, "to": 0.5}]}
HESITATE = {
    "name": "hesitate",
    "phases": [
        {"from": 0.0, "to": 0.6},
        {"from": 0.6, "to": 0.9, "every": 2},
        {"from": 0.9, "to": 1.0, "prob": {"from": 1.0, "to": 0.0, "shape": "linear"}},
    ],
}
CAUTIOUS = {
    "name": "cautious",
    "phases": [{"from": "plateau 3 by 0.5", "to": 1.0, "prob": 0.3, "max_area": 0.2}],
}


def custom(*phases: Mapping[str, Any]) -> dict[str, Any]:
    """A schedule without a name."""
    return {"name": None, "phases": [dict(phase) for phase in phases]}


def transfer(**given: Any) -> dict[str, Any]:
    """A resolved `transfer` section."""
    unset = dict.fromkeys(
        ("weights", "head", "freeze", "unfreeze", "backbone_rate", "layer_decay", "mixing", "cache")
    )
    return {**unset, **given}


def run(
    method: Mapping[str, Any],
    seed: int = 0,
    staging: Mapping[str, Any] | None = None,
    weights: Mapping[str, Any] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A resolved configuration with both sections, which are None where they are not given."""
    return {**config(method, seed, **changes), "staging": staging, "transfer": weights}


def staging_sweep(root: Path, seeds: Iterable[int] = range(3), **changes: Any) -> SweepFolder:
    """`none`, and two methods with four schedules each, with what was mixed in 30 epochs."""
    seeds = list(seeds)
    schedules = (None, FIRST_50, HESITATE, CAUTIOUS)
    runs = [run(NONE, seed, **changes) for seed in seeds]
    runs += [
        run(method, seed, schedule, **changes)
        for method in (CUTMIX, MIXUP)
        for schedule in schedules
        for seed in seeds
    ]
    folder = write_sweep(root, "staging", runs)
    for planned in folder.plan():
        rows = []
        for epoch in range(1, 31):
            row: dict[str, Any] = {"epoch": epoch, "step": 15 * epoch, "time": 1.7e9 + epoch}
            if planned.config["staging"]:
                row |= {"mix/prob": 1.0 if epoch <= 15 else 0.0}
                row |= {"mix/lambda": 0.6, "mix/area": 0.4} if epoch <= 15 else {}
            if planned.config["training"].get("gradient_noise"):
                shares = {"mix": 0.1 + epoch / 100, "batch": 0.5, "signal": 0.4 - epoch / 100}
                row |= {f"train/gradient_noise/{n}": v for n, v in {**shares, "norm": 1.0}.items()}
            rows.append(json.dumps(row) + "\n")
        (planned.folder.path / "metrics.jsonl").write_text("".join(rows))
    return folder


def transfer_sweep(root: Path, seeds: Iterable[int] = range(3), **more: Any) -> SweepFolder:
    """`none` and CutMix from scratch, and from a pretraining with two parts frozen."""
    seeds = list(seeds)
    before = [run(NONE, seed, dataset__name="digits", training__epochs=12) for seed in seeds]
    key = keys(before[0])[1]
    starts = (None, transfer(weights=f"cell:{key}"), transfer(weights=f"cell:{key}", freeze="all"))
    runs = [
        run(method, seed, None, start)
        for method in (NONE, CUTMIX)
        for start in starts
        for seed in seeds
    ]
    folder = write_sweep(root, "transfer", [*before, *runs], **more)
    place = folder.path / "plan.jsonl"
    rows = [json.loads(line) for line in place.read_text().splitlines()]
    for row in rows:
        if row["cell_key"] == key:
            row["pretraining"] = True
    place.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
