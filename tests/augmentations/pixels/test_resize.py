"""Rectangles copied at another size: against loops over pixels, and torch's own resizing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mixbench.augmentations import Paste
from mixbench.augmentations.pixels import resize
from mixbench.augmentations.pixels.resize import paste
from tests.support.oracles import located_images, seeded

# The three ways that the work is done: one box for all samples, and two for boxes of their own.
WAYS = ["shared", "sample by sample", "whole images"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=WAYS)
def shared(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the boxes are to be shared; if not, the way their own are treated is chosen."""
    monkeypatch.setattr(resize, "_LARGE", 0 if request.param == "sample by sample" else 10**9)
    return bool(request.param == "shared")


def boxes(rows: list[Any]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int64)


def bilinear(image: np.ndarray, box: list[int], come: list[int]) -> np.ndarray:
    """The (h, w) patch of one channel, one pixel after the other, in double precision."""
    top, left, bottom, right = come
    height, width = box[2] - box[0], box[3] - box[1]
    patch = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            down = (row + 0.5) * (bottom - top) / height - 0.5
            across = (column + 0.5) * (right - left) / width - 0.5
            down = min(max(down, 0), bottom - top - 1)
            across = min(max(across, 0), right - left - 1)
            for near_row in (math.floor(down), math.floor(down) + 1):
                for near_column in (math.floor(across), math.floor(across) + 1):
                    weight = max(0, 1 - abs(down - near_row)) * max(
                        0, 1 - abs(across - near_column)
                    )
                    if weight:
                        patch[row, column] += weight * image[top + near_row, left + near_column]
    return patch


def drawn(seed: int, height: int, width: int, count: int) -> tuple[Tensor, Tensor]:
    """Any boxes to paste into, and any to take from, none of them empty."""
    generator = np.random.default_rng(seed)

    def box() -> list[int]:
        rows = sorted(generator.choice(height + 1, 2, replace=False).tolist())
        columns = sorted(generator.choice(width + 1, 2, replace=False).tolist())
        return [rows[0], columns[0], rows[1], columns[1]]

    return boxes([[box()] for _ in range(count)]), boxes([[box()] for _ in range(count)])


def test_by_hand() -> None:
    """Halved: each pixel is the mean of four. Doubled: 1/4 and 3/4 between the two middles."""
    image = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    whole = boxes([[[0, 0, 2, 2]]])
    own = torch.zeros(1, 1, dtype=torch.int64)
    small = paste(image, boxes([[[1, 0, 2, 1]]]), own, whole, nearest=False)
    assert small[0, 0].tolist() == [[0.0, 4.0], [6.0, 12.0]]
    assert small[0, 1].tolist() == [[1.0, 1.0], [1.0, 1.0]]

    row = torch.tensor([[[[0.0, 4.0, 7.0, 9.0]]]])
    wide = paste(row, boxes([[[0, 0, 1, 4]]]), own, boxes([[[0, 0, 1, 2]]]), nearest=False)
    assert wide[0, 0, 0].tolist() == [0.0, 1.0, 3.0, 4.0]
    narrow = paste(row, boxes([[[0, 1, 1, 3]]]), own, boxes([[[0, 0, 1, 4]]]), nearest=True)
    assert narrow[0, 0, 0].tolist() == [0.0, 4.0, 9.0, 9.0]


@pytest.mark.parametrize("size", [(9, 13), (13, 9), (1, 6), (6, 1), (16, 16)])
def test_every_pixel_is_interpolated(size: tuple[int, int], shared: bool) -> None:
    count, channels = 6, 2
    images = torch.randn(count, channels, *size, generator=seeded(1))
    for seed in range(6):
        target, source = drawn(seed, *size, 1 if shared else count)
        partner = torch.randperm(count, generator=seeded(seed)).unsqueeze(1)
        target, source = target.expand(count, -1, -1), source.expand(count, -1, -1)
        found = paste(images, target, partner, source, nearest=False)
        for sample in range(count):
            expected = images[sample].double().numpy().copy()
            box, come = target[sample, 0].tolist(), source[sample, 0].tolist()
            for channel in range(channels):
                other = images[partner[sample, 0], channel].double().numpy()
                expected[channel, box[0] : box[2], box[1] : box[3]] = bilinear(other, box, come)
            np.testing.assert_allclose(found[sample].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("nearest", [False, True], ids=["bilinear", "nearest"])
def test_it_is_torchs_resizing_of_the_crop(shared: bool, nearest: bool) -> None:
    count, size = 5, (12, 20)
    images = torch.randn(count, 3, *size, generator=seeded(2))
    for seed in range(10):
        target, source = drawn(seed, *size, 1 if shared else count)
        target, source = target.expand(count, -1, -1), source.expand(count, -1, -1)
        partner = torch.randperm(count, generator=seeded(seed)).unsqueeze(1)
        found = paste(images, target, partner, source, nearest=nearest)
        for sample in range(count):
            top, left, bottom, right = target[sample, 0].tolist()
            up, west, down, east = source[sample, 0].tolist()
            expected = images[sample].clone()
            expected[:, top:bottom, left:right] = F.interpolate(
                images[partner[sample], :, up:down, west:east],
                size=(bottom - top, right - left),
                mode="nearest-exact" if nearest else "bilinear",
            )[0]
            torch.testing.assert_close(found[sample], expected, atol=1e-5, rtol=0)


def test_several_rectangles_take_from_the_batch_as_it_was(shared: bool) -> None:
    """Samples that take from each other, two rectangles each: nothing is pasted twice."""
    images = located_images(3, 8, 8)
    rows = 1 if shared else 3
    target = boxes([[[0, 0, 4, 4], [4, 4, 8, 8]]] * rows).expand(3, -1, -1)
    source = boxes([[[0, 0, 8, 8], [0, 0, 8, 8]]] * rows).expand(3, -1, -1)
    partner = torch.tensor([[1, 2], [2, 0], [0, 1]])
    found = paste(images, target, partner, source, nearest=False)
    for sample in range(3):
        assert bool((found[sample, 0, :4, :4] == partner[sample, 0]).all())
        assert bool((found[sample, 0, 4:, 4:] == partner[sample, 1]).all())
        # The centres of 4 pixels in 8: 0.5, 2.5, 4.5, 6.5.
        assert found[sample, 1, :4, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
        assert torch.equal(found[sample, :, :4, 4:], images[sample, :, :4, 4:])
        assert torch.equal(found[sample, :, 4:, :4], images[sample, :, 4:, :4])


def test_all_ways_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(4, 3, 14, 10, generator=seeded(3))
    partner = torch.tensor([[2], [0], [3], [1]])
    for seed in range(5):
        target, source = (box.expand(4, -1, -1) for box in drawn(seed, 14, 10, 1))
        one = paste(images, target, partner, source, nearest=False)
        for large in (0, 10**9):
            monkeypatch.setattr(resize, "_LARGE", large)
            own = target.contiguous(), partner, source.contiguous()
            assert torch.equal(one, paste(images, *own, nearest=False))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtype_layout_and_rounding(dtype: torch.dtype, shared: bool) -> None:
    """Half precision is the float32 result, rounded once; channels last stays so."""
    images = torch.randn(4, 3, 12, 9, generator=seeded(4)).to(dtype)
    partner = torch.tensor([[2], [0], [3], [1]])
    target, source = drawn(7, 12, 9, 1 if shared else 4)
    target, source = target.expand(4, -1, -1), source.expand(4, -1, -1)
    before = images.clone()
    found = paste(images, target, partner, source, nearest=False)
    assert found.dtype == dtype
    assert torch.equal(images, before)
    if dtype not in (torch.float32, torch.float64):
        full = paste(images.float(), target, partner, source, nearest=False)
        assert torch.equal(found, full.to(dtype))
        assert not torch.equal(found.float(), full)
    last = images.contiguous(memory_format=torch.channels_last)
    again = paste(last, target, partner, source, nearest=False)
    assert again.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(again, found)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool], ids=str)
def test_classes_are_never_averaged(dtype: torch.dtype) -> None:
    masks = (torch.arange(4 * 10 * 6).view(4, 1, 10, 6) % 7).to(dtype)
    target, source = drawn(3, 10, 6, 4)
    partner = torch.tensor([[1], [2], [3], [0]])
    found = paste(masks, target, partner, source, nearest=True)
    assert found.dtype == dtype
    for sample in range(4):
        top, left, bottom, right = target[sample, 0].tolist()
        up, west, down, east = source[sample, 0].tolist()
        other = masks[partner[sample, 0], 0, up:down, west:east]
        for row in range(bottom - top):
            for column in range(right - left):
                come = (
                    (2 * row + 1) * (down - up) // (2 * (bottom - top)),
                    (2 * column + 1) * (east - west) // (2 * (right - left)),
                )
                assert found[sample, 0, top + row, left + column] == other[come]


@pytest.mark.parametrize("nearest", [False, True], ids=["bilinear", "nearest"])
def test_an_empty_source_is_the_pixel_at_its_corner(shared: bool, nearest: bool) -> None:
    """Also beyond the last pixel, where rounding to a coarser map can put it."""
    images = located_images(2, 4, 4)
    partner = torch.tensor([[1], [0]])
    target = boxes([[[1, 1, 3, 3]]] * (1 if shared else 2)).expand(2, -1, -1)
    for corner, expected in (([2, 1, 2, 1], [2, 1]), ([4, 4, 4, 4], [3, 3])):
        source = boxes([[corner]] * (1 if shared else 2)).expand(2, -1, -1)
        found = paste(images, target, partner, source, nearest=nearest)
        for sample in range(2):
            patch = found[sample, :, 1:3, 1:3].flatten(1)
            wanted = torch.tensor([1.0 - sample, *expected]).view(3, 1)
            assert torch.equal(patch, wanted.expand(3, 4))


def test_an_empty_target_does_nothing(shared: bool) -> None:
    images = torch.randn(2, 3, 6, 6, generator=seeded(5))
    target = boxes([[[2, 3, 2, 6], [4, 4, 4, 4]]]).expand(2, -1, -1)
    target = target if shared else target.contiguous()
    source = boxes([[[0, 0, 6, 6]] * 2]).expand(2, -1, -1)
    partner = torch.tensor([[1, 1], [0, 0]])
    assert torch.equal(paste(images, target, partner, source, nearest=False), images)


def test_no_value_beyond_those_of_the_images() -> None:
    images = torch.randn(8, 3, 16, 16, generator=seeded(6))
    target, source = drawn(9, 16, 16, 8)
    partner = torch.arange(8).flip(0).unsqueeze(1)
    found = paste(images, target, partner, source, nearest=False)
    assert found.max() <= images.max()
    assert found.min() >= images.min()
    even = torch.full((8, 3, 16, 16), 0.1)
    assert torch.equal(paste(even, target, partner, source, nearest=False), even)


def test_nothing_beside_the_source_is_touched(shared: bool) -> None:
    """Pixels next to the rectangle that are not finite must not leak, not even with weight 0."""
    images = torch.full((2, 1, 8, 8), float("nan"))
    images[:, :, 2:5, 3:6] = torch.randn(2, 1, 3, 3, generator=seeded(8))
    rows = 1 if shared else 2
    for size in (2, 3, 5):
        target = boxes([[[0, 0, size, size]]] * rows).expand(2, -1, -1)
        source = boxes([[[2, 3, 5, 6]]] * rows).expand(2, -1, -1)
        found = paste(images, target, torch.tensor([[1], [0]]), source, nearest=False)
        assert bool(found[:, :, :size, :size].isfinite().all())


def test_gradients_reach_every_pixel_that_is_seen(shared: bool) -> None:
    images = torch.randn(3, 1, 5, 4, generator=seeded(7), dtype=torch.float64)
    target, source = drawn(4, 5, 4, 1 if shared else 3)
    target, source = target.expand(3, -1, -1), source.expand(3, -1, -1)
    partner = torch.tensor([[1], [2], [0]])

    def pasted(given: Tensor) -> Tensor:
        return paste(given, target, partner, source, nearest=False)

    assert torch.autograd.gradcheck(pasted, (images.requires_grad_(),))


def test_a_plan_resizes_images_and_masks() -> None:
    plan = Paste(
        (4, 4),
        boxes([[[0, 0, 2, 2]]]).expand(2, -1, -1),
        torch.tensor([[1], [0]]),
        boxes([[[0, 0, 4, 4]]]).expand(2, -1, -1),
        resize=True,
    )
    images = located_images(2, 4, 4)
    mixed = plan.mix_images(images)
    assert mixed[0, 1, :2, 0].tolist() == [0.5, 2.5]
    assert plan.mix_labels(torch.tensor([3, 5])).weights.tolist() == [[0.75, 0.25]] * 2
    # A class is that of the pixel under the centre, below and to the right of the middle.
    classes = torch.arange(16).view(1, 4, 4).repeat(2, 1, 1)
    assert plan.mix_masks(classes)[0, :2, :2].tolist() == [[5, 7], [13, 15]]
