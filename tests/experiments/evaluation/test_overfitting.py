"""Overfitting: networks that know their training images by heart, and such as know nothing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from mixbench.experiments.evaluation.after_training import measure as measure_training
from mixbench.experiments.evaluation.overfitting import OverfittingSettings
from mixbench.experiments.evaluation.overfitting import measure as overfitting
from tests.support.subjects import Constant, Memory, Nearest, config, digits, subject

ALL = OverfittingSettings()


def test_who_knows_the_training_images_by_heart() -> None:
    found = overfitting.measure(subject(Memory()), ALL).metrics
    test = subject(Memory()).logits("test")
    right = (test[0].argmax(axis=1) == test[1]).mean()
    assert 0.8 < right < 1, "the test set is not known by heart"
    # 10 for the class, 0 for nine others.
    hit, miss = math.log1p(9 * math.exp(-10)), 10 + math.log1p(9 * math.exp(-10))
    assert found == {
        "overfitting/train/accuracy": 1.0,
        "overfitting/train/nll": pytest.approx(hit),
        "overfitting/gap": pytest.approx(1 - right),
        "overfitting/nll_gap": pytest.approx((1 - right) * (miss - hit)),
    }


def test_who_looks_at_nothing_has_no_gap_but_that_of_the_labels() -> None:
    found = overfitting.measure(subject(Constant([1.0, *[0.0] * 9])), ALL).metrics
    train, test = (
        float((split.labels == 0).double().mean()) for split in (digits().train, digits().test)
    )
    assert found["overfitting/train/accuracy"] == pytest.approx(train)
    assert found["overfitting/gap"] == pytest.approx(train - test)
    assert found["overfitting/nll_gap"] == pytest.approx(train - test, abs=1e-6)
    even = overfitting.measure(subject(Constant([0.0] * 10)), ALL).metrics
    assert even["overfitting/nll_gap"] == pytest.approx(0, abs=1e-12)
    assert even["overfitting/train/nll"] == pytest.approx(math.log(10))


def test_they_are_what_a_training_run_says_of_itself() -> None:
    found = overfitting.measure(subject(Nearest()), ALL).metrics
    ran = measure_training(Nearest(), digits(), config(), lambda: None).metrics
    assert found["overfitting/train/accuracy"] == ran["train/accuracy"]
    assert found["overfitting/train/nll"] == ran["train/nll"]
    for name in ("accuracy", "nll"):
        assert ran[f"train/{name}"] is not None and ran[f"test/{name}"] is not None
    assert found["overfitting/gap"] == ran["train/accuracy"] - ran["test/accuracy"]
    assert found["overfitting/nll_gap"] == ran["test/nll"] - ran["train/nll"]


def test_against_torch_on_raw_pixels() -> None:
    one = subject(Nearest())
    images, labels = next(one.pixels(one.split("train"), 10_000))
    logits = one.network(one.normalised(images)).double()
    found = overfitting.measure(one, ALL).metrics
    assert found["overfitting/train/nll"] == pytest.approx(F.cross_entropy(logits, labels).item())


def test_some_images_are_the_same_for_every_batch_size_and_model() -> None:
    seen: list[torch.Tensor] = []

    class Watching(Nearest):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.append(images)
            return super().forward(images)

    def images_of(batch_size: int, settings: OverfittingSettings) -> torch.Tensor:
        watched = subject(Watching(), batch_size=batch_size)
        watched.logits("test")
        seen.clear()
        overfitting.measure(watched, settings)
        return torch.cat(seen)

    settings = OverfittingSettings(images=100)
    first = images_of(500, settings)
    assert len(first) == 100
    for batch_size in (7, 64):
        torch.testing.assert_close(images_of(batch_size, settings), first, rtol=0, atol=1e-6)
    other = images_of(500, OverfittingSettings(images=100, seed=1))
    assert other.shape == first.shape and not torch.equal(other, first)
    assert len(images_of(500, OverfittingSettings(images=10_000))) == len(digits().train)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_batches_of_any_size_give_the_same(batch_size: int) -> None:
    one = overfitting.measure(subject(Nearest()), ALL).metrics
    other = overfitting.measure(subject(Nearest(), batch_size=batch_size), ALL).metrics
    assert one == pytest.approx(other, abs=1e-5)


def test_what_is_no_number_is_none() -> None:
    found = overfitting.measure(subject(Constant([math.nan, *[0.0] * 9])), ALL).metrics
    assert len(found) == 4 and set(found.values()) == {None}


@pytest.mark.parametrize("wrong", [{"images": 0}, {"images": True}, {"seed": -1}, {"image": 5}])
def test_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        OverfittingSettings.model_validate(wrong)
