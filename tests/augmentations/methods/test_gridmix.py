"""GridMix: whole cells of either image, as many as λ says, any of them; labels by area."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mixbench import augmentations
from tests.support.oracles import assert_mean, assert_uniform_counts, chosen, located_images, seeded


@pytest.mark.parametrize(("size", "grid"), [((8, 12), 4), ((10, 7), 3), ((5, 5), 5)])
def test_cells_are_whole_and_as_many_as_drawn(size: tuple[int, int], grid: int) -> None:
    height, width = size
    lam = torch.linspace(0, 1, 41, dtype=torch.float64)
    mix = augmentations.create("gridmix", grid=grid, per_sample=True, pairing="roll")
    plan = mix.draw(chosen(41, height, width, lam=lam))
    images = located_images(41, height, width)
    mixed = plan.mix_images(images)
    # Nothing moves: rows and columns stay, and each pixel is the sample's or its partner's.
    assert torch.equal(mixed[:, 1:], images[:, 1:])
    index = torch.arange(41).view(-1, 1, 1)
    own = mixed[:, 0] == index
    assert torch.equal(mixed[:, 0], torch.where(own, index, (index + 1) % 41).float())
    # The cell of a pixel, whose sides differ by at most one.
    rows = [i * grid // height for i in range(height)]
    columns = [j * grid // width for j in range(width)]
    assert np.ptp(np.bincount(rows)) <= 1
    assert len(set(rows)) == len(set(columns)) == grid
    for sample in range(41):
        cells = {}
        for i in range(height):
            for j in range(width):
                cells.setdefault((rows[i], columns[j]), set()).add(bool(own[sample, i, j]))
        assert all(len(values) == 1 for values in cells.values())
        kept = sum(values == {True} for values in cells.values())
        wanted = float(lam[sample]) * grid**2
        assert kept in (int(np.floor(wanted)), int(np.ceil(wanted)))
    torch.testing.assert_close(plan.own_share(), own.float().mean(dim=(1, 2)))


def test_cells_are_equally_likely_and_lambda_is_the_mean() -> None:
    mix = augmentations.create("gridmix", per_sample=True, pairing="roll")
    images = located_images(1, 4, 4)[:, :1].repeat(8000, 1, 1, 1)
    images += torch.arange(8000).view(-1, 1, 1, 1)
    own = mix.sample(images.shape, generator=seeded(0)).mix_images(images) == images
    own = own.flatten(1)
    assert_mean(own.float().mean(dim=1), 0.5)
    # One cell of sixteen: chi-square, 1e-6.
    single = own[own.sum(dim=1) == 1]
    assert_uniform_counts(np.bincount(single.long().argmax(dim=1), minlength=16))
    # Whether a cell is kept says nothing of a neighbour beyond the count: every pair as often.
    two = own[own.sum(dim=1) == 2].nonzero()[:, 1].view(-1, 2)
    pairs = np.bincount(two[:, 0] * 16 + two[:, 1], minlength=256)
    assert_uniform_counts(pairs[[i * 16 + j for i in range(16) for j in range(i + 1, 16)]])


def test_a_grid_that_does_not_fit_is_refused() -> None:
    mix = augmentations.create("gridmix", grid=9)
    for call in (lambda: mix.check_size(32, 8), lambda: mix.sample((2, 1, 32, 8))):
        with pytest.raises(ValueError, match=r"gridmix\.grid: got 9, expected at most 8, the"):
            call()
    # The default is made to fit.
    plan = augmentations.create("gridmix").sample((3, 1, 2, 1), generator=seeded(0))
    assert plan.mix_images(torch.rand(3, 1, 2, 1)).shape == (3, 1, 2, 1)
