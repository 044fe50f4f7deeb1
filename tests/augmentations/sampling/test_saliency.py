"""Fine-grained saliency, against loops over pixels that follow OpenCV's code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench.augmentations.sampling.saliency import fine_grained
from tests.support.oracles import seeded


def blurred(grey: np.ndarray) -> np.ndarray:
    """`GaussianBlur(grey, grey, Size(3, 3), 0, 0)`: weights 1/4, 1/2, 1/4, reflect 101."""
    padded = np.pad(grey, 1, mode="reflect") if min(grey.shape) > 1 else np.pad(grey, 1, "edge")
    if 1 in grey.shape and grey.size > 1:
        axis = int(np.argmax(grey.shape))
        mirrored = np.pad(grey.ravel(), 1, mode="reflect")
        padded = np.stack([mirrored] * 3, axis=1 - axis)
    height, width = grey.shape
    out = np.zeros_like(grey)
    for row, down in ((0, 0.25), (1, 0.5), (2, 0.25)):
        for column, across in ((0, 0.25), (1, 0.5), (2, 0.25)):
            out += down * across * padded[row : row + height, column : column + width]
    return out


def in_loops(image: np.ndarray) -> np.ndarray:
    """`StaticSaliencyFineGrained::calcIntensityChannel`, with no rounding to 8 bits."""
    if image.shape[0] == 3:
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
    else:
        grey = image.mean(axis=0)
    grey = blurred(blurred(grey))
    height, width = grey.shape
    brighter, darker = np.zeros_like(grey), np.zeros_like(grey)
    for reach in (3 * 4, 3 * 4 * 2, 3 * 4 * 2 * 2, 7 * 4, 7 * 4 * 2, 7 * 4 * 2 * 2):
        for row in range(height):
            for column in range(width):
                top, left = max(row - reach + 1, 0), max(column - reach + 1, 0)
                square = grey[top : row + reach + 1, left : column + reach + 1]
                if square.size == 1:
                    continue
                mean = (square.sum() - grey[row, column]) / (square.size - 1)
                brighter[row, column] += max(grey[row, column] - mean, 0)
                darker[row, column] += max(mean - grey[row, column], 0)
    return sum(part / part.max() if part.max() > 1e-9 else part * 0 for part in (brighter, darker))


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("size", [(20, 31), (31, 20), (13, 12), (1, 30), (30, 1), (2, 2)])
def test_it_is_the_loop(size: tuple[int, int], channels: int) -> None:
    images = torch.rand(2, channels, *size, generator=seeded(1))
    found = fine_grained(images)
    assert found.shape == (2, *size)
    assert found.dtype == torch.float32
    for index in range(2):
        expected = in_loops(images[index].double().numpy())
        np.testing.assert_allclose(found[index].numpy(), expected, atol=2e-4)


def test_the_odd_one_out_is_salient() -> None:
    """One bright and one dark spot on grey: each has its kind's whole strength, the rest little."""
    images = torch.full((1, 1, 64, 48), 0.5)
    images[0, 0, 40, 30] = 1.0
    images[0, 0, 12, 7] = 0.2
    found = fine_grained(images)[0]
    assert float(found[40, 30]) == pytest.approx(1, abs=0.02)
    assert float(found[12, 7]) == pytest.approx(1, abs=0.02)
    rest = found.clone()
    rest[37:44, 27:34] = 0
    rest[9:16, 4:11] = 0
    assert float(rest.max()) < 0.05


@pytest.mark.parametrize("value", [0.0, 0.1, 1000.3, -2.7])
@pytest.mark.parametrize("size", [(1, 1), (5, 1), (1, 5), (40, 70), (224, 224)])
def test_an_even_image_has_none(size: tuple[int, int], value: float) -> None:
    assert not fine_grained(torch.full((2, 3, *size), value)).any()


def test_rounding_is_not_salient() -> None:
    """A pattern in the last bit of values around 1000 is what an even image may come to."""
    pattern = torch.rand(2, 1, 20, 20, generator=seeded(4)) > 0.5
    images = 1000 + pattern * 2**-14
    assert bool((images != 1000).any())
    assert not fine_grained(images).any()
    assert fine_grained(images - 1000).any()


def test_offset_and_scale_do_not_matter() -> None:
    images = torch.rand(4, 3, 30, 24, generator=seeded(2))
    expected = fine_grained(images)
    for changed in (images * 255, images * 7 - 3, (images - 0.5) / 0.2):
        torch.testing.assert_close(fine_grained(changed), expected, atol=1e-4, rtol=0)


def test_each_image_by_itself_and_without_gradient() -> None:
    images = torch.rand(3, 3, 16, 20, generator=seeded(3), requires_grad=True)
    found = fine_grained(images)
    assert not found.requires_grad
    for index in range(3):
        alone: Tensor = fine_grained(images[index : index + 1])
        torch.testing.assert_close(alone[0], found[index], atol=1e-6, rtol=0)
    for dtype in (torch.bfloat16, torch.float16):
        half = images.detach().to(dtype)
        assert torch.equal(fine_grained(half), fine_grained(half.float()))
