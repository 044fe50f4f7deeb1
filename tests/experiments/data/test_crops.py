import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixbench.experiments.data.crops import (
    crop_and_flip,
    crop_box,
    denormalise,
    normalise,
    prepare,
    random_resized_crop,
)


def pictures(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, shape, dtype=torch.uint8, generator=generator)


def slowly(images, mean, std, padding, flip, generator):
    """One image at a time, in numpy, with the draws that `prepare` documents."""
    count, channels, height, width = images.shape
    offsets = torch.zeros(2, count, dtype=torch.int64)
    mirrored = torch.zeros(count, dtype=torch.int64)
    if padding:
        offsets = torch.randint(2 * padding + 1, (2, count), generator=generator)
    if flip:
        mirrored = torch.randint(2, (count,), generator=generator)
    out = np.empty((count, channels, height, width), dtype=np.float32)
    for i, image in enumerate(images.numpy()):
        canvas = np.zeros((channels, height + 2 * padding, width + 2 * padding), np.uint8)
        canvas[:, padding : padding + height, padding : padding + width] = image
        top, left = offsets[:, i].tolist()
        crop = canvas[:, top : top + height, left : left + width]
        crop = crop[:, :, ::-1] if mirrored[i] else crop
        for channel in range(channels):
            out[i, channel] = (crop[channel] / 255 - mean[channel].item()) / std[channel].item()
    return torch.from_numpy(out)


@pytest.mark.parametrize("shape", [(16, 1, 28, 28), (9, 3, 32, 32), (5, 3, 16, 64), (1, 2, 5, 3)])
@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (3, False), (4, True)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_prepare_is_the_slow_way_fast(shape, padding, flip, channels_last):
    images = pictures(*shape)
    kept = images.clone()
    mean, std = torch.rand(shape[1]), torch.rand(shape[1]) + 0.1
    before = torch.get_rng_state()
    found = prepare(
        images,
        mean,
        std,
        crop_padding=padding,
        flip=flip,
        channels_last=channels_last,
        generator=torch.Generator().manual_seed(7),
    )
    expected = slowly(images, mean, std, padding, flip, torch.Generator().manual_seed(7))
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    assert found.dtype == torch.float32
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.is_contiguous(memory_format=layout)
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), before)


def test_prepare_takes_any_layout():
    stored = pictures(12, 3, 10, 12)
    mean, std = torch.zeros(3), torch.ones(3)
    views = (stored[::2], stored.contiguous(memory_format=torch.channels_last)[::2])
    first, second = (
        prepare(x, mean, std, crop_padding=2, flip=True, generator=torch.Generator().manual_seed(1))
        for x in views
    )
    assert torch.equal(first, second)


def test_every_offset_and_both_directions_are_equally_likely():
    count, padding = 9000, 1
    image = torch.zeros(1, 1, 3, 3, dtype=torch.uint8)
    image[0, 0] = torch.tensor([[0, 0, 0], [0, 50, 100], [0, 0, 0]])
    mean, std = torch.zeros(1), torch.full((1,), 1 / 255)
    made = prepare(
        image.expand(count, 1, 3, 3),
        mean,
        std,
        crop_padding=padding,
        flip=True,
        generator=torch.Generator().manual_seed(0),
    ).round()
    kinds, seen = torch.unique(made.view(count, 9), dim=0, return_counts=True)
    # 3 rows x 3 columns x 2 directions; none coincide, and 6 of them lose the 100 at an edge.
    assert len(kinds) == 18
    assert (seen.double() - 500).abs().max() < 5 * math.sqrt(500)
    assert (kinds == 100).any(1).sum() == 12


def test_padding_is_black_before_normalisation():
    white = torch.full((64, 1, 4, 4), 255, dtype=torch.uint8)
    made = prepare(
        white,
        torch.tensor([0.5]),
        torch.tensor([0.25]),
        crop_padding=2,
        generator=torch.Generator().manual_seed(0),
    )
    assert made.unique().tolist() == [-2.0, 2.0]


def test_crop_and_flip_by_hand():
    image = torch.tensor([[[[1, 2, 3], [4, 5, 6]]]], dtype=torch.uint8)
    # One row up and one column right of the middle: zeros come in above and on the right.
    moved = crop_and_flip(image, 1, torch.tensor([[0], [2]]), None)
    assert moved.tolist() == [[[[0, 0, 0], [2, 3, 0]]]]
    both = crop_and_flip(image, 1, torch.tensor([[0], [2]]), torch.tensor([1]))
    assert both.tolist() == [[[[0, 0, 0], [0, 3, 2]]]]


def test_denormalise_undoes_normalise():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(2, 3, 1, 1)
    mean, std = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.05, 0.3, 1.0])
    assert torch.equal(denormalise(normalise(images, mean, std), mean, std), images)
    assert denormalise(torch.full((1, 3, 1, 1), 99.0), mean, std).unique().tolist() == [255]


@given(
    draws=st.lists(
        st.tuples(*[st.floats(0, 1, exclude_max=True, width=32)] * 4), min_size=1, max_size=9
    ),
    aspect=st.floats(0.2, 5),
)
@settings(max_examples=60, deadline=None)
def test_crop_boxes_lie_in_the_image_with_the_documented_area(draws, aspect):
    left, top, width, height = crop_box(torch.tensor(draws), aspect)
    assert (left >= 0).all() and (left + width <= 1 + 1e-6).all()
    assert (top >= 0).all() and (top + height <= 1 + 1e-6).all()
    area, ratio = width * height, aspect * width / height
    whole = (width < 1) & (height < 1)  # the others were cut to the image
    assert (area[whole] >= 0.08 - 1e-6).all()
    assert (ratio[whole] >= 0.75 - 1e-4).all() and (ratio[whole] <= 4 / 3 + 1e-4).all()


def test_crop_box_by_hand():
    # Area 0.08 + 0.92 * 0.5 = 0.54, square, a quarter and three quarters of the room left.
    left, top, width, height = crop_box(torch.tensor([[0.5, 0.5, 0.25, 0.75]]))
    side = math.sqrt(0.54)
    torch.testing.assert_close(width, torch.tensor([side]))
    torch.testing.assert_close(height, torch.tensor([side]))
    torch.testing.assert_close(left, torch.tensor([(1 - side) / 4]))
    torch.testing.assert_close(top, torch.tensor([(1 - side) * 3 / 4]))


def test_random_resized_crop_of_everything_changes_nothing():
    images = pictures(3, 3, 8, 8)
    draws = torch.tensor([[1.0, 0.5, 0.3, 0.9]]).expand(3, 4)
    assert torch.equal(random_resized_crop(images, draws), images)


def test_random_resized_crop_shows_the_box_it_was_given():
    # Pixel values rise along x in one channel and along y in the other, so they name the place.
    height, width = 100, 200
    ramp = torch.stack(
        (
            torch.arange(width).expand(height, width),
            torch.arange(height)[:, None].expand(height, width),
        )
    ).to(torch.uint8)
    draws = torch.rand(20, 4, generator=torch.Generator().manual_seed(0))
    found = random_resized_crop(ramp.expand(20, 2, height, width), draws).float()
    boxes = torch.stack(crop_box(draws), 1)  # crops have the images' aspect
    for crop, (left, top, w, h) in zip(found, boxes.tolist(), strict=True):
        columns = (left + w * (torch.arange(width) + 0.5) / width) * width - 0.5
        rows = (top + h * (torch.arange(height) + 0.5) / height) * height - 0.5
        assert (crop[0] - columns.clamp(0, width - 1)).abs().max() <= 0.51
        assert (crop[1] - rows.clamp(0, height - 1)[:, None]).abs().max() <= 0.51
