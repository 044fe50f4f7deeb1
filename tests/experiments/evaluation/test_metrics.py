"""Calibration against numbers worked out by hand, and against models whose truth is known."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, mean_squared_error
from sklearn.preprocessing import label_binarize

from mixbench.experiments.evaluation import metrics as scores

# Six samples, three classes, four bins of width 1/4, whose edges are exact in binary.
PROBABILITY = np.array(
    [
        [1.0, 0.0, 0.0],  # right, confidence 1: the last bin
        [0.75, 0.25, 0.0],  # wrong, on an edge: the bin below it, (0.5, 0.75]
        [0.7, 0.2, 0.1],  # right
        [0.5, 0.3, 0.2],  # right, on an edge: (0.25, 0.5]
        [0.4, 0.35, 0.25],  # wrong
        [0.9, 0.1, 0.0],  # right
    ]
)
LABELS = np.array([0, 1, 0, 0, 2, 0])


def test_the_reliability_data_by_hand() -> None:
    diagram = scores.reliability(PROBABILITY, LABELS, 4)
    assert diagram["edges"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert diagram["count"] == [0, 2, 2, 2]
    assert diagram["accuracy"] == [None, 0.5, 0.5, 1.0]
    assert diagram["confidence"][0] is None
    assert diagram["confidence"][1:] == pytest.approx([0.45, 0.725, 0.95])


def test_ece_by_hand() -> None:
    diagram = scores.reliability(PROBABILITY, LABELS, 4)
    # 2/6 of |0.5 - 0.45|, of |0.5 - 0.725| and of |1 - 0.95|
    assert scores.ece(diagram) == pytest.approx((0.05 + 0.225 + 0.05) / 3)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=30),
)
def test_scores_of_uneven_classes_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = map(np.array, zip(*pairs, strict=True))
    with warnings.catch_warnings():
        # It warns of predicted classes that no label has.
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(labels, predicted)
    assert scores.balanced_accuracy(predicted, labels) == pytest.approx(balanced)
    f1 = f1_score(labels, predicted, average="macro", zero_division=0)
    assert scores.macro_f1(predicted, labels) == pytest.approx(f1)


def test_brier_by_hand() -> None:
    total = 0 + 1.125 + 0.14 + 0.38 + 0.845 + 0.02
    assert scores.brier(PROBABILITY, LABELS) == pytest.approx(total / 6)
    assert scores.brier(np.array([[1.0, 0.0]]), np.array([1])) == 2.0
    assert scores.brier(np.array([[1.0, 0.0]]), np.array([0])) == 0.0


def test_everything_at_once_by_hand() -> None:
    with np.errstate(divide="ignore"):
        logits = np.maximum(np.log(PROBABILITY), -60.0)
    metrics, diagram = scores.measure(logits.astype(np.float32), LABELS, 4)
    uneven = {"balanced_accuracy", "macro_f1"}
    assert set(metrics) == {"accuracy", "nll", "brier", "ece", "gap"} | uneven
    assert metrics["accuracy"] == pytest.approx(4 / 6)
    assert metrics["gap"] == pytest.approx(4.25 / 6 - 4 / 6)
    assert metrics["brier"] == pytest.approx(2.51 / 6, abs=1e-6)
    expected = -sum(map(math.log, [1.0, 0.25, 0.7, 0.5, 0.25, 0.9])) / 6
    assert metrics["nll"] == pytest.approx(expected, abs=1e-6)
    assert sum(diagram["count"]) == 6


@pytest.mark.parametrize("bins", [2, 10, 15, 100])
def test_confidence_one_and_every_edge_belong_to_the_bin_below(bins: int) -> None:
    edges = np.linspace(0.0, 1.0, bins + 1)
    first = int(np.ceil(bins / 2))  # of two classes the larger has at least a half
    for number in range(first, bins + 1):
        confidence = edges[number]
        if confidence < 0.5:
            continue
        probability = np.array([[confidence, 1 - confidence]])
        diagram = scores.reliability(probability, np.array([0]), bins)
        assert diagram["count"].index(1) == number - 1
        assert len(diagram["count"]) == bins


def test_a_sure_and_right_model_is_perfect() -> None:
    logits = np.eye(10, dtype=np.float32)[np.arange(50) % 10] * 1000
    metrics, diagram = scores.measure(logits, np.arange(50) % 10, 15)
    ones = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 1.0)
    assert metrics == ones | {"nll": 0.0, "brier": 0.0, "ece": 0.0, "gap": 0.0}
    assert diagram["count"] == [0] * 14 + [50]
    assert diagram["confidence"][14] == 1.0


def test_a_sure_and_wrong_model_is_as_bad_as_can_be() -> None:
    logits = np.eye(10, dtype=np.float32)[np.arange(50) % 10] * 1000
    metrics, _ = scores.measure(logits, (np.arange(50) + 1) % 10, 15)
    zeros = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 0.0)
    assert metrics == zeros | {"nll": 1000.0, "brier": 2.0, "ece": 1.0, "gap": 1.0}


def simulated(seed: int, count: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the very probabilities that they stand for."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 2, (count, 10))
    cumulative = scores.probabilities(logits).cumsum(axis=1)
    labels = (draw.random((count, 1)) > cumulative).sum(axis=1)
    return logits, labels


def test_a_calibrated_model_scores_about_half_a_percent() -> None:
    found = []
    for seed in range(10):
        metrics, _ = scores.measure(*simulated(seed), 15)
        found.append(metrics["ece"])
        assert abs(metrics["gap"]) < 0.015
    assert 0.004 < np.mean(found) < 0.013
    assert max(found) < 0.02
    # Mostly sure, as trained networks are, it is the 0.005 that the literature tells.
    sure = [scores.measure(logits, labels, 15)[0]["ece"] for logits, labels in map(certain, (0, 1))]
    assert np.mean(sure) == pytest.approx(0.005, abs=0.0025)


def certain(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1, (10_000, 10))
    logits[np.arange(10_000), draw.integers(10, size=10_000)] += 5.5
    cumulative = scores.probabilities(logits).cumsum(axis=1)
    return logits, np.minimum((draw.random((10_000, 1)) > cumulative).sum(axis=1), 9)


@pytest.mark.parametrize(("right", "gap"), [(700, 0.2), (900, 0.0), (1000, -0.1)])
def test_a_gap_that_is_known(right: int, gap: float) -> None:
    # 1000 times 90% sure of class 0 of ten.
    logits = np.zeros((1000, 10))
    logits[:, 0] = math.log(0.9 / (0.1 / 9))
    labels = np.where(np.arange(1000) < right, 0, 3)
    metrics, _ = scores.measure(logits, labels, 15)
    assert metrics["gap"] == pytest.approx(gap, abs=1e-9)
    assert metrics["ece"] == pytest.approx(abs(gap), abs=1e-9)


def test_too_sharp_logits_are_over_confident_and_too_flat_ones_under_confident() -> None:
    logits, labels = simulated(0)
    sharp, _ = scores.measure(3 * logits, labels, 15)
    flat, _ = scores.measure(logits / 3, labels, 15)
    plain, _ = scores.measure(logits, labels, 15)
    assert sharp["gap"] > 0.1 and flat["gap"] < -0.1
    assert sharp["accuracy"] == flat["accuracy"] == plain["accuracy"]
    for other in (sharp, flat):
        assert other["ece"] == pytest.approx(abs(other["gap"]), abs=0.01)
        assert other["nll"] > plain["nll"] and other["brier"] > plain["brier"]


@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(0.01, 30),
    count=st.integers(1, 60),
    classes=st.integers(3, 12),
)
def test_against_other_implementations(seed: int, scale: float, count: int, classes: int) -> None:
    draw = np.random.default_rng(seed)
    logits = (scale * draw.normal(size=(count, classes))).astype(np.float32)
    labels = draw.integers(classes, size=count)
    probability = scores.probabilities(logits)
    wide = torch.from_numpy(logits).double()
    np.testing.assert_allclose(probability, wide.softmax(1).numpy(), rtol=1e-12, atol=1e-300)
    loss = F.cross_entropy(wide, torch.from_numpy(labels)).item()
    assert scores.nll(logits, labels) == pytest.approx(loss, rel=1e-9, abs=1e-12)
    if probability.min() > 1e-12:
        theirs = log_loss(labels, probability, labels=range(classes))
        assert scores.nll(logits, labels) == pytest.approx(theirs, rel=1e-6, abs=1e-9)
    one_hot = label_binarize(labels, classes=range(classes))
    theirs = classes * mean_squared_error(one_hot, probability)
    assert scores.brier(probability, labels) == pytest.approx(theirs)

    metrics, diagram = scores.measure(logits, labels, 15)
    assert sum(diagram["count"]) == count
    assert abs(metrics["gap"]) <= metrics["ece"] + 1e-12 <= 1 + 1e-12
    # The bins put together are the whole.
    hits = sum(n * a for n, a in zip(diagram["count"], diagram["accuracy"], strict=True) if n)
    assert hits / count == pytest.approx(metrics["accuracy"])


@pytest.mark.parametrize("size", [1e3, 1e10, 3e38])
def test_extreme_logits(size: float) -> None:
    logits = np.array([[size, 0.0, -size], [-size, size, size]], dtype=np.float32)
    labels = np.array([2, 1])
    metrics, _ = scores.measure(logits, labels, 15)
    assert all(math.isfinite(value) for value in metrics.values())
    wide = torch.from_numpy(logits).double()
    expected = F.cross_entropy(wide, torch.from_numpy(labels)).item()
    assert metrics["nll"] == pytest.approx(expected)
    assert metrics["nll"] == pytest.approx((2 * float(logits[0, 0]) + math.log(2)) / 2)


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    logits, labels = simulated(3, 500)
    one, _ = scores.measure(logits, labels, 15)
    other, _ = scores.measure(logits + 1000, labels, 15)
    assert other == pytest.approx(one, rel=1e-9)


def test_the_inputs_are_left_alone() -> None:
    probability, labels = PROBABILITY.copy(), LABELS.copy()
    scores.brier(probability, labels)
    scores.reliability(probability, labels, 4)
    np.testing.assert_array_equal(probability, PROBABILITY)
    np.testing.assert_array_equal(labels, LABELS)
