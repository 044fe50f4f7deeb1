"""Temperature scaling: a planted temperature is found, and where there is none it is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from mixbench.experiments.evaluation.calibration import temperature
from mixbench.experiments.evaluation.calibration.temperature import (
    HIGHEST,
    LOWEST,
    Temperature,
    fit,
)
from mixbench.experiments.evaluation.metrics import nll, probabilities


def planted(temperature: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from the probabilities of logits / temperature."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 3, (count, 10))
    cumulative = probabilities(logits / temperature).cumsum(axis=1)
    return logits, np.minimum((draw.random((count, 1)) > cumulative).sum(axis=1), 9)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5, 8.0])
def test_a_planted_temperature_is_found_within_its_standard_error(temperature: float) -> None:
    off = []
    for seed in range(60):
        found = fit(*planted(temperature, 1000, seed))
        assert found.end is None and found.error is not None
        assert found.error < 0.12
        off.append((math.log(found.value) - math.log(temperature)) / found.error)
    # As many standard errors as a standard normal has: mean 0 ± 0.13, deviation 1 ± 0.09.
    assert abs(np.mean(off)) < 4 / math.sqrt(60)
    assert 0.7 < np.std(off) < 1.3
    assert np.abs(off).max() < 4


def test_by_hand() -> None:
    # Two classes, always ln 9 (90%) for the first, which is right in 3 of 4: the best is ln 3.
    logits = np.tile([math.log(9), 0.0], (4, 1))
    found = fit(logits, np.array([0, 0, 0, 1]))
    assert found.value == pytest.approx(2.0, rel=1e-10)
    assert found.end is None
    # d = β ln 9: the variance of its estimate is 1 / (4 · 3/4 · 1/4) at d = ln 3.
    assert found.error == pytest.approx(math.sqrt(4 / 3) / math.log(3))


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    classes=st.integers(1, 8),
    scale=st.floats(0.01, 100),
)
def test_nothing_within_the_bounds_is_likelier(
    seed: int, count: int, classes: int, scale: float
) -> None:
    draw = np.random.default_rng(seed)
    logits = (scale * draw.normal(size=(count, classes))).astype(np.float32)
    labels = draw.integers(classes, size=count)
    found = fit(logits, labels)
    assert LOWEST <= found.value <= HIGHEST
    wide = logits.astype(np.float64)
    best = nll(wide / found.value, labels)
    for other in (1.0, LOWEST, HIGHEST, found.value * 0.97, found.value * 1.03):
        if LOWEST <= other <= HIGHEST:
            assert best <= nll(wide / other, labels) + 1e-9
    if found.end is None:
        rows, columns = draw.permutation(count), draw.permutation(classes)
        moved = fit(wide[rows][:, columns] + 5, columns.argsort()[labels[rows]])
        assert moved.value == pytest.approx(found.value, rel=1e-4)


@pytest.mark.parametrize("temperature", [0.4, 1.7, 6.0])
def test_against_other_minimisers(temperature: float) -> None:
    logits, labels = planted(temperature, 500, 7)
    found = fit(logits, labels).value
    scipys = minimize_scalar(
        lambda u: nll(logits / math.exp(u), labels),
        bounds=(-3, 3),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert math.log(found) == pytest.approx(scipys.x, abs=1e-6)

    wide, truth = torch.from_numpy(logits), torch.from_numpy(labels)
    power = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([power], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(wide * torch.exp(-power), truth)
        value.backward()
        return value

    optimiser.step(loss)
    assert math.log(found) == pytest.approx(power.item(), abs=1e-4)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e3, 1e30])
def test_no_error_on_the_validation_split_is_said(size: float) -> None:
    # Sharper is always better: no optimum, also where the slope underflows to 0.
    labels = np.arange(20) % 4
    logits = np.eye(4, dtype=np.float32)[labels] * np.float32(size)
    assert fit(logits, labels) == Temperature(LOWEST, "lowest")
    assert fit(logits, labels, lowest=0.5) == Temperature(0.5, "lowest")
    # Ties that the label is among do not change it, nor does a sample without an opinion.
    logits[0] = np.float32([size, size, 0, 0])
    logits[1] = 3
    assert fit(logits, labels) == Temperature(LOWEST, "lowest")


def test_one_class_only() -> None:
    # The network is right about the only class there is, or never, or sometimes.
    draw = np.random.default_rng(0)
    logits, labels = draw.normal(size=(30, 5)), np.zeros(30, np.int64)
    assert fit(logits + np.float64([9, 0, 0, 0, 0]), labels).end == "lowest"
    assert fit(logits - np.float64([9, 0, 0, 0, 0]), labels).end == "highest"
    assert fit(logits + np.float64([1, 0, 0, 0, 0]), labels).end is None
    # A data set of one class: the logits say nothing.
    assert fit(logits[:, :1], labels) == Temperature(1.0, "any")


def test_worse_than_guessing_is_flattened_up_to_the_bound() -> None:
    logits, labels = planted(1.0, 500, 1)
    assert fit(-logits, labels) == Temperature(HIGHEST, "highest")
    assert fit(-logits, labels, highest=3.0) == Temperature(3.0, "highest")
    assert fit(np.float64([[1, 0]]), np.array([1])) == Temperature(HIGHEST, "highest")


def test_an_optimum_beyond_the_bounds_is_the_bound() -> None:
    logits, labels = planted(1.0, 500, 2)
    assert fit(logits * 1000, labels) == Temperature(HIGHEST, "highest")
    assert fit(logits / 1000, labels) == Temperature(LOWEST, "lowest")
    wider = fit(logits * 1000, labels, highest=1e5)
    assert wider.value == pytest.approx(1000 * fit(logits, labels).value, rel=1e-9)


@pytest.mark.parametrize("value", [0.0, -4.0, 1e30])
def test_no_opinion_at_all_leaves_one(value: float) -> None:
    found = fit(np.full((6, 3), value), np.array([0, 1, 2, 0, 1, 2]))
    assert found == Temperature(1.0, "any", None)


def test_extreme_logits() -> None:
    logits = np.array([[3e38, 0, -3e38], [-3e38, 3e38, 3e38], [1, 0, 0]], dtype=np.float32)
    found = fit(logits, np.array([2, 1, 0]))
    assert found == Temperature(HIGHEST, "highest")
    # All but one sample say sharper, and it says so little that nothing is seen of it.
    logits = np.array([[1.0, 0.0]] * 9 + [[1e-300, 0.0]])
    assert fit(logits, np.array([0] * 9 + [1])).end == "lowest"


def test_parts_of_any_size_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = planted(2.0, 300, 0)
    whole = fit(logits, labels)
    for part in (1, 70, 1000):
        monkeypatch.setattr(temperature, "PART", part)
        found = fit(logits, labels)
        assert found.value == pytest.approx(whole.value, rel=1e-9)
        assert found.error == pytest.approx(whole.error, rel=1e-9)


def test_inputs_are_left_alone() -> None:
    logits, labels = planted(2.0, 50, 0)
    before = logits.copy()
    fit(logits, labels)
    np.testing.assert_array_equal(logits, before)
