"""Sweeps of thousands of finished runs in the real format, made without training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running, written_sweeps

METHODS = ("none", "mixup", "cutmix", "cutout", "random_erasing", "ricap", "fmix", "resizemix")
REPLICATES = 5
EPOCHS = 5
_TEMPLATES = 40


def write(name: str, runs: int) -> SweepFolder:
    """A sweep of eight methods in many settings, five replicates each; all but one in 100 done."""
    folder = running.planned(_spec(name, runs))
    templates = _templates()
    random = np.random.default_rng(0)
    for place, run in enumerate(folder.plan()):
        path = run.folder.path
        (path / "claims").mkdir(parents=True)
        (path / "claims" / "000001.json").write_text('{"released": "done"}')
        about = {"schema": 1, "run_key": run.run_key, "cell_key": run.cell_key}
        (path / "config.json").write_text(json.dumps({**about, "config": run.config}))
        row = {"step": 5, "time": 1.0, "images_per_second": 100.0, "train/loss": 0.5}
        rows = [json.dumps({"epoch": epoch + 1, **row}) + "\n" for epoch in range(EPOCHS)]
        (path / "metrics.jsonl").write_text("".join(rows))
        if place % 100 == 99:
            run.folder.fail("ValueError: generated", "", 1)
            continue
        text = templates[place % _TEMPLATES]
        result = {**text, **about, "seed": run.config["seed"]}
        method, replicate = run.config["augmentation"]["name"], run.config["replicate"]
        shift = METHODS.index(method) * 0.003 + replicate * 0.001 + random.normal(0, 0.003)
        metrics = {**text["metrics"], "test/accuracy": 0.8 + shift}
        (path / "result.json").write_text(json.dumps({**result, "metrics": metrics}, indent=1))
    return folder


def _spec(name: str, runs: int) -> dict[str, Any]:
    """The eight methods at three budgets and as many strengths of smoothing as are needed."""
    settings = max(1, round(runs / (len(METHODS) * REPLICATES)))
    epochs = [15, 45, 150] if settings >= 3 else [15]
    smoothing = [n / 1000 for n in range(max(1, settings // len(epochs)))]
    grid: dict[str, Any] = {"augmentation": list(METHODS), "training.epochs": epochs}
    if len(smoothing) > 1:
        grid["training.label_smoothing"] = smoothing
    spec = running.spec(name, grid=grid, replicates=REPLICATES)
    del spec["seeds"]
    return spec


def _templates() -> list[dict[str, Any]]:
    return [
        written_sweeps.result(written_sweeps.config(written_sweeps.METHODS[n % 7], n))[0]
        for n in range(_TEMPLATES)
    ]
