"""The measurement `calibration`: what it reports, and that test labels fit no temperature."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from mixbench.experiments.evaluation import metrics as scores
from mixbench.experiments.evaluation.after_training import measure as measure_training
from mixbench.experiments.evaluation.calibration import (
    CalibrationSettings,
    intervals,
    measure,
    vector,
)
from mixbench.experiments.evaluation.calibration import errors as calibration_errors
from mixbench.experiments.evaluation.calibration.binning import binned, equal_mass, equal_width
from mixbench.experiments.evaluation.calibration.temperature import fit
from tests.support.subjects import Constant, Nearest, config, digits, subject
from tests.support.subjects import with_labels as relabelled

DEFAULT = CalibrationSettings()


def measured(network: torch.nn.Module, **parts: object) -> dict[str, float | None]:
    return measure.measure(subject(network, **parts), DEFAULT).metrics  # type: ignore[arg-type]


def certainly_calibrated(seed: int, count: int, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits `sharpness` times those that the labels are drawn from."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, 10))
    cumulative = scores.probabilities(logits).cumsum(axis=1)
    labels = np.minimum((draw.random((count, 1)) > cumulative).sum(axis=1), 9)
    return sharpness * logits, labels


def test_names_and_what_training_measures_already() -> None:
    found = measure.measure(subject(Nearest()), DEFAULT)
    assert set(found.metrics) == {
        f"calibration/{kind}{name}"
        for kind in ("", "scaled/", "vector/")
        for name in (*measure.NAMES, *measure.INTERVALS)
    } | {f"calibration/temperature{what}" for what in ("", "_error", "_bounded")} | {
        "calibration/vector/accuracy"
    }
    assert all(isinstance(value, float) for value in found.metrics.values())
    ran = measure_training(Nearest(), digits(), config(), lambda: None)
    for name in ("ece", "gap", "brier", "nll"):
        assert found.metrics[f"calibration/{name}"] == pytest.approx(
            ran.metrics[f"test/{name}"], abs=1e-12
        )
    for name in ("count", "confidence", "accuracy"):
        assert found.curves["before"]["width"][name] == ran.curves["reliability"][name]
    assert json.loads(json.dumps(found.curves, allow_nan=False)) == found.curves


def test_scaling_makes_an_overconfident_network_better() -> None:
    metrics = measured(Nearest(scale=3.0))
    temperature = metrics["calibration/temperature"]
    assert temperature is not None and temperature > 1.5
    assert metrics["calibration/temperature_bounded"] == 0.0
    for name in ("ece", "ece_equal_mass", "ece_classwise", "overconfidence", "nll", "brier", "ks"):
        before, after = metrics[f"calibration/{name}"], metrics[f"calibration/scaled/{name}"]
        assert before is not None and after is not None and after < before
    gap, scaled = metrics["calibration/gap"], metrics["calibration/scaled/gap"]
    assert gap is not None and scaled is not None and gap > 0.03 > abs(scaled)
    # Three times as sharp is three times the temperature, and the same afterwards.
    plain = measured(Nearest(scale=1.0))
    assert temperature == pytest.approx(3 * (plain["calibration/temperature"] or 0), rel=1e-4)
    for name in measure.NAMES:
        after = metrics[f"calibration/scaled/{name}"]
        assert after == pytest.approx(plain[f"calibration/scaled/{name}"], abs=1e-4)


def test_the_scaled_are_of_the_scaled_logits() -> None:
    plain = subject(Nearest())
    found = measure.measure(plain, DEFAULT).metrics
    logits, labels = plain.logits("test")
    probability = scores.probabilities(logits.astype(np.float64) / found["calibration/temperature"])
    assert found["calibration/scaled/nll"] == pytest.approx(
        log_loss(labels, probability, labels=range(10))
    )
    assert found["calibration/scaled/brier"] == pytest.approx(
        brier_score_loss(labels, probability, labels=range(10), scale_by_half=False)
    )


def test_test_labels_and_test_images_have_no_part_in_the_temperature() -> None:
    dataset, network = digits(), Nearest()
    plain = measured(network)
    labels = dataset.test.labels
    names = [f"calibration/temperature{what}" for what in ("", "_error", "_bounded")]
    for other in (
        labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))],
        (labels + 1) % 10,
        torch.zeros_like(labels),
    ):
        moved = measured(network, dataset=relabelled(dataset, "test", other))
        assert [moved[name] for name in names] == [plain[name] for name in names]
        assert moved["calibration/nll"] != plain["calibration/nll"]
    # Validation labels have.
    labels = (dataset.validation.labels + 1) % 10
    moved = measured(network, dataset=relabelled(dataset, "validation", labels))
    assert moved["calibration/temperature"] == 20.0
    assert moved["calibration/temperature_bounded"] == 1.0
    assert moved["calibration/temperature_error"] is None
    # What was measured before scaling does not depend on them.
    for name in measure.NAMES:
        assert moved[f"calibration/{name}"] == plain[f"calibration/{name}"]


def test_a_temperature_without_optimum_is_said() -> None:
    class Oracle(torch.nn.Module):
        """Right about every validation image, by its place; all are in one batch."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            truth = digits().validation.labels
            labels = truth if len(images) == len(truth) else torch.zeros(len(images)).long()
            return torch.nn.functional.one_hot(labels, 10).float()

    found = measure.measure(
        subject(Oracle(), batch_size=10_000), CalibrationSettings(lowest_temperature=0.25)
    )
    assert found.metrics["calibration/temperature"] == 0.25
    assert found.metrics["calibration/temperature_bounded"] == 1.0
    assert found.metrics["calibration/temperature_error"] is None
    assert found.curves["temperature"]["end"] == "lowest"

    metrics = measured(Constant([0.0] * 10))
    assert metrics["calibration/temperature"] == 1.0
    assert metrics["calibration/temperature_bounded"] == 1.0
    assert metrics["calibration/scaled/nll"] == pytest.approx(math.log(10))
    assert metrics["calibration/scaled/ece"] == metrics["calibration/ece"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_no_numbers_have_no_calibration(bad: float) -> None:
    found = measure.measure(subject(Constant([bad, *[0.0] * 9])), DEFAULT)
    assert len(found.metrics) == 3 * len(measure.NAMES + measure.INTERVALS) + 4
    assert set(found.metrics.values()) == {None}


def test_bins_are_those_of_the_run_unless_set() -> None:
    for settings, bins in ((DEFAULT, 7), (CalibrationSettings(bins=1), 1)):
        found = measure.measure(subject(Nearest(), ece_bins=7), settings)
        assert found.curves["bins"] == bins
        for when in ("before", "after"):
            for kind in ("width", "mass"):
                count = found.curves[when][kind]["count"]
                assert len(count) == bins and sum(count) == len(digits().test)
    gap, ece = (found.metrics[f"calibration/{name}"] for name in ("gap", "ece"))
    assert gap is not None and ece == pytest.approx(abs(gap), abs=1e-12)


@pytest.mark.parametrize("batch_size", [7, 64])
def test_batches_of_any_size_give_the_same(batch_size: int) -> None:
    one, other = measured(Nearest()), measured(Nearest(), batch_size=batch_size)
    assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"bins": 0},
        {"bins": True},
        {"lowest_temperature": 0},
        {"lowest_temperature": 1.5},
        {"highest_temperature": 0.5},
        {"highest_temperature": math.inf},
        {"bin": 15},
    ],
)
def test_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        CalibrationSettings.model_validate(wrong)


def test_a_temperature_changes_no_prediction_even_where_probabilities_round_to_ties() -> None:
    # Second and first logit differ by less than a probability can tell.
    logits = np.array([[0.0, 1e-18, -5.0]] * 4)
    found, diagrams = measure.errors(logits, np.array([1, 1, 1, 0]), 15)
    assert sum(
        n * a
        for n, a in zip(diagrams["width"]["count"], diagrams["width"]["accuracy"], strict=True)
        if n
    ) == pytest.approx(3)
    assert found["gap"] == pytest.approx(1 / (2 + math.exp(-5)) - 0.75)


def test_from_too_sharp_to_calibrated() -> None:
    # In theory all errors vanish but for what chance gives.
    sharp, labels = certainly_calibrated(0, 20_000, 2.5)
    before, _ = measure.errors(sharp, labels, 15)
    after, _ = measure.errors(sharp / 2.5, labels, 15)
    assert before["ece"] > 0.2 and before["debiased"] > 0.2 and before["gap"] > 0.2
    assert before["overconfidence"] > 0.15
    assert after["ece"] < 2 * after["ece_by_chance"] < 0.02
    assert abs(after["debiased_squared"]) < 5e-5
    assert after["ks"] < 0.012 and after["overconfidence"] < 0.01


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    classes=st.integers(2, 8),
    bins=st.integers(1, 20),
)
def test_what_holds_of_every_model(seed: int, count: int, classes: int, bins: int) -> None:
    draw = np.random.default_rng(seed)
    logits = 2 * draw.normal(size=(count, classes))
    labels = draw.integers(classes, size=count)
    found, diagrams = measure.errors(logits, labels, bins)
    assert tuple(found) == measure.NAMES
    for name, value in found.items():
        low = {"gap": -1.0, "debiased_squared": -0.25}.get(name, 0.0)
        high = {"brier": 2.0, "nll": math.inf}.get(name, 1.0)
        assert low - 1e-12 <= value <= high + 1e-12
    assert abs(found["gap"]) <= found["ece"] + 1e-12 <= found["mce"] + 2e-12
    assert abs(found["gap"]) <= min(found["ece_equal_mass"], found["ks"]) + 1e-12
    for diagram in diagrams.values():
        for number, of in enumerate(diagram["count"]):
            column = {name: values[number] for name, values in diagram.items()}
            if not of:
                assert set(column.values()) == {0, None}
            else:
                assert column["accuracy_low"] <= column["accuracy"] <= column["accuracy_high"]
                assert column["lowest"] - 1e-12 <= column["confidence"]
                assert column["confidence"] <= column["highest"] + 1e-12
    rows, columns = draw.permutation(count), draw.permutation(classes)
    moved, _ = measure.errors(logits[rows][:, columns], columns.argsort()[labels[rows]], bins)
    # The root makes much of a rounding error at 0.
    assert moved == pytest.approx(found, abs=1e-7)


def test_intervals_hold_the_true_errors() -> None:
    draw = np.random.default_rng(3)
    held = {"debiased": 0, "ece": 0}
    off = []
    for number in range(60):
        # Right by 0.06 less often than said, or exactly as often.
        gap = 0.06 * (number % 2)
        confidence = draw.uniform(0.3, 0.95, 1000)
        correct = draw.random(1000) < confidence - gap
        mass, width = equal_mass(confidence, 10), equal_width(confidence, 10)
        low, high = intervals.debiased(confidence, correct, mass, 10)
        held["debiased"] += low <= gap <= high
        of = binned(confidence, correct, width, 10)
        value, low, high = intervals.expected(of)
        held["ece"] += low <= gap <= high
        assert low <= value <= high
        off.append((value - gap, calibration_errors.expected(of) - gap))
    # 57 of 60 are meant; that of the ECE takes gaps to be in proportion to the observed ones.
    assert min(held.values()) >= 50, held
    unbiased, biased = np.mean(off, axis=0)
    assert abs(unbiased) < 0.5 * biased


def test_intervals_of_few_and_of_certain_images() -> None:
    one, none = np.array([True]), np.array([False])
    index = np.array([0])
    assert intervals.debiased(np.array([0.7]), one, index, 15) == (0.0, 0.0), "one tells nothing"
    for correct, expected in ((one, 0.0), (none, 1.0)):
        of = binned(np.ones(1), correct, index, 1)
        assert intervals.expected(of)[0] == pytest.approx(expected, abs=1e-5)
    value, low, high = intervals.expected(binned(np.array([0.7]), one, index, 1))
    assert low == 0.0 and high > 0.3 and 0 <= value <= 1


def test_vector_scaling_mends_what_a_temperature_cannot() -> None:
    truth, labels = certainly_calibrated(1, 3000, 1.0)
    shift, stretch = np.zeros(10), np.ones(10)
    shift[3], stretch[7] = 2.0, 2.5
    wrong = truth * stretch + shift
    first, second = slice(0, 1500), slice(1500, None)
    temperature = fit(wrong[first], labels[first]).value
    mended = vector.fit(wrong[first], labels[first], temperature)
    assert mended.offset[3] < -1.3 and mended.factor[7] < 0.6 < mended.factor[6]
    left = labels[second]
    best = scores.nll(truth[second], left)
    scaled = scores.nll(wrong[second] / temperature, left)
    assert scores.nll(mended.apply(wrong[second]), left) - best < 0.25 * (scaled - best)
    # Another library's fit without a penalty.
    free = LogisticRegression(C=np.inf, max_iter=500).fit(wrong[first], labels[first])
    full = log_loss(left, free.predict_proba(wrong[second]), labels=range(10))
    assert scores.nll(mended.apply(wrong[second]), left) < full + 0.02


def test_vector_scaling_of_calibrated_logits_changes_little() -> None:
    truth, labels = certainly_calibrated(2, 3000, 2.0)
    for count in (1, 3, 40):
        mended = vector.fit(truth[:count], labels[:count], 2.0)
        assert np.isfinite(mended.factor).all() and np.isfinite(mended.offset).all()
    loss = scores.nll(mended.apply(truth[40:]), labels[40:])
    assert loss < scores.nll(truth[40:] / 2, labels[40:]) + 0.05, "40 images for 20 numbers"
