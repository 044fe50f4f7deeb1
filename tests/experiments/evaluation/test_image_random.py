"""ImageRandom: random as they should be, and the same for an image wherever it comes in a batch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom

MASK = (1 << 64) - 1


def of(places: Tensor, seed: int = 0, name: str = "test") -> ImageRandom:
    return ImageRandom(places, seed, name)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("size", [1, 7, 64])
def test_an_image_has_its_own_numbers_in_any_batch(kind: str, size: int) -> None:
    places = torch.arange(500, 600)
    whole = getattr(of(places), kind)("noise", 3, 5, 5)
    parts = [getattr(of(part), kind)("noise", 3, 5, 5) for part in places.split(size)]
    assert torch.equal(torch.cat(parts), whole)
    order = torch.randperm(100)
    assert torch.equal(getattr(of(places[order]), kind)("noise", 3, 5, 5), whole[order])


def test_seed_name_kind_of_number_and_place_each_make_a_difference() -> None:
    places = torch.arange(4)
    drawn = [
        of(places).uniform("a", 64),
        of(places, 1).uniform("a", 64),
        of(places).uniform("b", 64),
        of(places, name="other").uniform("a", 64),
        of(places + 4).uniform("a", 64),
    ]
    rows = torch.cat(drawn)
    assert len(rows.unique(dim=0)) == 20
    correlation = torch.corrcoef(rows)
    assert (correlation - torch.eye(20)).abs().max() < 0.6


def test_asked_twice_it_is_the_same_tensor() -> None:
    one = of(torch.arange(3))
    assert one.normal("a", 4) is one.normal("a", 4)
    assert one.normal("a", 4) is not one.normal("b", 4)


def test_uniform_numbers_are_uniform_and_independent() -> None:
    drawn = of(torch.arange(1000)).uniform("a", 400)
    assert drawn.min() >= 0 and drawn.max() < 1
    assert scipy.stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    # Each image, and each place of images, has the same chances.
    for axis in (0, 1):
        means = drawn.mean(dim=axis).double().numpy() - 0.5
        spread = means * np.sqrt(12 * drawn.shape[axis])
        assert scipy.stats.kstest(spread, "norm").pvalue > 1e-3
    # Neighbours, in an image and between images, have nothing to do with each other.
    for one, other in ((drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1])):
        pair = torch.stack([one.flatten(), other.flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 4 / np.sqrt(one.numel())


def test_normal_numbers_are_normal() -> None:
    drawn = of(torch.arange(1000)).normal("a", 400)
    assert drawn.isfinite().all()
    assert scipy.stats.kstest(drawn.flatten().numpy(), "norm").pvalue > 1e-3
    assert 4 < drawn.abs().max() < 6.7


def test_the_bits_are_those_of_splitmix64_by_hand() -> None:
    # The first output of the generator started at 0, as published with it.
    from mixbench.experiments.evaluation import image_random

    start = torch.tensor([image_random._STEP])
    assert int(image_random._scrambled(start)) & MASK == 0xE220A8397B1DCDAF
