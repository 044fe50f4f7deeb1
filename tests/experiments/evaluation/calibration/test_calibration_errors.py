"""Calibration errors: worked out by hand, of models whose truth is known, against libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom
from torchmetrics.functional.classification import binary_calibration_error

from mixbench.experiments.evaluation.calibration import errors
from mixbench.experiments.evaluation.calibration.binning import (
    Binned,
    binned,
    equal_mass,
    equal_width,
)

RULES = {"width": equal_width, "mass": equal_mass}

# Two to a bin of width 1/4 in (0.25, 1]: accuracies 0.5, 0.5, 1 with confidences 0.45, 0.725, 0.95.
CONFIDENCE = np.array([1.0, 0.75, 0.7, 0.5, 0.4, 0.9])
CORRECT = np.array([True, False, True, True, False, True])


def held(confidence: np.ndarray, correct: np.ndarray, bins: int = 4, rule: str = "width") -> Binned:
    return binned(confidence, correct, RULES[rule](confidence, bins), bins)


def test_six_samples_by_hand() -> None:
    four = held(CONFIDENCE, CORRECT)
    assert errors.gap(CONFIDENCE, CORRECT) == pytest.approx(4.25 / 6 - 4 / 6)
    assert errors.expected(four) == pytest.approx((0.05 + 0.225 + 0.05) / 3)
    assert errors.greatest(four) == pytest.approx(0.225)
    # Only the bin at 0.725 is surer than right.
    assert errors.overconfidence(four) == pytest.approx(0.725 * 0.225 / 3)
    squares = (0.05**2 - 0.25) + (0.225**2 - 0.25) + 0.05**2
    assert errors.debiased_square(four) == pytest.approx(squares / 3)
    # By rising confidence, conf - hit: 0.4, -0.5, -0.3, 0.75, -0.1, 0; sums 0.4, -0.1, -0.4, ...
    assert errors.kolmogorov_smirnov(CONFIDENCE, CORRECT) == pytest.approx(0.4 / 6)


def test_bins_of_equal_mass_by_hand() -> None:
    # Two bins of three: 0.4, 0.5, 0.7 with two hits and 0.75, 0.9, 1 with two.
    two = held(CONFIDENCE, CORRECT, 2, "mass")
    low, high = abs(1.6 - 2) / 3, abs(2.65 - 2) / 3
    assert errors.expected(two) == pytest.approx((low + high) / 2)
    assert errors.greatest(two) == pytest.approx(high)
    assert errors.overconfidence(two) == pytest.approx(2.65 / 3 * high / 2)
    chance = (2 / 3) * (1 / 3) / 2
    square = (low**2 + high**2) / 2 - chance
    assert errors.debiased_square(two) == pytest.approx(square)


def test_one_bin_is_the_gap() -> None:
    for rule in RULES:
        one = held(CONFIDENCE, CORRECT, 1, rule)
        gap = 4.25 / 6 - 4 / 6
        assert errors.expected(one) == errors.greatest(one) == pytest.approx(gap)
        assert errors.overconfidence(one) == pytest.approx(4.25 / 6 * gap)
        # Under-confident by the same: no over-confidence.
        assert errors.overconfidence(held(CONFIDENCE - 0.2, CORRECT, 1, rule)) == 0.0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("confidence", "correct"), [(0.7, True), (0.7, False), (1.0, False)])
def test_one_sample(rule: str, confidence: float, correct: bool) -> None:
    one = held(np.array([confidence]), np.array([correct]), 15, rule)
    off = abs(confidence - correct)
    assert errors.expected(one) == errors.greatest(one) == pytest.approx(off)
    assert errors.overconfidence(one) == pytest.approx(0 if correct else confidence * off)
    assert errors.debiased_square(one) == 0.0
    # |hit - 0.7| is 0.3 in 7 of 10 cases and 0.7 in 3.
    by_chance = 2 * confidence * (1 - confidence)
    assert errors.expected_by_chance(one) == pytest.approx(by_chance)
    ks = errors.kolmogorov_smirnov(np.array([confidence]), np.array([correct]))
    assert ks == pytest.approx(off)


@pytest.mark.parametrize("rule", RULES)
def test_sure_and_right_or_wrong(rule: str) -> None:
    sure = np.ones(50)
    right, wrong = (held(sure, np.full(50, hit), 15, rule) for hit in (True, False))
    for error in (errors.expected, errors.greatest, errors.overconfidence, errors.debiased_square):
        assert error(right) == 0.0
        assert error(wrong) == 1.0
    assert errors.expected_by_chance(right) == errors.expected_by_chance(wrong) == 0.0
    assert errors.gap(sure, np.zeros(50, bool)) == 1.0
    assert errors.kolmogorov_smirnov(sure, np.zeros(50, bool)) == 1.0


def test_bins_with_one_sample_count_in_the_total_of_the_debiased() -> None:
    # Three at 0.9 (two hits) and one at 0.1: weight 3/4, not 1.
    found = errors.debiased_square(
        held(np.array([0.9, 0.9, 0.9, 0.1]), np.array([True, True, False, True]))
    )
    assert found == pytest.approx(3 / 4 * ((0.9 - 2 / 3) ** 2 - 2 / 9 / 2))


def test_class_wise_by_hand() -> None:
    probability = np.array([[1.0, 0.0], [0.75, 0.25], [0.5, 0.5], [0.3, 0.7]])
    labels = np.array([0, 1, 0, 1])
    # Two bins of width 1/2. Class 0: 0.5 and 0.3 (one of two), 1 and 0.75 (one of two).
    first = (abs(0.8 - 1) + abs(1.75 - 1)) / 4
    # Class 1: 0, 0.25, 0.5 (one of three) and 0.7 (one of one).
    second = (abs(0.75 - 1) + abs(0.7 - 1)) / 4
    found = errors.classwise(probability, labels, 2)
    assert found == pytest.approx((first + second) / 2)
    # A third class that never is and never is expected makes it smaller, by 2/3.
    third = np.hstack([probability, np.zeros((4, 1))])
    assert errors.classwise(third, labels, 2) == pytest.approx((first + second) / 3)


def test_ties_are_taken_together_by_ks() -> None:
    # One confidence, as many hits as promised: no error, though each sum on the way is off.
    confidence = np.full(10, 0.5)
    for order in (np.arange(10) < 5, np.arange(10) % 2 == 0):
        assert errors.kolmogorov_smirnov(confidence, order) == 0.0


def confidences(count: int, seed: int) -> np.ndarray:
    """As those of trained networks: most are near 1."""
    return 1 - 0.7 * np.random.default_rng(seed).beta(0.4, 2.5, count)


@pytest.mark.parametrize("rule", RULES)
def test_the_bias_of_a_calibrated_model_is_what_theory_says(rule: str) -> None:
    confidence = confidences(10_000, 0)
    draw = np.random.default_rng(1)
    runs = [held(confidence, draw.random(10_000) < confidence, 15, rule) for _ in range(300)]
    scores = np.array([errors.expected(run) for run in runs])
    expected = errors.expected_by_chance(runs[0])
    error = scores.std(ddof=1) / math.sqrt(len(scores))
    assert error < 1e-4
    assert 0.004 < expected < 0.008, "the half percent that is told of 10,000 samples"
    assert scores.mean() == pytest.approx(expected, abs=4 * error)

    # Without what chance gives, nothing is left, but for the differences within bins.
    squares = np.array([errors.debiased_square(run) for run in runs])
    of = runs[0].filled()
    mean = of.confidence / of.count
    within = mean * (1 - mean) - of.variance / of.count
    unseen = (of.count / 10_000 * within / np.maximum(of.count - 1, 1))[of.count > 1].sum()
    assert unseen < 2e-6
    error = squares.std(ddof=1) / math.sqrt(len(squares))
    assert error < 5e-6
    assert squares.mean() == pytest.approx(-unseen, abs=4 * error)
    assert (squares < 0).mean() > 0.2, "about 0 means below 0 as well"


@pytest.mark.parametrize(
    ("count", "chance"), [(1, 0.9), (20, 0.99), (7, 0.5), (500, 0.97), (9, 2 / 3)]
)
def test_what_chance_gives_one_bin_is_the_binomials_deviation(count: int, chance: float) -> None:
    hits = np.arange(count + 1)
    exact = (binom.pmf(hits, count, chance) * abs(hits / count - chance)).sum()
    one = held(np.full(count, chance), np.zeros(count, bool), 15)
    assert errors.expected_by_chance(one) == pytest.approx(exact, rel=1e-9)


def test_what_chance_gives_a_bin_of_many_confidences() -> None:
    # Half are certain, and half toss a coin: twenty coins among forty samples.
    confidence = np.repeat([0.5, 1.0], 20)
    hits = np.arange(21)
    exact = (binom.pmf(hits, 20, 0.5) * abs(hits - 10)).sum() / 40
    one = held(confidence, np.ones(40, bool), 1)
    assert errors.expected_by_chance(one) == pytest.approx(exact, rel=0.03)


@pytest.mark.parametrize("rule", RULES)
def test_an_overconfident_model_scores_the_gap_that_was_planted(rule: str) -> None:
    confidence, excess = confidences(10_000, 2), 0.1
    draw = np.random.default_rng(3)
    scores: dict[str, list[float]] = {name: [] for name in ("gap", "ece", "over", "square", "ks")}
    for _ in range(100):
        correct = draw.random(10_000) < confidence - excess
        run = held(confidence, correct, 15, rule)
        scores["gap"].append(errors.gap(confidence, correct))
        scores["ece"].append(errors.expected(run))
        scores["over"].append(errors.overconfidence(run))
        scores["square"].append(errors.debiased_square(run))
        scores["ks"].append(errors.kolmogorov_smirnov(confidence, correct))
    truth = {
        "gap": excess,
        "ece": excess,
        "ks": excess,
        "over": excess * confidence.mean(),
        "square": excess**2,
    }
    # |acc - conf| of a bin with a handful of samples is above 0.1 by chance: up to 0.0003.
    slack = {"ece": 3e-4, "over": 3e-4}
    for name, values in scores.items():
        error = np.std(values, ddof=1) / 10
        assert error < 5e-4
        assert np.mean(values) == pytest.approx(truth[name], abs=4 * error + slack.get(name, 0))


def test_the_debiased_is_right_where_the_plain_square_is_not() -> None:
    draw = np.random.default_rng(4)
    confidence = np.repeat(np.linspace(0.45, 0.95, 10), 20)
    plain, debiased = [], []
    for _ in range(2000):
        of = held(confidence, draw.random(200) < confidence - 0.05, 15, "mass").filled()
        plain.append(float((of.count * ((of.hits - of.confidence) / of.count) ** 2).sum() / 200))
        debiased.append(errors.debiased_square(of))
    error = np.std(debiased) / math.sqrt(2000)
    assert np.mean(debiased) == pytest.approx(0.0025, abs=4 * error)
    assert np.mean(plain) > 0.009, "mostly chance"


@pytest.mark.parametrize("seed", range(3))
def test_against_torchmetrics(seed: int) -> None:
    draw = np.random.default_rng(seed)
    confidence = draw.random(400)
    correct = draw.random(400) < confidence**2
    run = held(confidence, correct, 15)
    for norm, ours in (("l1", errors.expected(run)), ("max", errors.greatest(run))):
        theirs = binary_calibration_error(
            torch.from_numpy(confidence), torch.from_numpy(correct).long(), n_bins=15, norm=norm
        )
        assert ours == pytest.approx(theirs.item(), abs=1e-6)


def test_torchmetrics_has_a_bin_too_many() -> None:
    # Known error of the library (1.9): confidence 1 gets a bin of its own, the sixteenth.
    confidence, correct = np.array([1.0, 0.97]), np.array([False, True])
    theirs = binary_calibration_error(
        torch.from_numpy(confidence), torch.from_numpy(correct).long(), n_bins=15, norm="l1"
    )
    ours = errors.expected(held(confidence, correct, 15))
    assert ours == pytest.approx(abs(1.97 - 1) / 2)
    assert theirs.item() == pytest.approx((1.0 + 0.03) / 2)


SAMPLES = st.lists(
    st.tuples(st.integers(0, 16).map(lambda n: n / 16) | st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=60,
)


@given(samples=SAMPLES, bins=st.integers(1, 20), seed=st.integers(0, 99))
def test_what_holds_of_every_model(samples: list[tuple[float, bool]], bins: int, seed: int) -> None:
    confidence = np.array([sure for sure, _ in samples])
    correct = np.array([hit for _, hit in samples])
    order = np.random.default_rng(seed).permutation(len(samples))
    gap = errors.gap(confidence, correct)
    ks = errors.kolmogorov_smirnov(confidence, correct)
    assert abs(gap) - 1e-12 <= ks <= 1 + 1e-12
    assert errors.kolmogorov_smirnov(confidence[order], correct[order]) == pytest.approx(ks)
    for rule in RULES:
        run = held(confidence, correct, bins, rule)
        again = held(confidence[order], correct[order], bins, rule)
        ece, most, over = errors.expected(run), errors.greatest(run), errors.overconfidence(run)
        square, chance = errors.debiased_square(run), errors.expected_by_chance(run)
        assert abs(gap) - 1e-12 <= ece <= most + 1e-12 <= 1 + 2e-12
        assert 0 <= over <= ece + 1e-12
        assert -0.25 <= square <= most**2 + 1e-12
        assert 0 <= chance <= 0.5 + 1e-12
        for error in (
            errors.expected,
            errors.greatest,
            errors.overconfidence,
            errors.debiased_square,
            errors.expected_by_chance,
        ):
            assert error(again) == pytest.approx(error(run), abs=1e-9)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 40),
    classes=st.integers(1, 8),
    bins=st.integers(1, 20),
)
def test_class_wise_whatever_the_order(seed: int, count: int, classes: int, bins: int) -> None:
    draw = np.random.default_rng(seed)
    probability = draw.dirichlet(np.full(classes, 0.5), count)
    labels = draw.integers(classes, size=count)
    found = errors.classwise(probability, labels, bins)
    assert 0 <= found <= 1
    rows, columns = draw.permutation(count), draw.permutation(classes)
    moved = errors.classwise(probability[rows][:, columns], columns.argsort()[labels[rows]], bins)
    assert moved == pytest.approx(found, abs=1e-9)
