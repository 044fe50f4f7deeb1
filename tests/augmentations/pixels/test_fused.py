"""From stored uint8 images to a mixed batch: what the two steps make, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import pixels
from mixbench.augmentations.pixels.fused import mix_raw, prepared_and_mixed
from mixbench.augmentations.pixels.preparation import Preparation
from tests.support.oracles import DEVICES, seeded

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
METHODS = [name for name in augmentations.available() if name != "manifold_mixup"]


def raw_of(*shape: int, seed: int = 0) -> Tensor:
    """Random uint8 images."""
    return torch.randint(256, shape, dtype=torch.uint8, generator=seeded(seed))


def drawn(batch: int, channels: int, device: str = "cpu", **more: object) -> Preparation:
    """Crops within 2 pixels, flips, and a mean and std of its own for each channel."""
    mean = torch.linspace(0.2, 0.6, channels, device=device)
    std = torch.linspace(0.1, 0.3, channels, device=device)
    return Preparation.draw(
        batch,
        mean,
        std,
        crop_padding=2,
        flip=True,
        generator=seeded(1, device),
        **more,  # type: ignore[arg-type]
    )


def pixel_by_pixel(raw: Tensor, preparation: Preparation) -> np.ndarray:
    """What the docstring of `Preparation` says, in loops over pixels."""
    assert preparation.offsets is not None and preparation.mirrored is not None
    batch, channels, height, width = raw.shape
    made = np.zeros(raw.shape)
    mean, std = preparation.mean.tolist(), preparation.std.tolist()
    for b in range(batch):
        top, left = (preparation.offsets[:, b] - preparation.padding).tolist()
        for y in range(height):
            for x in range(width):
                column = width - 1 - x if preparation.mirrored[b] else x
                row, column = y + top, column + left
                inside = 0 <= row < height and 0 <= column < width
                for c in range(channels):
                    value = raw[b, c, row, column].item() if inside else 0
                    made[b, c, y, x] = (value / 255 - mean[c]) / std[c]
    return made


@pytest.mark.parametrize("channels_last", [False, True])
def test_preparing_is_what_it_says(channels_last: bool) -> None:
    raw = raw_of(5, 3, 6, 9)
    kept = raw.clone()
    preparation = drawn(5, 3, channels_last=channels_last)
    found = preparation(raw)
    np.testing.assert_allclose(found.numpy(), pixel_by_pixel(raw, preparation), atol=2e-5)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert found.is_contiguous(memory_format=layout)
    assert torch.equal(raw, kept)
    half = drawn(5, 3, dtype=torch.bfloat16)(raw)
    assert torch.equal(half, found.contiguous().bfloat16())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("channels_last", [False, True])
def test_on_the_cpu_it_is_the_two_steps_bit_for_bit(name: str, channels_last: bool) -> None:
    raw, labels = raw_of(6, 3, 8, 12), torch.tensor([0, 1, 2, 3, 4, 0])
    preparation = drawn(6, 3, channels_last=channels_last)
    mix = augmentations.create(name)
    found = mix_raw(mix, raw, labels, preparation, 5, seeded(2))
    expected = mix(preparation(raw), labels, 5, generator=seeded(2))
    assert torch.equal(found.images, expected.images)
    assert found.images.stride() == expected.images.stride()
    assert torch.equal(found.targets.labels, expected.targets.labels)
    assert torch.equal(found.targets.weights, expected.targets.weights)
    again = prepared_and_mixed(expected.plan, raw, preparation)
    assert torch.equal(again, expected.images)


def test_the_draws_are_the_crops_alone() -> None:
    # Rows and columns of the offsets first, then the flips; nothing from the global generator.
    before = torch.get_rng_state()
    preparation = drawn(7, 3)
    random = seeded(1)
    assert preparation.offsets is not None and preparation.mirrored is not None
    assert torch.equal(preparation.offsets, torch.randint(5, (2, 7), generator=random))
    assert torch.equal(preparation.mirrored, torch.randint(2, (7,), generator=random))
    assert torch.equal(torch.get_rng_state(), before)
    ones = torch.ones(3)
    plain = Preparation.draw(7, ones, ones, generator=random)
    assert plain.offsets is None and plain.mirrored is None


@pytest.mark.parametrize(
    "images", [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, dtype=torch.uint8)]
)
def test_other_images_are_refused(images: Tensor) -> None:
    preparation = drawn(2, 3)
    mix = augmentations.create("cutmix")
    for use in (preparation, lambda raw: mix_raw(mix, raw, torch.zeros(2).long(), preparation)):
        with pytest.raises(ValueError, match=r"images: expected \([B2], C, H, W\) uint8, got"):
            use(images)


@pytest.mark.parametrize("name", ["cutmix", "fmix"])
def test_a_plan_for_other_images_is_refused(name: str) -> None:
    plan = augmentations.create(name).sample((4, 3, 8, 8))
    for shape, expected in (((3, 3, 8, 8), r"\(4, C, 8, 8\)"), ((4, 3, 8, 9), r"\(4, C, 8, 8\)")):
        with pytest.raises(ValueError, match=f"images: expected {expected} uint8, got"):
            prepared_and_mixed(plan, raw_of(*shape), drawn(shape[0], 3))
    for batch, channels, field in ((3, 3, "images"), (4, 2, "mean")):
        with pytest.raises(ValueError, match=f"{field}: expected .* got "):
            prepared_and_mixed(plan, raw_of(4, 3, 8, 8), drawn(batch, channels))
    ones = torch.ones(3)
    crops = Preparation.draw(3, ones, ones, crop_padding=2)
    with pytest.raises(ValueError, match=r"offsets: expected \(2, 4\) on cpu for images"):
        crops(raw_of(4, 3, 8, 8))
    elsewhere = Preparation(ones, ones, mirrored=torch.zeros(4, dtype=torch.int64, device="meta"))
    with pytest.raises(ValueError, match=r"mirrored: expected \(4,\) on cpu .* on meta"):
        elsewhere(raw_of(4, 3, 8, 8))


@on_gpu
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("shape", [(6, 3, 32, 32), (3, 3, 224, 224), (5, 1, 28, 28)])
def test_a_gpu_makes_the_same_batch(
    name: str, channels_last: bool, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_of(*shape).cuda()
    labels = torch.arange(shape[0], device="cuda")
    preparation = drawn(shape[0], shape[1], "cuda", channels_last=channels_last)
    mix = augmentations.create(name)
    found = mix_raw(mix, raw, labels, preparation, generator=seeded(2, "cuda"))
    monkeypatch.setattr(pixels, "EAGER", True)
    expected = mix_raw(mix, raw, labels, preparation, generator=seeded(2, "cuda"))
    torch.testing.assert_close(found.images, expected.images, rtol=1e-5, atol=1e-5)
    assert found.images.stride() == expected.images.stride()
    assert torch.equal(found.targets.weights, expected.targets.weights)


@pytest.mark.parametrize("device", DEVICES)
def test_half_precision_comes_out_where_it_is_asked_for(device: str) -> None:
    raw = raw_of(4, 3, 8, 8).to(device)
    preparation = drawn(4, 3, device, dtype=torch.float16)
    batch = mix_raw(augmentations.create("mixup"), raw, torch.arange(4, device=device), preparation)
    assert batch.images.dtype == torch.float16
