"""Which bin a confidence belongs to, and what bins say: by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from statsmodels.stats.proportion import proportion_confint

from mixbench.experiments.evaluation.calibration import binning

TIED = st.lists(st.integers(0, 16).map(lambda n: n / 16), min_size=1, max_size=80)


def test_edges_belong_to_the_bin_below() -> None:
    values = np.array([0.0, 0.1, 0.25, np.nextafter(0.25, 1), 0.5, 0.75, 0.99, 1.0])
    assert binning.equal_width(values, 4).tolist() == [0, 0, 0, 1, 1, 2, 3, 3]
    assert binning.equal_width(values, 1).tolist() == [0] * 8


@pytest.mark.parametrize(("count", "bins"), [(10, 5), (10, 4), (7, 15), (1, 15), (1000, 15)])
def test_bins_of_equal_mass_are_equal_where_they_can_be(count: int, bins: int) -> None:
    values = np.random.default_rng(0).permutation(count) / count
    sizes = np.bincount(binning.equal_mass(values, bins), minlength=bins)
    assert len(sizes) == bins and sizes.sum() == count
    assert sizes.max() - sizes.min() <= 1


def test_ties_go_where_the_middle_of_them_lies() -> None:
    # Ranks 0..9, two bins, parted at rank 5. The four of 0.5 have ranks 2..5, their middle (4)
    # is below 5; the 0.7 behind them go above.
    values = np.array([0.5, 0.7, 0.2, 0.5, 0.9, 0.5, 0.1, 0.7, 0.5, 0.8])
    assert binning.equal_mass(values, 2).tolist() == [0, 1, 0, 0, 1, 0, 0, 1, 0, 1]
    # All the same: all in the middle bin, the others are empty.
    assert binning.equal_mass(np.full(7, 1.0), 5).tolist() == [2] * 7
    # Sure of more than half: the ties fill one bin, and no other is moved by it.
    values = np.array([0.1, 0.2, 0.3, 0.4, *[1.0] * 6])
    assert binning.equal_mass(values, 5).tolist() == [0, 0, 1, 1, *[3] * 6]


@given(values=TIED, bins=st.integers(1, 20), seed=st.integers(0, 99))
def test_ties_are_never_parted_and_order_has_no_say(
    values: list[float], bins: int, seed: int
) -> None:
    confidence = np.array(values)
    for rule in (binning.equal_mass, binning.equal_width):
        index = rule(confidence, bins)
        assert index.min() >= 0 and index.max() < bins
        for value in set(values):
            assert len(set(index[confidence == value])) == 1
        # Rising, whatever the order that they come in.
        assert (np.diff(index[confidence.argsort()]) >= 0).all()
        order = np.random.default_rng(seed).permutation(len(values))
        np.testing.assert_array_equal(rule(confidence[order], bins), index[order])


@given(values=TIED, bins=st.integers(1, 20), seed=st.integers(0, 99))
def test_nothing_is_lost_in_bins(values: list[float], bins: int, seed: int) -> None:
    confidence = np.array(values)
    correct = np.random.default_rng(seed).random(len(values)) < 0.6
    for rule in (binning.equal_mass, binning.equal_width):
        held = binning.binned(confidence, correct, rule(confidence, bins), bins)
        assert held.count.sum() == len(values)
        assert held.hits.sum() == correct.sum()
        assert held.confidence.sum() == pytest.approx(confidence.sum())
        assert held.variance.sum() == pytest.approx((confidence * (1 - confidence)).sum())
        assert (held.filled().count > 0).all()


def test_a_diagram_by_hand() -> None:
    confidence = np.array([1.0, 0.75, 0.7, 0.5, 0.4, 0.9])
    correct = np.array([True, False, True, True, False, True])
    found = binning.diagram(confidence, correct, binning.equal_width(confidence, 4), 4)
    assert found["count"] == [0, 2, 2, 2]
    assert found["accuracy"] == [None, 0.5, 0.5, 1.0]
    assert found["confidence"][0] is None
    assert found["confidence"][1:] == pytest.approx([0.45, 0.725, 0.95])
    assert found["lowest"] == [None, 0.4, 0.7, 0.9]
    assert found["highest"] == [None, 0.5, 0.75, 1.0]
    # Wilson, 1 of 2 and 2 of 2: z² = 3.8415.
    z2 = 1.959963984540054**2
    half = math.sqrt(z2) / (1 + z2 / 2) * math.sqrt(0.125 + z2 / 16)
    assert found["accuracy_low"][1] == pytest.approx(0.5 - half)
    assert found["accuracy_high"][1] == pytest.approx(0.5 + half)
    assert found["accuracy_low"][3] == pytest.approx(2 / (2 + z2))
    assert found["accuracy_high"][3] == 1.0
    assert all(type(n) is int for n in found["count"])
    assert all(type(x) is float for x in found["accuracy"][1:])


@pytest.mark.parametrize(("hits", "count"), [(0, 1), (1, 1), (0, 50), (50, 50), (3, 7), (980, 999)])
def test_wilson_against_others(hits: int, count: int) -> None:
    low, high = binning.wilson(np.array([hits]), np.array([count]))
    theirs = proportion_confint(hits, count, method="wilson")
    assert (low[0], high[0]) == pytest.approx(theirs, abs=1e-12)
    scipys = binomtest(hits, count).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((scipys.low, scipys.high), abs=1e-12)
    assert low[0] < high[0]


@pytest.mark.parametrize("bins", [2, 10, 15])
def test_equal_width_against_scikit_learn_on_edges_too(bins: int) -> None:
    draw = np.random.default_rng(1)
    confidence = np.concatenate([draw.random(300), np.linspace(0, 1, bins + 1), [1.0, 0.0]])
    correct = draw.random(len(confidence)) < confidence
    accuracy, mean = calibration_curve(correct, confidence, n_bins=bins, strategy="uniform")
    found = binning.diagram(confidence, correct, binning.equal_width(confidence, bins), bins)
    assert [x for x in found["accuracy"] if x is not None] == pytest.approx(accuracy)
    assert [x for x in found["confidence"] if x is not None] == pytest.approx(mean)


def test_equal_mass_against_scikit_learn() -> None:
    # Without ties and with a round number in each, where its interpolated edges part the same.
    draw = np.random.default_rng(2)
    confidence = draw.random(150)
    correct = draw.random(150) < confidence
    accuracy, mean = calibration_curve(correct, confidence, n_bins=15, strategy="quantile")
    found = binning.diagram(confidence, correct, binning.equal_mass(confidence, 15), 15)
    assert found["count"] == [10] * 15
    assert found["accuracy"] == pytest.approx(accuracy)
    assert found["confidence"] == pytest.approx(mean)
