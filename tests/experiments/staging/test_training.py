"""Trainings with a staging: what was realised, and going on across the boundaries of phases."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.config import resolve, schema
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.store import checkpoint
from mixbench.experiments.tasks.classification.task import Classification
from mixbench.experiments.training import checkpoints, epoch_totals
from tests.experiments.training.test_loop import Killed, rows, same, stop_at, trained
from tests.support import running

EPOCHS = 6


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    with running.one_thread():
        yield


def configured(staging: Any, augmentation: Any = "cutmix", **training: Any) -> schema.RunConfig:
    return resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 200, "image_size": 12},
            "model": {"name": "small_cnn", "width": 2},
            "augmentation": augmentation,
            "staging": staging,
            "training": {"epochs": EPOCHS, "batch_size": 32, "learning_rate": 0.1, **training},
        }
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    # 180 images: six steps an epoch.
    return load(configured(None).dataset)


@pytest.fixture(scope="module")
def many() -> Dataset:
    section = {"name": "digits", "train_size": 1438, "image_size": 12}
    return load(resolve.parse({"dataset": section}).dataset)


def within(realised: float, expected: float, deviation: float, count: float) -> bool:
    """Is a mean of `count` draws within 5 standard errors?  Wrong once in 1.7 million looks."""
    return abs(realised - expected) <= 5 * deviation / math.sqrt(count) + 1e-7


# MixUp's λ ~ Beta(α, α) per sample, partners that are never oneself: every sample that the coin
# says is mixed is changed, and its own weight is λ.
PER_SAMPLE = {"name": "mixup", "alpha": 1.0, "per_sample": True, "pairing": "roll"}


def test_every_phase_realises_its_probability_and_its_lambda(tmp_path: Path, many: Dataset) -> None:
    """Means over the 1294 images of an epoch; 5 standard errors, so wrong once in 1.7 million."""
    phases = [
        {"to": "epoch 1", "prob": 0.2},
        {"from": "epoch 2", "to": "epoch 3", "alpha": 3},
        {"to": "epoch 4", "prob": 0.6, "alpha": 8},
        {"prob": {"from": 0.1, "to": 0.9, "shape": "cosine"}, "every": 2},
    ]
    made = resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 1438, "image_size": 12},
            "model": {"name": "small_cnn", "width": 2},
            "augmentation": PER_SAMPLE,
            "staging": {"phases": phases},
            "training": {"epochs": 7, "batch_size": 128},
        }
    )
    trained(tmp_path, many, made)
    images = len(many.train)
    found = rows(tmp_path)
    assert [row["staging/phase"] for row in found] == [1, 0, 2, 3, 4, 4, 4]
    steps = [0.1 + 0.8 * (1 - math.cos(math.pi * n / 32)) / 2 for n in range(33)]
    last = 1294 - 10 * 128
    expected = [0.2, 0, 1, 0.6]
    expected += [
        (128 * sum(part[:10]) + last * part[10]) / images for part in (steps[:11], steps[22:])
    ]
    probs = [row["mix/prob"] for row in found]
    assert probs.pop(5) == 0 and probs[1] == 0  # every second epoch, and the gap
    assert probs[2] == 1
    for prob, wanted in zip(probs, expected, strict=True):
        assert within(prob, wanted, math.sqrt(wanted * (1 - wanted)), images), (prob, wanted)
    for row, alpha in zip(found, (1, None, 3, 8, 1, None, 1), strict=True):
        assert ("mix/lambda" in row) == ("mix/area" in row) == (alpha is not None)
        if alpha is not None:
            count = row["mix/prob"] * images
            assert round(count) == pytest.approx(count)
            assert within(row["mix/lambda"], 0.5, math.sqrt(1 / (4 * (2 * alpha + 1))), count)
            assert row["mix/area"] == 1
            # The own weight over all images, as in every run, says the same.
            own = 1 - row["mix/prob"] + row["mix/prob"] * row["mix/lambda"]
            assert row["mix/own_weight"] == pytest.approx(own, abs=1e-5)
        else:
            assert row["mix/own_weight"] == 1


def test_boxes_realise_their_area(tmp_path: Path, many: Dataset) -> None:
    """Box areas are uniform between the bounds (α = 1), less what whole pixels cut off."""
    made = configured(
        {"phases": [{"to": 0.5, "max_area": 0.25}, {"min_area": 0.5, "max_area": 0.75}]},
        {"name": "cutmix", "per_sample": True, "placement": "inside", "pairing": "roll"},
    )
    trained(tmp_path, many, made)
    for half, (low, high) in enumerate(((0, 0.25), (0.5, 0.75))):
        # The mean over the area of int(12 √area)²/144, by quadrature.
        grid = [low + (high - low) * (n + 0.5) / 20_000 for n in range(20_000)]
        cut = [int(12 * math.sqrt(area)) ** 2 / 144 for area in grid]
        empty = sum(area == 0 for area in cut) / len(cut)
        mean = sum(cut) / len(cut) / (1 - empty)
        for row in rows(tmp_path)[3 * half : 3 * half + 3]:
            count = row["mix/prob"] * len(many.train)
            assert within(row["mix/prob"], 1 - empty, math.sqrt(empty * (1 - empty)), count)
            assert within(row["mix/area"], mean, 0.25 / math.sqrt(12), count)
            assert row["mix/lambda"] == pytest.approx(1 - row["mix/area"], abs=1e-6)


def test_never_is_training_without_mixing(tmp_path: Path, digits: Dataset) -> None:
    plain, _ = trained(tmp_path / "plain", digits, configured(None, "none"))
    never, _ = trained(tmp_path / "never", digits, configured("never"))
    assert same(plain, never)
    for row, staged in zip(rows(tmp_path / "plain"), rows(tmp_path / "never"), strict=True):
        assert staged == {**row, "staging/phase": 0, "mix/prob": 0.0}


def test_always_is_training_without_a_staging(tmp_path: Path, digits: Dataset) -> None:
    plain, _ = trained(tmp_path / "plain", digits, configured(None))
    always, _ = trained(tmp_path / "always", digits, configured("always"))
    assert same(plain, always) and rows(tmp_path / "plain") == rows(tmp_path / "always")
    assert not {"staging/phase", "mix/prob"} & rows(tmp_path / "plain")[0].keys()


def test_up_to_its_end_a_phase_is_the_training_without_it(tmp_path: Path, digits: Dataset) -> None:
    rate = {"schedule": "cosine"}
    trained(tmp_path / "plain", digits, configured(None, **rate))
    trained(tmp_path / "staged", digits, configured("first_50", **rate))
    losses = [[row["train/loss"] for row in rows(tmp_path / name)] for name in ("plain", "staged")]
    assert losses[0][:3] == losses[1][:3]
    assert all(plain != staged for plain, staged in zip(losses[0][3:], losses[1][3:], strict=True))


SCHEDULES: dict[str, Any] = {
    # At steps 13 and 25, in the midst of epochs; with all that a phase can change.
    "fixed": [
        {"to": 0.36, "prob": 0.5},
        {"to": 0.7, "method": {"name": "mixup", "per_sample": True}, "alpha": {"to": 0.1}},
        {"every": 2, "max_area": {"to": 0.2, "shape": "cosine"}, "prob": {"to": 0.3}},
    ],
    "plateau": [{"to": "plateau 1", "alpha": {"to": 3}}, {"method": "fmix", "prob": {"to": 0.5}}],
}


@pytest.fixture
def flat(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies that are at a plateau after the second epoch, whatever the network does."""

    score = Classification.score

    def scored(*arguments: Any) -> dict[str, float]:
        return {**score(*arguments), "accuracy": 0.5}

    monkeypatch.setattr(Classification, "score", scored)


@pytest.mark.parametrize("every_step", [True, False])
@pytest.mark.parametrize("kind", SCHEDULES)
def test_going_on_crosses_a_boundary_exactly(
    kind: str,
    every_step: bool,
    tmp_path: Path,
    digits: Dataset,
    flat: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in every step, or around the boundaries: weights and metrics to the last bit."""
    made = configured({"phases": SCHEDULES[kind]}, {"name": "cutmix", "per_sample": True})
    whole, _ = trained(tmp_path / "whole", digits, made)
    phases = [row["staging/phase"] for row in rows(tmp_path / "whole")]
    assert phases == ([1, 1, 2, 2, 3, 3] if kind == "fixed" else [1, 1, 2, 2, 2, 2])
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 1e9)
    # Plans are grouped otherwise than without interruptions.
    monkeypatch.setattr(epoch_totals, "PLANS", 3)
    steps = range(1, 37) if every_step else (12, 14, 25)
    parts = tmp_path / "parts"
    for step in steps:
        with pytest.raises(Killed):
            trained(parts, digits, made, beat=stop_at(step / 6 - 0.01))
    again, _ = trained(parts, digits, made)
    assert same(whole, again) and rows(parts) == rows(tmp_path / "whole")


def test_an_older_checkpoint_has_no_sums_of_a_staging(
    tmp_path: Path, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = configured(None)
    whole, _ = trained(tmp_path / "whole", digits, made)
    half = tmp_path / "half"
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 1e9)
    with pytest.raises(Killed):
        trained(half, digits, made, beat=stop_at(1.4))
    state = next(iter(checkpoint.load(half)))
    for own in state["ranks"]:
        del own["sums"]["mixed"]
    checkpoint.save(half, state)
    again, _ = trained(half, digits, made)
    assert same(whole, again) and rows(half) == rows(tmp_path / "whole")


def test_the_log_has_a_line_where_a_phase_begins(
    tmp_path: Path, digits: Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        trained(tmp_path, digits, configured("last_50"))
    lines = [record.message for record in caplog.records if "staging" in record.message]
    assert lines == [
        "step 0: staging: outside of all phases, nothing is mixed",
        "step 18: staging: phase 1 of 1",
    ]
