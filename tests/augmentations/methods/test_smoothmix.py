"""SmoothMix: the mask pixel by pixel, the images and the labels that follow from it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations import Blend
from tests.support.oracles import assert_uniform_counts, chosen, seeded


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_every_pixel_is_weighted_by_its_distance(shape: str) -> None:
    height, width, share = 9, 14, 0.3
    row, column = torch.tensor([0, 4, 8, 2]), torch.tensor([13, 6, 0, 2])
    mix = augmentations.create(
        "smoothmix", shape=shape, min_sigma=share, max_sigma=share, per_sample=True, pairing="roll"
    )
    plan = mix.draw(chosen(4, height, width, centre=(row, column)))
    images = torch.rand(4, 3, height, width, generator=seeded(0))
    mixed, targets = plan.mix_images(images), plan.mix_labels(torch.arange(4))
    sigma = share * 9  # the smaller side
    for sample in range(4):
        mask = torch.empty(height, width)
        for i in range(height):
            for j in range(width):
                down, across = i - int(row[sample]), j - int(column[sample])
                distance = math.hypot(down, across)
                if shape == "square":
                    distance = max(abs(down), abs(across))
                mask[i, j] = math.exp(-(distance**2) / (2 * sigma**2))
        partner = images[(sample + 1) % 4]
        torch.testing.assert_close(mixed[sample], mask * images[sample] + (1 - mask) * partner)
        own = float(mask.mean())
        assert targets.weights[sample].tolist() == pytest.approx([own, 1 - own], abs=1e-6)


def test_centres_and_sigmas_are_uniform() -> None:
    """Read from the mask: 1 at the centre only; beside it, exp(-1 / 2σ²). Chi-square, 1e-6 each."""
    mix = augmentations.create("smoothmix", per_sample=True)
    plan = mix.sample((6000, 1, 6, 8), generator=seeded(1))
    assert isinstance(plan, Blend)
    mask = plan.keep[:, 0].double()
    centre = mask.flatten(1).argmax(dim=1)
    assert_uniform_counts(np.bincount(centre, minlength=48))
    column = centre % 8
    beside = torch.where(column < 7, centre + 1, centre - 1)
    value = mask.flatten(1).gather(1, beside.unsqueeze(1)).squeeze(1)
    share = (-0.5 / value.log()).sqrt() / 6
    assert 0.25 <= float(share.min()) < 0.26
    assert 0.49 < float(share.max()) <= 0.5 + 1e-4
    assert_uniform_counts(np.histogram(share, bins=10, range=(0.25, 0.5))[0])


def test_bounds_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"smoothmix\.min_sigma: got 0\.6, expected at most max_"):
        augmentations.create("smoothmix", min_sigma=0.6)
