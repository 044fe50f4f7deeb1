"""Random numbers: one row, computed in Python on a CPU, is that of the tensors."""

from __future__ import annotations

import pytest
import torch

from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import seeded

SEEDS = range(300)
ALPHAS = [0.1, 0.3, 1.0, 2.5, 40.0]


def draws(seed: int) -> Draws:
    return Draws(1, 8, 28, 28, "cpu", seeded(seed))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_one_beta_number_is_that_of_tensors(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in SEEDS:
        one, other = draws(seed), draws(seed)
        number = one.beta(alpha)
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            tensor = other.beta(alpha)
        assert number.dtype == tensor.dtype and number.shape == tensor.shape
        assert float(number) == pytest.approx(float(tensor), rel=1e-12, abs=1e-15)
        # As many random numbers were taken.
        assert torch.equal(one.uniform(), other.uniform())


@pytest.mark.parametrize("alpha", [1e-300, 1e-5, 1e6])
def test_extreme_beta_parameters(alpha: float) -> None:
    numbers = {round(float(draws(seed).beta(alpha)), 2) for seed in SEEDS}
    assert numbers == ({0.5} if alpha > 1 else {0.0, 1.0})
