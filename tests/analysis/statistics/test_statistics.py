"""Statistics against hand-computed numbers, scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from mixbench.analysis.statistics.contrasts import Contrast, Stratum, compare
from mixbench.analysis.statistics.estimates import estimate


def test_interval_by_hand() -> None:
    # mean 2, standard deviation 1, error 1/sqrt(3), t(0.975, 2) = 4.302653
    found = estimate([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302652729911275 / math.sqrt(3), rel=1e-9)
    assert found.n == 3


@settings(deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12).filter(lambda v: np.std(v) > 1e-6))
def test_interval_is_statsmodels(values: list[float]) -> None:
    found = estimate(values)
    low, high = DescrStatsW(values).tconfint_mean()
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def test_interval_covers_what_it_says_with_three_seeds() -> None:
    # A standard error with ddof=0 covers 50% here, a bootstrap 76%.
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(4000):
        found = estimate(rng.normal(0.8, 0.01, 3).tolist())
        covered += found.low is not None and found.low <= 0.8 <= (found.high or 0)
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_one_value_has_no_interval_and_none_has_no_mean() -> None:
    assert estimate([0.8]).mean == 0.8
    assert estimate([0.8]).half_width is None
    assert estimate([]).mean is None
    assert estimate([None, float("nan"), 0.5, 0.7]).n == 2


def paired(cell: dict[int, float | None], base: dict[int, float | None]) -> Contrast:
    stratum = Stratum("all", {"cell": cell, "base": base}, [("cell", "base")])
    return compare([stratum], unit="seed")[0]


def test_pairs_by_hand() -> None:
    # Differences 1, 2, 3 although both sides swing by 100: pairing takes the swing out.
    found = paired({0: 101.0, 1: 2.0, 2: 53.0}, {2: 50.0, 0: 100.0, 1: 0.0})
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(2.484138, rel=1e-3)
    assert found.replicates == (0, 1, 2)
    assert found.note == ""
    # t = 2 / (1/sqrt(3)) = 3.4641 with 2 degrees of freedom
    assert found.p == pytest.approx(0.074180, abs=1e-4)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=10).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6
    )
)
def test_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    cell = {seed: a for seed, (a, _) in enumerate(pairs)}
    base = {seed: b for seed, (_, b) in enumerate(pairs)}
    found = paired(cell, base)
    oracle = stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs])
    low, high = oracle.confidence_interval(0.95)
    width = high - low
    assert found.p == pytest.approx(oracle.pvalue, rel=0.02, abs=1e-4)
    assert found.low == pytest.approx(low, abs=1e-3 * width)
    assert found.high == pytest.approx(high, abs=1e-3 * width)


def test_missing_pairs_are_left_out_and_named() -> None:
    found = paired({0: 0.9, 1: 0.8, 3: 0.7, 5: None}, {0: 0.8, 1: 0.75, 2: 0.7, 5: 0.7})
    assert found.replicates == (0, 1)
    assert found.mean == pytest.approx(0.075)
    assert "the baseline has no value for seed 3" in found.note
    assert "no value for seeds 2, 5" in found.note


def test_without_a_pair_there_is_nothing_but_the_reason() -> None:
    found = paired({0: 0.9}, {1: 0.8})
    assert (found.mean, found.half_width, found.p) == (None, None, None)
    assert "no seed in common" in found.note
    assert not found.is_clear


def test_one_pair_has_a_mean_and_no_interval() -> None:
    found = paired({4: 0.9}, {4: 0.8})
    assert found.mean == pytest.approx(0.1)
    assert (found.half_width, found.p) == (None, None)
    assert "seed 4" in found.note


@pytest.mark.parametrize("shift", [0.0, 1 / 360])
def test_equal_differences_prove_nothing(shift: float) -> None:
    # On a small test set two seeds often differ by the same number of images.
    base = {0: 0.80, 1: 0.81, 2: 0.79}
    found = paired({seed: value + shift for seed, value in base.items()}, base)
    assert (found.half_width, found.p) == (None, None)
    assert "the same amount" in found.note
