"""Which pixels are hidden: how many, where, and the same for every batch."""

from __future__ import annotations

import itertools
import math

import pytest
import scipy.stats
import torch
from torch import Tensor

from mixbench.experiments.evaluation.image_random import ImageRandom
from mixbench.experiments.evaluation.occlusion import SHAPES
from mixbench.experiments.evaluation.occlusion.masks import centre_square, levels, patch_grid

FRACTIONS = (0.1, 0.25, 0.5, 0.75, 0.9)
SIZES = [(28, 28), (32, 32), (30, 47), (8, 8), (112, 112)]


def draws(count: int, first: int = 0, seed: int = 0) -> ImageRandom:
    return ImageRandom(torch.arange(first, first + count), seed, "hiding")


def masks(shape: str, made: ImageRandom, size: tuple[int, int]) -> list[Tensor]:
    level = levels(shape, made, *size, FRACTIONS)
    assert level.dtype == torch.uint8 and level.shape[1:] == size
    return [level <= step for step in range(len(FRACTIONS))]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_as_much_is_hidden_as_is_asked(shape: str, size: tuple[int, int]) -> None:
    height, width = size
    for fraction, hidden in zip(FRACTIONS, masks(shape, draws(20), size), strict=True):
        counts = hidden.flatten(1).sum(dim=1)
        if shape == "blobs":
            assert (counts == round(fraction * height * width)).all()
        elif shape == "patches":
            patch, rows, columns = patch_grid(height, width)
            count = round(fraction * rows * columns)
            assert (counts <= count * patch**2).all()
            if height % patch == width % patch == 0:
                assert (counts == count * patch**2).all()
            assert hidden.float().mean() == pytest.approx(fraction, abs=0.06)
        else:
            sides = [round(side * math.sqrt(fraction)) for side in size]
            if shape == "boundary":
                rest = [round(side * math.sqrt(1 - fraction)) for side in size]
                assert (counts == height * width - rest[0] * rest[1]).all()
            else:
                assert (counts == sides[0] * sides[1]).all()


@pytest.mark.parametrize("size", [(28, 28), (31, 18)])
@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_hidden_once_stays_hidden(shape: str, size: tuple[int, int]) -> None:
    # Each fraction by itself gives what it gives among others: the levels lose nothing.
    alone = [levels(shape, draws(50), *size, [one]) <= 0 for one in FRACTIONS]
    for mask, hidden in zip(alone, masks(shape, draws(50), size), strict=True):
        assert torch.equal(mask, hidden)
    for smaller, larger in itertools.pairwise(alone):
        assert not (smaller & ~larger).any() and (larger & ~smaller).any()


def test_the_centre_is_that_of_training_runs_and_the_boundary_the_rest() -> None:
    centre, boundary = (masks(shape, draws(3), (28, 28)) for shape in ("centre", "boundary"))
    for step, fraction in enumerate(FRACTIONS):
        assert torch.equal(centre[step][0], centre_square(28, 28, fraction))
        inverse = levels("centre", draws(3), 28, 28, [1 - fraction]) <= 0
        assert torch.equal(boundary[step], ~inverse)
    # By hand: 14 of 28 rows from the 7th on; all but the 24 x 24 of three quarters.
    rows = centre[1][0].any(dim=1).nonzero().flatten().tolist()
    assert rows == list(range(7, 21))
    assert boundary[1][0].sum() == 28 * 28 - 24 * 24 and boundary[1][0, 2:26, 2:26].sum() == 0


def test_the_square_is_whole_and_anywhere_inside() -> None:
    count = 4000
    for hidden in masks("square", draws(count), (12, 16)):
        for axis, side in ((1, 12), (2, 16)):
            along = hidden.any(dim=3 - axis)
            length = int(along[0].sum())
            first = along.int().argmax(dim=1)
            last = side - 1 - along.flip(1).int().argmax(dim=1)
            assert (last - first + 1 == length).all() and (along.sum(dim=1) == length).all()
            seen = torch.bincount(first, minlength=side - length + 1)
            # All places, each equally often: at most one false alarm in 10^5 seeds each.
            assert len(seen) == side - length + 1
            assert len(seen) == 1 or scipy.stats.chisquare(seen.numpy()).pvalue > 1e-5
        rows, columns = hidden.any(dim=2).sum(dim=1), hidden.any(dim=1).sum(dim=1)
        assert (rows * columns == hidden.flatten(1).sum(dim=1)).all()


def test_patches_are_whole_and_all_equally_likely() -> None:
    count = 3000
    hidden = masks("patches", draws(count), (28, 28))[1]
    blocks = hidden.view(count, 7, 4, 7, 4).permute(0, 1, 3, 2, 4).flatten(3)
    assert (blocks.all(dim=3) == blocks.any(dim=3)).all()
    # 12 of 49 patches of each image: the sum of squares of 49 deviations is a chi-square's, with
    # the variance of drawing without replacement.
    seen = blocks.any(dim=3).sum(dim=0).double()
    share = 12 / 49
    statistic = ((seen - count * share) ** 2).sum() / (count * share * (1 - share)) * 48 / 49
    assert scipy.stats.chi2.sf(float(statistic), 48) > 1e-5


def test_blobs_are_of_low_frequencies() -> None:
    hidden = masks("blobs", draws(200), (32, 32))[2]
    spectrum = torch.fft.rfft2(hidden.float() - 0.5).abs().square().mean(dim=0)
    frequency = torch.sqrt(
        torch.fft.fftfreq(32).unsqueeze(1) ** 2 + torch.fft.rfftfreq(32).unsqueeze(0) ** 2
    )
    low = spectrum[(frequency > 0) & (frequency < 0.1)].sum() / spectrum.sum()
    # White noise would have 3 % there.
    assert low > 0.8
    # Edges upright and lying are as many: the spectrum is the same in all directions.
    upright = (hidden[:, :, 1:] != hidden[:, :, :-1]).sum()
    lying = (hidden[:, 1:] != hidden[:, :-1]).sum()
    assert 0.93 < upright / lying < 1.07
    # Every pixel is hidden as often as any other: half of 200, 5 deviations.
    assert ((hidden.float().mean(dim=0) - 0.5).abs() < 5 * 0.5 / math.sqrt(200)).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_has_its_own_mask_whatever_the_batch(shape: str) -> None:
    whole = levels(shape, draws(500), 28, 28, FRACTIONS)
    for size in (7, 64):
        parts = [
            levels(shape, draws(min(size, 500 - first), first), 28, 28, FRACTIONS)
            for first in range(0, 500, size)
        ]
        if shape in ("centre", "boundary"):
            assert all(torch.equal(part, whole) for part in parts)
        else:
            assert torch.equal(torch.cat(parts), whole)
            assert len(whole.flatten(1).unique(dim=0)) > 150
    if shape not in ("centre", "boundary"):
        assert not torch.equal(levels(shape, draws(500, seed=1), 28, 28, FRACTIONS), whole)
