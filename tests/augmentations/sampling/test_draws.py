"""Random numbers: those of a batch of one row, in Python, are those of the tensors."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import seeded

SEEDS = range(300)
ALPHAS = [0.1, 0.3, 1.0, 2.5, 40.0]
DRAWN = ["keep", "target", "partner", "source"]


def draws(seed: int, rows: int = 1, kind: type[Draws] = Draws, size: int = 28) -> Draws:
    return kind(rows, 8, size, size, "cpu", seeded(seed))


@dataclass(frozen=True)
class NeverAtHand(Draws):
    @property
    def at_hand(self) -> bool:
        return False


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_beta_number_is_the_tensors(alpha: float) -> None:
    for seed in SEEDS:
        one, other = draws(seed), draws(seed)
        number, tensor = one.beta_number(alpha), other.beta(alpha)
        assert number == pytest.approx(float(tensor), rel=1e-12, abs=1e-15)
        # As many random numbers were taken.
        assert one.number() == float(other.uniform())


@pytest.mark.parametrize("alpha", [1e-300, 1e-5, 1e6])
def test_far_out(alpha: float) -> None:
    numbers = {round(draws(seed).beta_number(alpha), 2) for seed in SEEDS}
    assert numbers == ({0.5} if alpha > 1 else {0.0, 1.0})


@pytest.mark.parametrize("size", [1, 5, 28])
@pytest.mark.parametrize("given", [{}, {"pairing": "derange"}, {"prob": 0.5}, {"per_sample": True}])
@pytest.mark.parametrize("name", ["cutmix", "mixup", "cutout", "ricap", "fmix", "random_erasing"])
def test_a_plan_of_numbers_is_that_of_tensors(
    name: str, given: dict[str, object], size: int
) -> None:
    mix = augmentations.create(name, **given)
    for seed in SEEDS[:40]:
        rows = 8 if mix.per_sample else 1
        one = mix.decide(draws(seed, rows, size=size))
        other = mix.decide(draws(seed, rows, NeverAtHand, size))
        for field in DRAWN:
            drawn = getattr(one, field, None)
            if drawn is not None:
                assert torch.equal(drawn, getattr(other, field)), (field, seed)
