"""What a budget buys: it is kept, more time never buys less, and too little is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mixbench.experiments.advise.budget import (
    FEWEST_RUNS,
    Costs,
    TooShort,
    TrialPlan,
    more_replicates,
    plan,
)

costs = st.builds(
    Costs,
    epoch=st.floats(0.01, 100),
    rest=st.floats(0, 200),
    workers=st.integers(1, 8),
    startup=st.floats(0, 60),
)
seconds = st.floats(1, 1e5)


def price(found: TrialPlan) -> float:
    """In runs."""
    return found.tuning_runs + found.cells * found.replicates


@given(costs, seconds, st.booleans())
def test_a_plan_fits_into_its_budget(measured: Costs, time: float, tunes: bool) -> None:
    if measured.runs(time, 15) < FEWEST_RUNS:
        with pytest.raises(TooShort) as refused:
            plan(time, measured, usual=60, fewest=15)
        assert refused.value.run == pytest.approx(measured.run(15))
        # What it asks for is more, and is enough.
        assert refused.value.needed > time
        needed = refused.value.needed * 1.001 + 0.01
        assert plan(needed, measured, usual=60, fewest=15).replicates >= 1
        return
    found = plan(time, measured, usual=60, fewest=15, tunes=tunes)
    assert tunes or not found.tuning_runs
    bought = measured.runs(time, found.epochs)
    assert 15 <= found.epochs <= 180
    assert found.replicates >= 1 and found.methods[0] == "cutmix"
    assert price(found) <= bought + 1e-6
    assert found.tuning_runs <= bought / 3
    # Of a budget that is not enormous, no whole round is left over.
    assert found.replicates == 50 or price(found) + found.cells > bought


@given(costs, seconds, st.floats(1, 10))
def test_more_time_never_buys_less(measured: Costs, time: float, times: float) -> None:
    assume(measured.runs(time, 15) >= FEWEST_RUNS)
    less = plan(time, measured, usual=60, fewest=15)
    more = plan(time * times, measured, usual=60, fewest=15)
    assert more.epochs >= less.epochs
    assert len(more.methods) >= len(less.methods) or more.epochs > less.epochs


@pytest.mark.parametrize(
    ("runs", "methods", "probs", "rates"),
    [(12, 1, 0, 0), (18, 2, 0, 0), (40, 3, 2, 0), (120, 3, 2, 2)],
)
def test_the_rule_as_it_is_stated(runs: int, methods: int, probs: int, rates: int) -> None:
    # A usual run of 60 epochs takes a second.
    found = plan(runs + 0.001, Costs(epoch=1 / 60, rest=0.0), usual=60, fewest=15)
    assert found.epochs == 60
    assert (len(found.methods), len(found.probs), len(found.rates)) == (methods, probs, rates)


def test_the_cost_of_tuning_by_hand() -> None:
    # Two methods of four settings: two go on, two stop half-way, on two replicates; none of two.
    found = TrialPlan(10, ("cutmix", "mixup"), (0.5, 1.0), (1 / 3, 1.0), 2, 5)
    assert found.tuning_runs == 2 * (2 * (2 + 2 * 0.5) + (1 + 0.5))
    assert TrialPlan(10, ("cutmix",), replicates=5).tuning_runs == 0


def test_the_smallest_comparison_is_what_is_refused_below() -> None:
    measured = Costs(epoch=1.0, rest=5.0, workers=2, startup=10.0)
    with pytest.raises(TooShort) as refused:
        plan(49.0, measured, usual=60, fewest=15)
    assert (refused.value.run, refused.value.needed) == (20.0, FEWEST_RUNS * 20 / 2 + 10)
    assert plan(50.0, measured, usual=60, fewest=15).epochs == 15


def test_rounds_to_come_fit_into_what_is_left() -> None:
    assert more_replicates(100, 10, 2, 2, replicates=3, overhead=20) == 3 + 8
    assert more_replicates(15, 10, 2, 2, replicates=3, overhead=20) == 3
