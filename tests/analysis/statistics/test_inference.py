"""Statistics by simulation and against independent oracles: coverage, error rates, power."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from mixbench.analysis.statistics import components, exact, images, max_t, power, two_way
from mixbench.analysis.statistics.best_set import best_set
from mixbench.analysis.statistics.contrasts import (
    Contrast,
    Stratum,
    Verdict,
    all_pairs,
    compare,
    many_to_one,
)
from mixbench.analysis.statistics.datasets import pool, rank
from mixbench.analysis.statistics.sequential import look_levels
from mixbench.analysis.statistics.units import Unit

ALONE = 0.46
"""The standard deviation of a paired difference in the review of the demo, in points."""
DEMO = (0.30, 0.13, 0.64, 0.30, 0.40, 0.20, 0.30)
"""Unequal spreads of seven cells, as the demo has them."""


def _runs(values: np.ndarray) -> dict[str, dict[int, float]]:
    return {f"c{cell}": dict(enumerate(column.tolist())) for cell, column in enumerate(values.T)}


def _contrasts(values: np.ndarray, margin: float | None = None) -> list[Contrast]:
    runs = _runs(values)
    return compare([Stratum("all", runs, many_to_one(list(runs), "c0"))], margin=margin)


def _simulated(
    n: int, spreads: tuple[float, ...], means: np.ndarray, times: int, seed: int
) -> list[list[Contrast]]:
    draw = np.random.default_rng(seed)
    luck = 0.24 * draw.normal(size=(times, n, 1))
    values = means + luck + draw.normal(size=(times, n, len(spreads))) * spreads
    return [_contrasts(sample) for sample in values]


# Of 150 sweeps, a true 95 % shows more than 90 % in 99 % of simulations.
@pytest.mark.parametrize("n", [3, 5, 10, 20])
@pytest.mark.parametrize("spreads", [(ALONE / 2**0.5,) * 7, DEMO], ids=["equal", "unequal"])
def test_simultaneous_intervals_cover_and_hold_the_familywise_error(
    n: int, spreads: tuple[float, ...]
) -> None:
    means = np.array([80.0, 80, 80, 80, 80.5, 81, 79])
    truth = means[1:] - means[0]
    sweeps = _simulated(n, spreads, means, 150, seed=n)
    covered = [
        all(c.low <= true <= c.high for c, true in zip(sweep, truth, strict=True))  # type: ignore[operator]
        for sweep in sweeps
    ]
    false = [
        any(c.p < 0.05 for c, true in zip(sweep, truth, strict=True) if true == 0)  # type: ignore[operator]
        for sweep in sweeps
    ]
    assert np.mean(covered) > 0.9
    assert np.mean(false) < 0.1


def test_a_noisy_baseline_does_not_make_all_intervals_too_narrow() -> None:
    means = np.zeros(7)
    for n, least in ((3, 0.88), (5, 0.91), (10, 0.93)):
        sweeps = _simulated(n, (1.0, *(0.325,) * 6), means, 150, seed=n)
        covered = [all(c.low <= 0 <= c.high for c in sweep) for sweep in sweeps]  # type: ignore[operator]
        assert np.mean(covered) >= least


def test_power_is_that_of_a_pooled_test_where_holms_paired_t_has_half() -> None:
    """at +0.82 points and five replicates 79 % against 38 %."""
    means = np.array([0, 0.82, 0, 0, 0, 0, 0])
    sweeps = _simulated(5, (ALONE / 2**0.5,) * 7, means, 200, seed=1)
    assert np.mean([sweep[0].verdict == Verdict.BETTER for sweep in sweeps]) >= 0.7
    draw = np.random.default_rng(1)
    first = 0
    for _ in range(300):
        sample = means + draw.normal(size=(5, 7)) * ALONE / 2**0.5
        p = stats.ttest_1samp(sample[:, 1:] - sample[:, :1], 0).pvalue
        first += p[0] < 0.05 / 6
    assert first / 300 < 0.5


def test_gaps_cost_pairs_but_no_coverage() -> None:
    draw = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        runs = _runs(draw.normal(size=(5, 5)) * 0.3 + 0.24 * draw.normal(size=(5, 1)))
        for cell, replicate in zip(draw.integers(1, 5, 3), draw.integers(0, 5, 3), strict=True):
            runs[f"c{cell}"].pop(int(replicate), None)
        contrasts = compare([Stratum("all", runs, many_to_one(list(runs), "c0"))])
        covered.append(all(c.low is None or c.low <= 0 <= (c.high or 0) for c in contrasts))
        for contrast in contrasts:
            here, there = runs[contrast.cell], runs["c0"]
            shared = here.keys() & there.keys()
            assert contrast.n == len(shared)
            paired = sum(here[r] - there[r] for r in shared) / len(shared)
            assert contrast.difference == pytest.approx(paired)
    assert np.mean(covered) >= 0.92


def test_one_contrast_is_the_paired_t_test() -> None:
    values = np.random.default_rng(3).normal(size=(6, 2))
    (contrast,) = _contrasts(values, margin=0.5)
    test = stats.ttest_rel(values[:, 1], values[:, 0])
    interval = test.confidence_interval(0.95)
    assert contrast.p == pytest.approx(test.pvalue, abs=1e-4)
    assert (contrast.low, contrast.high) == pytest.approx((interval.low, interval.high), rel=1e-3)
    better = stats.t.sf((0.5 - contrast.difference) / contrast.standard_error, 5)  # type: ignore[operator]
    assert contrast.p_better == pytest.approx(better)


@pytest.mark.parametrize(("count", "df"), [(3, 20), (6, 24), (6, 4), (12, 200)])
def test_critical_values_are_dunnetts(count: int, df: int) -> None:
    loads = np.c_[-np.ones(count), np.eye(count)]
    critical = max_t.critical_value([max_t.family(loads, df)], 0.05)
    correlation = np.full((count, count), 0.5) + 0.5 * np.eye(count)
    oracle = stats.multivariate_t(np.zeros(count), correlation, df, seed=0)
    inside = oracle.cdf(np.full(count, critical), lower_limit=np.full(count, -critical))
    assert inside == pytest.approx(0.95, abs=0.002)


@pytest.mark.parametrize(("cells", "df"), [(3, 10), (7, 40)])
def test_critical_values_of_all_pairs_are_tukeys(cells: int, df: int) -> None:
    names = [f"c{index}" for index in range(cells)]
    loads = np.zeros((cells * (cells - 1) // 2, cells))
    for row, (one, other) in enumerate(all_pairs(names)):
        loads[row, names.index(one)], loads[row, names.index(other)] = 1, -1
    critical = max_t.critical_value([max_t.family(loads, df)], 0.05)
    oracle = stats.studentized_range.ppf(0.95, cells, df) / math.sqrt(2)
    assert critical == pytest.approx(oracle, abs=0.01)


def test_independent_strata_are_one_family() -> None:
    one = max_t.family(np.array([[1.0, -1.0]]), 10)
    critical = max_t.critical_value([one, one, one], 0.05)
    sidak = stats.t.ppf(1 - (1 - 0.95 ** (1 / 3)) / 2, 10)
    assert critical == pytest.approx(sidak, abs=0.005)


def test_very_many_strata_are_one_family_too() -> None:
    """Of two cells each, where Sidak's inequality is exact."""
    values = np.random.default_rng(4).normal((0, 2), size=(12, 5, 2))
    strata = [Stratum(str(n), _runs(one), [("c1", "c0")]) for n, one in enumerate(values)]
    for contrast, one in zip(compare(strata, margin=0.5), values, strict=True):
        alone = stats.ttest_rel(one[:, 1], one[:, 0])
        assert contrast.p == pytest.approx(1 - (1 - alone.pvalue) ** 12)
        interval = alone.confidence_interval(0.95 ** (1 / 12))
        assert (contrast.low, contrast.high) == pytest.approx((interval.low, interval.high))


def test_power_is_statsmodels_and_the_table_of_replicates() -> None:
    def alone(n: int) -> tuple[float, float]:
        return n - 1, float(stats.t.ppf(0.975, n - 1))

    for n, effect in ((3, 4.0), (5, 0.8), (9, 0.5 / ALONE), (20, 0.3 / ALONE)):
        own = power.power(effect * math.sqrt(n), *alone(n))
        assert own == pytest.approx(TTestPower().power(effect, n, 0.05), abs=1e-4)
    needed = [power.replicates_needed(margin, ALONE, alone) for margin in (0.3, 0.5, 1.0)]
    assert needed == [21, 9, 4]
    found = [power.detectable(ALONE / math.sqrt(n), *alone(n)) for n in (3, 5, 10, 20)]
    assert found == pytest.approx([1.5, 0.78, 0.46, 0.30], abs=0.02)


def test_equivalent_is_two_one_sided_tests() -> None:
    """equivalence within 0.5 points needs 9 replicates at a standard deviation of 0.46."""
    draw = np.random.default_rng(5)
    shown = 0
    for _ in range(300):
        values = draw.normal(size=(9, 2)) * ALONE / 2**0.5
        (contrast,) = _contrasts(values, margin=0.5)
        differences = values[:, 1] - values[:, 0]
        t = stats.t.ppf(0.95, 8) * differences.std(ddof=1) / 3
        by_hand = abs(differences.mean()) + t < 0.5
        assert (contrast.verdict == Verdict.EQUIVALENT) == by_hand
        shown += by_hand
    assert 0.73 <= shown / 300 <= 0.87


def test_the_best_set_keeps_both_of_two_equal_methods() -> None:
    """ "exactly one of two equal methods is ahead" happened in 32 % of sweeps."""
    draw = np.random.default_rng(6)
    means = np.array([0, 0.8, 0.8, 0, 0, 0, 0])
    both = exact_one = without_none = 0
    for _ in range(200):
        runs = _runs(means + draw.normal(size=(5, 7)) * ALONE / 2**0.5)
        best = best_set(runs)
        both += {"c1", "c2"} <= set(best)
        exact_one += len({"c1", "c2"} & set(best)) == 1
        without_none += "c0" not in best
    assert both / 200 >= 0.9
    assert exact_one / 200 <= 0.1
    assert without_none / 200 >= 0.5
    lower = {cell: {r: -value for r, value in of.items()} for cell, of in runs.items()}
    assert best_set(lower, better=-1) == best


def test_looks_spend_the_level_and_no_more() -> None:
    draw = np.random.default_rng(7)
    for looks in ([5, 10, 20], [3, 5, 8, 10, 15, 20]):
        samples = draw.normal(size=(20_000, looks[-1]))
        rejected, naive = np.zeros(20_000, bool), np.zeros(20_000, bool)
        for n, level in zip(looks, look_levels(looks), strict=True):
            seen = samples[:, :n]
            t = np.abs(seen.mean(1)) / seen.std(1, ddof=1) * math.sqrt(n)
            rejected |= t > stats.t.ppf(1 - level / 2, n - 1)
            naive |= t > stats.t.ppf(0.975, n - 1)
        assert rejected.mean() == pytest.approx(0.05, abs=0.01)
        assert naive.mean() > 0.1
    assert look_levels([1, 2])[0] == pytest.approx(0.025, abs=1e-4)
    with pytest.raises(ValueError, match="rise"):
        look_levels([5, 5])


def test_components_are_those_of_the_review() -> None:
    """CutMix minus none over nine subsets and three seeds."""
    text = """
        .25 .96 .75 | .67 -.02 .43 | 1.02 .69 .34 | .17 -.05 .27 | -.08 .83 .23
        -.70 .13 .55 | .20 -.64 -.21 | .50 .48 1.18 | .63 .61 .50"""
    rows = [row.split() for line in text.strip().splitlines() for row in line.split("|")]
    values = {
        (replicate, seed): float(value)
        for replicate, row in enumerate(rows)
        for seed, value in enumerate(row)
    }
    parts = components.components(values)
    assert parts is not None
    assert (parts.replicate, parts.seed, parts.rest) == pytest.approx((0.24, 0, 0.40), abs=0.005)
    assert parts.better_more == "replicates"
    values.pop((3, 1))
    fewer = components.components(values)
    assert fewer is not None
    assert (fewer.replicates, fewer.seeds) == (8, 3)


def test_crossed_images_cover_a_new_sample_of_images() -> None:
    draw = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        values = (
            0.3
            + 0.15 * draw.normal(size=(8, 1))
            + 0.8 * draw.normal(size=(1, 60))
            + draw.normal(size=(8, 60))
        )
        luck = images.crossed(values)
        assert luck.both >= max(luck.replicates, luck.images) - 1e-12
        covered += abs(luck.mean - 0.3) <= 2.1 * luck.both
    assert 0.9 <= covered / 200 <= 0.99


def test_sign_flips_are_counted() -> None:
    differences = [0.5, -0.2, 0.9, 0.4, 0.1, 0.3]
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    means = np.abs(signs.T @ np.array(differences)) / 6
    counted = np.mean(means >= abs(np.mean(differences)) - 1e-12)
    assert exact.sign_flip(differences) == pytest.approx(counted)
    assert exact.sign_flip([1, 2, 3, 4, 5]) == exact.floor(5) == 0.0625


def test_ranks_and_pooled_differences() -> None:
    draw = np.random.default_rng(9)
    base = draw.normal(size=12)
    ranks = rank(
        {"none": list(base), "a": list(base + 1), "b": list(base + 1 + 0.01 * draw.normal(size=12))}
    )
    assert ("b", "a") in ranks.p or ("a", "b") in ranks.p
    assert {"a", "b"} in [set(clique) for clique in ranks.cliques]
    assert ranks.average["none"] == 3
    # Hartung and Knapp by hand, with equal standard errors.
    differences, error = [0.8, 1.1, 0.2, 0.5], 0.2
    pooled = pool(differences, [error] * 4)
    spread = np.std(differences, ddof=1)
    half = stats.t.ppf(0.975, 3) * spread / 2
    assert pooled.difference == pytest.approx(np.mean(differences))
    assert pooled.between == pytest.approx(math.sqrt(spread**2 - error**2), rel=1e-3)
    assert pooled.high - pooled.difference == pytest.approx(half, rel=1e-3)


def test_extreme_input_gives_no_false_certainty() -> None:
    equal = compare(
        [Stratum("", {"a": {0: 0.5, 1: 0.5}, "b": {0: 0.6, 1: 0.6}}, [("b", "a")])], margin=0.01
    )[0]
    assert (equal.low, equal.p, equal.verdict) == (None, None, Verdict.UNDECIDED)
    assert "same amount" in equal.note
    nothing = compare([Stratum("", {"a": {0: 1.0}, "b": {1: 2.0}}, [("b", "a")])])[0]
    assert (nothing.n, nothing.difference) == (0, None)
    assert best_set({"a": {0: 0.5}, "b": {0: 0.6}}) == ["b", "a"]
    assert two_way.fit(np.array([[1.0, 2.0, 3.0]])).total_df == 0


def test_folds_hold_their_error_by_cross_validation_of_learners_that_are_alike() -> None:
    """Nearest class means on two sets of features that tell equally much: no true difference.

    150 data sets of 60 images, 5 folds, 4 times. By the plain variance 5% intervals would miss in
    far more (of 400 in another run: 3.8% and 33%).
    """
    rng = np.random.default_rng(0)
    sets, images, folds, repetitions = 150, 60, 5, 4
    labels = np.tile([0, 1], images // 2)
    shift = 0.6 * (2 * labels - 1)[:, None, None]
    features = rng.normal(size=(sets, images, 4, 2)) + shift
    right = np.empty((sets, folds * repetitions, 2))
    for replicate in range(folds * repetitions):
        if replicate % folds == 0:
            # Each class is dealt out evenly.
            order = np.argsort(labels + rng.random(images) / 2, kind="stable")
        test = order[replicate % folds :: folds]
        train = np.setdiff1d(order, test)
        one, other = (features[:, train[labels[train] == label]].mean(axis=1) for label in (0, 1))
        here = features[:, test]
        nearer = ((here - one[:, None]) ** 2 - (here - other[:, None]) ** 2).sum(axis=2) > 0
        right[:, replicate] = (nearer == labels[test][:, None]).mean(axis=1)

    def error(unit: str) -> float:
        pair = [("c1", "c0")]
        found = (compare([Stratum("all", _runs(one), pair)], unit=unit)[0] for one in right)
        return float(np.mean([one.is_clear for one in found]))

    assert error(Unit("replicate", 1 / (folds - 1))) <= 0.08
    assert error("replicate") >= 0.2


def test_more_folds_do_not_make_up_for_few_images() -> None:
    values = np.random.default_rng(1).normal([0.8, 0.8], 0.02, size=(10, 2))
    pair = [("c1", "c0")]
    plain, folded = (
        compare([Stratum("all", _runs(values), pair)], margin=0.005, unit=unit)[0]
        for unit in ("replicate", Unit("replicate", 0.25))
    )
    assert plain.standard_error and folded.standard_error
    assert folded.standard_error / plain.standard_error == pytest.approx((3.5) ** 0.5)
    assert plain.more_replicates and folded.more_replicates is None
