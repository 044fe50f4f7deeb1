"""GridMask: the authors' mask for every period, start and angle; what is kept; labels kept."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend
from mixbench.augmentations.sampling.draws import Draws
from tests.support.oracles import assert_mean, assert_uniform_counts, seeded


@dataclass(frozen=True)
class KeptDraws(Draws):
    """Draws that remember what they answered: angle, period and starts, in this order."""

    answers: list[Tensor] = field(default_factory=list)

    def integers(self, high: int | Tensor) -> Tensor:
        self.answers.append(super().integers(high))
        return self.answers[-1]

    def uniform(self, low: float = 0.0, high: float = 1.0, *, tries: int | None = None) -> Tensor:
        answer = super().uniform(low, high, tries=tries)
        if high != 1.0:
            self.answers.append(answer.floor().long())
        return answer


def kept_draws(rows: int, height: int, width: int, seed: int) -> KeptDraws:
    return KeptDraws(
        rows=rows, batch=rows, height=height, width=width, device="cpu", generator=seeded(seed)
    )


def authors_mask(
    height: int,
    width: int,
    period: int,
    starts: tuple[int, int],
    degrees: int,
    ratio: float,
    mode: int,
) -> np.ndarray:
    """dvlab-research/GridMask, imagenet_grid/utils/grid.py: 1 where the image is kept."""
    canvas = np.ones((int(1.5 * height), int(1.5 * width)), dtype=np.uint8)
    bar = int(period * ratio + 0.5)
    for line in range(canvas.shape[0]):
        if (line - starts[0]) % period < bar:
            canvas[line] = 0
    for line in range(canvas.shape[1]):
        if (line - starts[1]) % period < bar:
            canvas[:, line] = 0
    turned = np.asarray(Image.fromarray(canvas).rotate(degrees))
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    mask = turned[top : top + height, left : left + width]
    return 1 - mask if mode == 1 else mask


def own_mask(plan: object) -> Tensor:
    assert isinstance(plan, Blend)
    return plan.mix_images(torch.ones(plan.batch, 1, *plan.keep.shape[2:]))[:, 0]


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize(("side", "ratio"), [(32, 0.6), (33, 0.6), (64, 0.25)])
def test_the_mask_is_the_authors(side: int, ratio: float, invert: bool) -> None:
    """All angles, on square images. Only pixels whose centre comes to lie on an edge may differ."""
    count = 150
    mix = augmentations.create("gridmask", ratio=ratio, invert=invert)
    draws = kept_draws(count, side, side, seed=side)
    masks = own_mask(mix.draw(draws)).numpy()
    degrees, first, row, column = (answer.tolist() for answer in draws.answers)
    shortest = round(side * 0.43)
    assert len(set(degrees)) > 100
    differ = 0
    for index in range(count):
        expected = authors_mask(
            side,
            side,
            shortest + first[index],
            (row[index], column[index]),
            degrees[index],
            ratio,
            mode=0 if invert else 1,
        )
        differ += int((expected != masks[index]).sum())
    assert differ <= count * side * side * 0.0005


def test_by_hand() -> None:
    """Upright, period 4, bars of 2: squares of 2 x 2 blanked, one in each cell of 4 x 4."""
    mix = augmentations.create(
        "gridmask", ratio=0.5, min_period=0.5, max_period=0.5, rotate=1, prob=1.0
    )
    masks = own_mask(mix.sample((300, 1, 8, 8), generator=seeded(0)))
    for mask in masks:
        blank = mask == 0
        assert int(blank.sum()) == 16
        rows, columns = blank.any(dim=1), blank.any(dim=0)
        assert torch.equal(blank, rows[:, None] & columns[None, :])
        for line in (rows, columns):
            assert int(line.sum()) == 4
            assert torch.equal(line[:4], line[4:])
            # Two next to each other, around the end.
            assert bool((line[:4] & line[:4].roll(1)).sum() == 1)
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == 16


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
@pytest.mark.parametrize("ratio", [0.25, 0.6])
def test_the_share_that_is_kept(size: tuple[int, int], ratio: float) -> None:
    """1 - (1 - r)², at all angles and periods whose bars are whole: |z| < 5, 6e-7 each."""
    period = 20 / 64
    mix = augmentations.create(
        "gridmask", ratio=ratio, min_period=period, max_period=period, prob=1.0
    )
    plan = mix.sample((600, 1, *size), generator=seeded(1))
    assert_mean(own_mask(plan).mean(dim=(1, 2)), 1 - (1 - ratio) ** 2)
    inverted = augmentations.create(
        "gridmask", ratio=ratio, min_period=period, max_period=period, prob=1.0, invert=True
    )
    other = inverted.sample((600, 1, *size), generator=seeded(1))
    assert torch.equal(own_mask(other), 1 - own_mask(plan))


def test_periods_starts_and_angles_are_uniform() -> None:
    """Periods from 0.43 of the smaller side up to but not including it; chi-square, 1e-6 each."""
    draws = kept_draws(20_000, 14, 40, seed=2)
    augmentations.create("gridmask").draw(draws)
    degrees, first, row, column = (answer.numpy() for answer in draws.answers)
    assert_uniform_counts(np.bincount(first, minlength=8))
    assert len(np.bincount(first)) == 8  # 6 to 13
    for start in (row, column):
        assert_uniform_counts(np.bincount(start[first == 7], minlength=13))
    assert_uniform_counts(np.bincount(degrees, minlength=360))
    assert len(np.bincount(degrees)) == 360


def test_a_long_image_is_masked_in_its_corners_too() -> None:
    """At 90 degrees the authors' canvas of 24 x 96 leaves both ends of a 16 x 64 image whole."""
    mix = augmentations.create("gridmask", prob=1.0)
    blank = 1 - own_mask(mix.sample((4000, 1, 16, 64), generator=seeded(3)))
    share = blank.mean(dim=0)
    # Each pixel is blanked as often as any other: 0.17 (bars are rounded up a little), standard
    # error 0.006.
    assert float(share.max() - share.min()) < 0.06
    assert float(share.min()) > 0.1


@pytest.mark.parametrize("per_sample", [False, True])
def test_fill_and_label(per_sample: bool) -> None:
    images = torch.rand(6, 3, 12, 12, generator=seeded(0)) + 1
    labels = torch.tensor([3, 1, 4, 1, 5, 2])
    for fill in (0.0, -2.5, "mean"):
        mix = augmentations.create("gridmask", fill=fill, per_sample=per_sample, prob=1.0)
        mixed = mix(images, labels, 10, generator=seeded(1))
        changed = (mixed.images != images).any(dim=1)
        assert bool(changed.flatten(1).any(dim=1).all())
        for channel in range(3):
            value = images[:, channel].mean() if fill == "mean" else torch.tensor(fill)
            values = mixed.images[:, channel][changed]
            torch.testing.assert_close(values, value.expand_as(values))
        assert torch.equal(mixed.targets.dense(10), torch.nn.functional.one_hot(labels, 10).float())


def test_a_single_pixel_is_legal() -> None:
    """Period 1, the whole of it bar: nothing is blanked; inverted, all of it is."""
    images = torch.ones(4, 1, 1, 1)
    for invert, left in ((False, 1.0), (True, 0.0)):
        mix = augmentations.create("gridmask", invert=invert, prob=1.0)
        plan = mix.sample(images.shape, generator=seeded(0))
        assert plan.mix_images(images).flatten().tolist() == [left] * 4


def test_periods_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"gridmask\.min_period: got 1\.5, expected at most max_"):
        augmentations.create("gridmask", min_period=1.5)
