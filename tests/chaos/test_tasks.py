"""Every task: a run that is killed goes on bit for bit, and two ranks measure what one does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbench.experiments.config.resolve import parse
from mixbench.experiments.design.tasks import names
from mixbench.experiments.ranks import ALONE, Ranks
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tasks.base import task_of
from mixbench.experiments.training.loop import train
from mixbench.experiments.worker import execute
from tests.chaos.nursery import Nursery, Setup
from tests.support import running
from tests.support.ranking import on_ranks
from tests.support.tiny_data import use_tiny_data

CPU = torch.device("cpu")
SMALL_CNN = {"name": "small_cnn", "width": 2}
TASKS: dict[str, dict[str, Any]] = {
    "classification": {
        "dataset": {"name": "digits"},
        "model": SMALL_CNN,
        "augmentation": "cutmix",
    },
    "cross_domain": {
        "dataset": {
            "name": "domains",
            "domains": ["digits", "digits@90"],
            "target": "digits@180",
        },
        "model": SMALL_CNN,
        "augmentation": "mixup",
    },
    "detection": {
        "dataset": {"name": "fashion_scenes", "targets": "boxes"},
        "model": {"name": "small_fcos", "width": 2},
        "augmentation": "mosaic",
    },
    "multi_label": {
        "dataset": {"name": "fashion_scenes", "targets": "multi_label"},
        "model": SMALL_CNN,
        "augmentation": "mixup",
    },
    "regression": {
        "dataset": {"name": "rotated_fashion_mnist"},
        "model": SMALL_CNN,
        "augmentation": "c_mixup",
    },
    "retrieval": {
        "dataset": {"name": "emoji_names"},
        "model": SMALL_CNN,
        "augmentation": "cutmix",
    },
    "segmentation": {
        "dataset": {"name": "fashion_scenes"},
        "model": {"name": "unet", "width": 2},
        "augmentation": "classmix",
    },
}
"""A tiny run of each task."""
UNLABELLED = {"algorithm": "fixmatch", "teacher": "ema", "threshold": 0.1, "ratio": 2}
BESIDE: dict[str, dict[str, Any]] = {
    "images without labels": {
        "task": "classification",
        "dataset": {"name": "digits", "train_size": 24},
        "model": SMALL_CNN,
        "streams": {"unlabelled": {**UNLABELLED, "augmentation": "cutmix"}},
    },
}
"""Runs with a second stream of images."""
TRAINING = {"epochs": 2, "batch_size": 8, "optimiser": "adamw", "learning_rate": 0.01}
REST = {"training": TRAINING, "evaluation": {"batch_size": 5, "occlusion": {"shapes": []}}}


def of_task(name: str) -> dict[str, Any]:
    """The sections of a run of this task."""
    sections = {"task": name, **{**TASKS, **BESIDE}[name], **REST}
    if name in BESIDE:
        sections["training"] = {**TRAINING, "ema": 0.9}
    return {**sections, "dataset": {**sections["dataset"], "image_size": 16}}


def test_every_task_is_here() -> None:
    assert set(TASKS) == set(names())


def end(nursery: Nursery, folder: SweepFolder, setup: Setup) -> int:
    """Let workers do a sweep, one after the other; returns how many were killed."""
    data: Setup = [("tests.support.tiny_data:use_tiny_data", {})]
    for number in range(9):
        child = nursery.start(
            *(str(folder.path), "--name", f"w{number}"),
            setup=data + setup,
            output=folder.path.parent / f"{folder.path.name}{number}.txt",
        )
        if child.wait() == 0:
            return number
        assert child.status == -signal.SIGKILL, child.said()
    raise AssertionError("killed again and again")


@pytest.mark.parametrize("name", [*TASKS, *BESIDE, "a teacher", "a pretraining"])
def test_killed_runs_go_on_bit_for_bit(
    name: str, nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A map of classes begins with the weights of another training.
    waits = {"a teacher": "classification", "a pretraining": "segmentation"}
    sections = of_task(waits.get(name, name))
    spec: dict[str, Any] = {"name": "whole", "fixed": sections, "seeds": [0]}
    if name == "a teacher":
        spec |= {"pretrain": {"big": {**sections, "model.width": 3}}}
        spec["fixed"] = {**sections, "teacher": {"weights": "pretrain:big", "weight": 0.5}}
    if name == "a pretraining":
        spec |= {"pretrain": {"big": {**sections, "augmentation": "none"}}}
        begin = {"weights": "pretrain:big", "freeze": 1}
        spec["fixed"] = {**sections, "transfer": begin}
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    whole = running.planned(spec)
    assert end(nursery, whole, []) == 0
    parts = running.planned({**spec, "name": "parts"})
    marks = tmp_path / "marks"
    marks.mkdir()
    killing = ("tests.chaos.faults:die_in_each_run", {"step": 4, "place": str(marks)})
    setup: Setup = [("tests.chaos.faults:save_every_step", {}), killing]
    assert end(nursery, parts, setup) == (2 if name in waits else 1)
    logs = [(run.folder.path / "log.txt").read_text() for run in parts.plan()]
    assert all("going on from step" in log for log in logs)
    assert running.outcome(parts) == running.outcome(whole)


def measured_on(group: Ranks, place: str) -> dict[str, Any]:
    """Train each task on these ranks, then measure it together: metrics, and the weights."""
    use_tiny_data()
    found = {}
    for name in TASKS:
        config = parse(of_task(name))
        dataset, network = execute.load_run(config, CPU, Path(place))
        folder = Path(place) / name
        folder.mkdir(parents=True, exist_ok=True)
        train(network, dataset, config, CPU, folder, _beat, ranks=group)
        task = task_of(config, dataset, CPU)
        metrics = task.measure(network, dataset, lambda: None, group).metrics
        alone = task.measure(network, dataset, lambda: None, ALONE).metrics
        weights = {key: value.clone() for key, value in network.state_dict().items()}
        found[name] = {"metrics": metrics, "alone": alone, "weights": weights}
    return found


def _beat(progress: dict[str, Any] | None, *, force: bool = False) -> None:
    """Do nothing."""


def test_two_ranks_measure_what_one_does(tmp_path: Path) -> None:
    first, second = on_ranks(2, tmp_path / "job", measured_on, str(tmp_path / "runs"))
    for name in TASKS:
        one, other = first[name], second[name]
        assert one["metrics"] == one["alone"] == other["alone"], name
        assert parse(of_task(name)).task_info.headline.key in one["metrics"]
        for key, value in one["weights"].items():
            assert torch.equal(value, other["weights"][key]), (name, key)
