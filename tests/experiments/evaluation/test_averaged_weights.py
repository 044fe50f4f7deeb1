"""Averaged weights: measured instead of the last ones or beside them, and found again later."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mixbench.analysis.tables.labels import plan_labels
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.transfer import read
from tests.support import running


def test_instead_or_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    fixed = running.spec("x")["fixed"] | {"evaluation": {"occlusion": {"shapes": []}}}
    emas = [None, 0.8, {"decay": 0.8, "evaluate": "beside"}]
    swa = {"augmentation": {"name": "none"}, "training.swa": 0.5}
    parts = {"grid": {"training.ema": emas}, "include": [swa], "seeds": [0]}
    spec = running.spec("three", fixed=fixed, **parts)
    folder = running.planned(spec)
    assert running.work(folder, "trainer") == 4
    plan = folder.plan()
    last, instead, beside, mean = (
        json.loads((run.folder.path / "result.json").read_text()) for run in plan
    )
    names = ("accuracy", "nll", "brier", "ece", "gap", "balanced_accuracy", "macro_f1")
    for name in names:
        assert beside["metrics"][f"test/{name}"] == last["metrics"][f"test/{name}"]
        assert beside["metrics"][f"ema/{name}"] == instead["metrics"][f"test/{name}"]
    assert last["metrics"]["test/nll"] != instead["metrics"]["test/nll"]
    validated = instead["metrics"]["validation/accuracy"]
    assert beside["metrics"]["ema/validation_accuracy"] == validated
    added = {f"ema/{name}" for name in (*names, "validation_accuracy")}
    assert set(beside["metrics"]) == set(last["metrics"]) | added
    assert set(instead["metrics"]) == set(last["metrics"])
    labels = ["ema none", "ema 0.8", "ema 0.8 beside", "ema none"]
    assert list(plan_labels(plan).values()) == [
        f"{label} · swa {start}"
        for label, start in zip(labels, ["none"] * 3 + ["0.5"], strict=True)
    ]
    # The mean of the last two of three epochs, beside what is as ever.
    assert set(mean["metrics"]) == set(last["metrics"]) | {
        name.replace("ema", "swa") for name in added
    }
    assert mean["metrics"]["test/nll"] == last["metrics"]["test/nll"] != mean["metrics"]["swa/nll"]
    assert mean["metrics"]["swa/accuracy"] > 0.2
    # What is measured later, and what another run starts from, is what was measured.
    for run in plan:
        with running.one_thread():
            subject = subject_of(run, torch.device("cpu"), lambda: None)
            logits, _ = subject.logits("test")
        with np.load(run.folder.path / "predictions.npz") as kept:
            assert np.array_equal(kept["logits"], logits)
        for name, value in read.read_run(run, "three").items():
            assert torch.equal(subject.network.state_dict()[name], value)
