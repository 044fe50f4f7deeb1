"""Statistics against hand-computed numbers, scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from mixbench.analysis.statistics.tests import compare_family, estimate, holm, paired_difference


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


def test_pairs_by_hand() -> None:
    # Differences 1, 2, 3 although both sides swing by 100: pairing takes the swing out.
    found = paired_difference({0: 101.0, 1: 2.0, 2: 53.0}, {2: 50.0, 0: 100.0, 1: 0.0})
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(2.484138, abs=1e-6)
    assert found.seeds == (0, 1, 2)
    assert found.note == ""
    # t = 2 / (1/sqrt(3)) = 3.4641 with 2 degrees of freedom
    assert found.p == pytest.approx(0.074180, abs=1e-6)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=10).filter(
        lambda pairs: np.std([a - b for a, b in pairs]) > 1e-6
    )
)
def test_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    cell = {seed: a for seed, (a, _) in enumerate(pairs)}
    base = {seed: b for seed, (_, b) in enumerate(pairs)}
    found = paired_difference(cell, base)
    oracle = stats.ttest_rel([a for a, _ in pairs], [b for _, b in pairs])
    low, high = oracle.confidence_interval(0.95)
    assert found.p == pytest.approx(oracle.pvalue, rel=1e-6, abs=1e-12)
    assert found.low == pytest.approx(low, abs=1e-9)
    assert found.high == pytest.approx(high, abs=1e-9)


def test_missing_pairs_are_left_out_and_named() -> None:
    found = paired_difference({0: 0.9, 1: 0.8, 3: 0.7, 5: None}, {0: 0.8, 1: 0.75, 2: 0.7, 5: 0.7})
    assert found.seeds == (0, 1)
    assert found.mean == pytest.approx(0.075)
    assert "the baseline has no value for seed 3" in found.note
    assert "no value for seeds 2, 5" in found.note


def test_without_a_pair_there_is_nothing_but_the_reason() -> None:
    found = paired_difference({0: 0.9}, {1: 0.8})
    assert (found.mean, found.half_width, found.p) == (None, None, None)
    assert "no seed in common" in found.note
    assert not found.excludes_zero


def test_one_pair_has_a_mean_and_no_interval() -> None:
    found = paired_difference({4: 0.9}, {4: 0.8})
    assert found.mean == pytest.approx(0.1)
    assert (found.half_width, found.p) == (None, None)
    assert "seed 4" in found.note


@pytest.mark.parametrize("shift", [0.0, 1 / 360])
def test_equal_differences_prove_nothing(shift: float) -> None:
    # On a small test set two seeds often differ by the same number of images.
    base = {0: 0.80, 1: 0.81, 2: 0.79}
    found = paired_difference({seed: value + shift for seed, value in base.items()}, base)
    assert (found.half_width, found.p) == (None, None)
    assert "the same amount" in found.note


def test_holm_by_hand() -> None:
    # 3 * 0.01, then max(0.03, 2 * 0.02), then max(0.04, 0.03); None is not tested.
    assert holm([0.03, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])


def test_holm_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 16):
        p_values = np.round(rng.uniform(0, 0.3, size), 2).tolist()  # rounded, so some are equal
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))


def test_a_family_corrects_over_its_own_comparisons_only() -> None:
    base = {0: 0.0, 1: 0.0, 2: 0.0}
    cells = {
        name: {0: 1.0 * scale, 1: 1.1 * scale, 2: 1.2}
        for name, scale in (("a", 1.0), ("b", 0.5), ("c", 0.2))
    }
    alone = compare_family({"a": (cells["a"], base)})
    assert alone["a"].p_holm == alone["a"].p
    together = compare_family({name: (cell, base) for name, cell in cells.items()})
    raw = [paired_difference(cell, base).p for cell in cells.values()]
    assert [d.p_holm for d in together.values()] == pytest.approx(holm(raw))
    assert together["a"].p_holm == pytest.approx(3 * (alone["a"].p or 0))


def test_holm_is_at_least_the_raw_p_and_an_interval_that_excludes_zero_has_p_below_5() -> None:
    rng = np.random.default_rng(3)
    base = dict(enumerate(rng.normal(0.8, 0.01, 5)))
    cells = {k: {s: v + rng.normal(k / 300, 0.01) for s, v in base.items()} for k in range(20)}
    for found in compare_family({k: (cell, base) for k, cell in cells.items()}).values():
        assert found.p is not None and found.p_holm is not None
        assert found.p_holm >= found.p
        assert found.excludes_zero == (found.p < 0.05)
