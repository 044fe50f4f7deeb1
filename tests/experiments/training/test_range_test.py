"""The range test: what losses at rising rates speak for, planted and of a real training."""

from __future__ import annotations

import math

import pytest

from mixbench.experiments.config import resolve
from mixbench.experiments.manage.find_rate import find_rate
from mixbench.experiments.training.range_test import judge, smooth
from tests.support import running

RATES = [10 ** (power / 20) for power in range(-100, 21)]


def planted(best: float) -> list[float]:
    """A loss that falls until `best` and explodes beyond it."""
    return [
        2.3 - 1.5 / (1 + (best / rate)) + (8 * math.log(rate / best) ** 2 if rate > best else 0)
        for rate in RATES
    ]


@pytest.mark.parametrize("best", [1e-3, 0.05, 2.0])
@pytest.mark.parametrize("factor", [3.0, 10.0])
def test_the_proposal_is_that_far_below_the_rise(best: float, factor: float) -> None:
    seen = judge(RATES, planted(best), len(RATES), factor)
    assert seen.proposed is not None and seen.rises_from is not None and seen.at_edge == ""
    assert seen.rises_from == pytest.approx(best, rel=0.5)
    assert seen.proposed == pytest.approx(seen.rises_from / factor, rel=0.2)


def test_the_edges_of_what_was_tried_are_said() -> None:
    falls = [2.3 - 0.2 * place / 10 for place in range(100)]
    high = judge(RATES[:100], falls, 100)
    assert (high.at_edge, high.rises_from) == ("high", None)
    rises = [2.0, 1.0, *(3.0 + place for place in range(98))]
    assert judge(RATES[:100], rises, 10).at_edge == "low"


def test_what_learns_nothing_gets_no_rate() -> None:
    flat = [2.3 + 0.01 * (-1) ** place for place in range(100)]
    assert judge(RATES[:100], flat, 100).proposed is None
    assert judge(RATES[:3], [math.nan] * 3, 100).proposed is None


def test_smoothing_keeps_a_line_and_does_not_lag() -> None:
    line = [float(value) for value in range(50)]
    assert smooth(line, 9)[10:40] == pytest.approx(line[10:40])


def test_a_real_test_stops_where_it_diverges_and_is_the_same_again() -> None:
    config = resolve.parse(
        {
            "dataset": {"name": "digits", "train_size": 300},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"batch_size": 32, "epochs": 3},
            "augmentation": {"name": "cutmix"},
        }
    )
    with running.one_thread():
        first, again = (find_rate(config, "cpu", "none", steps=60) for _ in range(2))
    assert first.losses == again.losses
    assert first.proposed is not None and 1e-3 < first.proposed < 1
    # A few steps at the first rate change nothing: mixing is off, and chance is log 10.
    assert first.smoothed[0] == pytest.approx(math.log(10), rel=0.15)
    # With no time for more there are fewer steps over the same rates.
    with running.one_thread():
        short = find_rate(config, "cpu", "none", seconds=0.0)
    assert len(short.rates) <= 20 and short.rates[0] == first.rates[0]
    assert short.rates[1] / short.rates[0] > first.rates[1] / first.rates[0]
