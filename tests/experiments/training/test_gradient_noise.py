"""Gradient noise by epoch: what it is, and that the training never notices it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import RunConfig
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.gradient_noise import GradientNoiseSettings
from mixbench.experiments.evaluation.gradient_noise import measure as afterwards
from mixbench.experiments.models.build import build
from mixbench.experiments.signals import Stopped
from mixbench.experiments.training import loop

CPU = torch.device("cpu")


def configured(noise: dict[str, int] | None, **changes: Any) -> RunConfig:
    training = {"epochs": 3, "batch_size": 64, "learning_rate": 0.05, "gradient_noise": noise}
    return resolve.parse(
        {
            "dataset": {"name": "digits", "image_size": 12, "train_size": 300},
            "model": {"width": 4},
            "augmentation": changes.pop("augmentation", {"name": "cutmix"}),
            "training": {**training, "crop_padding": 1, **changes},
        }
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load(configured(None).dataset)


def train(folder: Path, dataset: Dataset, made: RunConfig, stop_at: int = 10**9) -> torch.nn.Module:
    """Train, and go on after a stop before step `stop_at`."""
    network = build(made.model, channels=1, classes=10, size=12, seed=0)
    folder.mkdir(exist_ok=True)
    steps = 0

    def stopping() -> bool:
        nonlocal steps
        steps += 1
        return steps == stop_at

    try:
        loop.train(network, dataset, made, CPU, folder, lambda *_, **__: None, stopping)
    except Stopped:
        return train(folder, dataset, made)
    return network


def rows(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, float]]]:
    """The rows of epochs without times, and the noise in them."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    plain, noise = [], []
    for line in lines:
        found = {key: line.pop(key) for key in list(line) if key.startswith("train/gradient_")}
        noise.append({key.removeprefix("train/gradient_noise/"): v for key, v in found.items()})
        plain.append({k: v for k, v in line.items() if k not in ("time", "images_per_second")})
    return plain, noise


def test_the_training_is_the_same_with_it_and_goes_on_exactly(
    tmp_path: Path, digits: Dataset
) -> None:
    without = train(tmp_path / "without", digits, configured(None)).state_dict()
    made = configured({"every": 2, "batches": 2, "draws": 2})
    assert made.run_key != configured(None).run_key
    # Five steps an epoch: stopped within the second, and before its validation.
    found = [train(tmp_path / f"{at}", digits, made, at) for at in (10**9, 8, 12)]
    for network in found:
        assert all(torch.equal(value, without[k]) for k, value in network.state_dict().items())
    plain, noise = rows(tmp_path / f"{10**9}")
    assert rows(tmp_path / "without") == (plain, [{}, {}, {}])
    assert rows(tmp_path / "8") == rows(tmp_path / "12") == (plain, noise)
    # Of every second epoch, and the last.
    assert [sorted(one) for one in noise] == [[], *[["batch", "mix", "norm", "signal"]] * 2]
    for one in noise[1:]:
        assert 0 < one["mix"] < 1 and one["mix"] + one["batch"] + one["signal"] == pytest.approx(1)


@pytest.mark.parametrize("method", ["none", "cutmix"])
def test_it_is_what_the_measurement_finds_at_the_same_weights(
    method: str, tmp_path: Path, digits: Dataset
) -> None:
    # Weights that hardly move: both are of the same ones, and have drawn other batches.
    noise = {"every": 1, "batches": 4, "draws": 8}
    still = {"epochs": 1, "learning_rate": 1e-9, "label_smoothing": 0.1, "loss": "bce"}
    made = configured(noise, augmentation={"name": method}, **still)
    network = train(tmp_path / method, digits, made)
    (by_epoch,) = rows(tmp_path / method)[1]
    subject = Subject(network, digits, made, CPU)
    found = afterwards.measure(subject, GradientNoiseSettings(batches=4, draws=8)).metrics
    assert (by_epoch["mix"] == 0) == (found["gradient_noise/mix"] == 0) == (method == "none")
    assert by_epoch["norm"] == pytest.approx(found["gradient_noise/norm"], rel=0.1)
    assert by_epoch["mix"] == pytest.approx(found["gradient_noise/mix"], rel=0.3)


def test_too_few_images_are_refused_before_the_first_step(tmp_path: Path, digits: Dataset) -> None:
    with pytest.raises(
        UserError, match=r"^training\.gradient_noise: needs two batches of 256 trai"
    ):
        train(tmp_path, digits, configured({}, batch_size=256))
