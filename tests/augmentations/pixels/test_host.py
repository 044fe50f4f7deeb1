"""The pixels on a CPU: the reference and the code chosen by size, against loops over pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste, Plan, pixels
from mixbench.augmentations.pixels import eager, host
from tests.support.oracles import seeded

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8]
FLOATS = [dtype for dtype in DTYPES if dtype.is_floating_point]
LAYOUTS = ["contiguous", "channels_last", "crop", "expanded"]
# On both sides of host.LARGE, square and not, and a single pixel.
SMALL = [(3, 1, 1), (1, 8, 8), (3, 7, 9), (2, 3, 40)]
AT_THE_THRESHOLD = [(1, 128, 127), (1, 128, 128), (4, 64, 64), (3, 64, 85), (3, 64, 86)]


def test_the_sizes_are_on_both_sides() -> None:
    large = [math.prod(shape) >= host.LARGE for shape in AT_THE_THRESHOLD]
    assert large == [False, True, True, False, True]
    assert all(math.prod(shape) < host.LARGE for shape in SMALL)


def images_of(
    batch: int, shape: tuple[int, int, int], dtype: torch.dtype, layout: str, seed: int = 0
) -> Tensor:
    """Noise of this layout, NaN and infinities among it where the dtype has them."""
    channels, height, width = shape
    made = torch.randn(batch, channels, height, 2 * width, generator=seeded(seed)).mul(60).abs()
    images = made.to(dtype)
    if dtype.is_floating_point:
        images[..., ::7] = math.nan
        images[..., 3::11] = -math.inf
        images[..., 5::13] = -0.0
    if layout == "crop":
        return images[..., width // 2 : width // 2 + width]
    images = images[..., :width].contiguous()
    if layout == "expanded":
        return images[:1].expand(batch, -1, -1, -1)
    if layout == "channels_last":
        return images.contiguous(memory_format=torch.channels_last)
    return images


def rectangles(rows: int, number: int, height: int, width: int, seed: int, tiles: bool) -> Tensor:
    """(rows, number, 4) without overlap: side by side, or with `tiles` four around a point."""
    random = seeded(seed)
    if tiles:
        down = torch.randint(height + 1, (rows,), generator=random)
        across = torch.randint(width + 1, (rows,), generator=random)
        zero = torch.zeros_like(down)
        bottom, right = zero + height, zero + width
        edges = (
            (zero, zero, down, across),
            (zero, across, down, right),
            (down, zero, bottom, across),
            (down, across, bottom, right),
        )
        return torch.stack([torch.stack(edge, dim=-1) for edge in edges], dim=1)
    columns = torch.randint(width + 1, (rows, 2 * number), generator=random).sort(dim=1).values
    lines = torch.randint(height + 1, (rows, number, 2), generator=random).sort(dim=2).values
    return torch.stack([lines[..., 0], columns[:, ::2], lines[..., 1], columns[:, 1::2]], dim=-1)


def moved(target: Tensor, height: int, width: int, seed: int) -> Tensor:
    """Source boxes of the targets' sizes, anywhere they fit, the corners among it."""
    random = seeded(seed)
    rows, columns = target[..., 2] - target[..., 0], target[..., 3] - target[..., 1]
    unit = torch.rand(2, *rows.shape, generator=random)
    unit[:, 0] = 0.0
    unit[:, -1] = 0.9999
    top = (unit[0] * (height - rows + 1)).long()
    left = (unit[1] * (width - columns + 1)).long()
    return torch.stack([top, left, top + rows, left + columns], dim=-1)


def pasted(
    images: Tensor, target: Tensor, partner: Tensor | None, source: Tensor | None, fill: Tensor
) -> Tensor:
    """One pixel at a time; fill: a value per channel."""
    out = images.clone(memory_format=torch.contiguous_format)
    for sample in range(images.shape[0]):
        for box in range(target.shape[1]):
            top, left, bottom, right = target[sample, box].tolist()
            down, across = (
                (0, 0) if source is None else ((source - target)[sample, box, :2].tolist())
            )
            for row, column in itertools.product(range(top, bottom), range(left, right)):
                if partner is None:
                    out[sample, :, row, column] = fill
                else:
                    other = int(partner[sample, box])
                    out[sample, :, row, column] = images[other, :, row + down, column + across]
    return out


def same_bits(one: Tensor, two: Tensor) -> bool:
    bits = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[one.element_size()]
    return torch.equal(one.contiguous().view(bits), two.contiguous().view(bits))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pasted_pixels(layout: str, dtype: torch.dtype) -> None:
    """Equal to a loop over pixels, bit for bit; one set of rectangles or one per sample."""
    seed = 0
    for shape, batch, number in itertools.product(SMALL, (1, 3), (1, 2, 4)):
        for shared, kind in itertools.product((False, True), ("place", "moved", "fill")):
            seed += 1
            _, height, width = shape
            images = images_of(batch, shape, dtype, layout, seed)
            rows = 1 if shared else batch
            target = rectangles(rows, number, height, width, seed, number == 4)
            source = moved(target, height, width, seed) if kind == "moved" else None
            target = target.expand(batch, -1, -1)
            source = None if source is None else source.expand(batch, -1, -1)
            partner = None
            if kind != "fill":
                partner = torch.randint(batch, (batch, number), generator=seeded(seed))
            value = (0.0, 2.0)[seed % 2]
            before = images.clone()
            fill = torch.full((shape[0],), value).to(dtype)
            expected = pasted(images, target, partner, source, fill)
            for code in (host, eager):
                got = code.paste(images, target, partner, source, value)
                assert same_bits(got, expected), (code, shape, kind)
                assert got.is_contiguous(memory_format=eager.layout(images))
                assert same_bits(images, before)


@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "crop"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8], ids=str)
def test_large_images_as_the_reference(layout: str, dtype: torch.dtype) -> None:
    """On both sides of the threshold, where a loop over pixels would take minutes."""
    for seed, (shape, shared) in enumerate(itertools.product(AT_THE_THRESHOLD, (False, True))):
        _, height, width = shape
        images = images_of(3, shape, dtype, layout, seed)
        for number, kind in itertools.product((1, 4), ("place", "moved", "fill", "blank")):
            target = rectangles(1 if shared else 3, number, height, width, seed, number == 4)
            source = moved(target, height, width, seed) if kind == "moved" else None
            target = target.expand(3, -1, -1)
            source = None if source is None else source.expand(3, -1, -1)
            partner = None
            if kind in ("place", "moved"):
                partner = torch.randint(3, (3, number), generator=seeded(seed))
            value = 0.0 if kind == "blank" else 1.0
            got = host.paste(images, target, partner, source, value)
            assert same_bits(got, eager.paste(images, target, partner, source, value))
            assert got.is_contiguous(memory_format=eager.layout(images))


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", [(3, 7, 9), (3, 64, 86)], ids=str)
@pytest.mark.parametrize("shared", [False, True])
def test_the_mean_colour_fills_its_channel(
    shape: tuple[int, int, int], layout: str, shared: bool
) -> None:
    images = torch.rand(4, *shape, generator=seeded(0)) + torch.arange(3.0).view(1, 3, 1, 1)
    if layout == "channels_last":
        images = images.contiguous(memory_format=torch.channels_last)
    target = rectangles(1 if shared else 4, 1, *shape[1:], 3, False).expand(4, -1, -1)
    mean = torch.from_numpy(images.double().numpy().mean(axis=(0, 2, 3))).float()
    got = host.paste(images, target, None, None, "mean")
    torch.testing.assert_close(got.contiguous(), pasted(images, target, None, None, mean))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_blended_pixels(layout: str, dtype: torch.dtype) -> None:
    """The reference against numpy in float64, and the code chosen by size against it, exactly."""
    bound = {torch.float64: 1e-6, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}
    for seed, (shape, spatial) in enumerate(
        itertools.product([*SMALL, *AT_THE_THRESHOLD], (False, True))
    ):
        images = images_of(3, shape, dtype, layout, seed).nan_to_num(1.0, 2.0, 3.0)
        if layout == "channels_last":
            images = images.contiguous(memory_format=torch.channels_last)
        keep = torch.rand(3, 1, *(shape[1:] if spatial else (1, 1)), generator=seeded(seed))
        keep[0] = 1.0
        partner = torch.tensor([2, 0, 1])
        got = host.blend(images, keep, partner)
        assert same_bits(got, eager.blend(images, keep, partner))
        assert got.is_contiguous(memory_format=eager.layout(images))
        assert torch.equal(got[0], images[0])
        own, weight = images.double().numpy(), keep.double().numpy()
        expected = weight * own + (1 - weight) * own[partner.numpy()]
        error = np.abs(got.double().numpy() - expected) / np.maximum(1, np.abs(expected))
        assert error.max() <= bound[dtype]


@pytest.mark.parametrize("shape", [(2, 6, 6), (3, 64, 86)], ids=str)
@pytest.mark.parametrize("number", [1, 4])
@pytest.mark.parametrize("kind", ["place", "moved", "fill", "blend"])
def test_gradients_of_both_sizes(shape: tuple[int, int, int], number: int, kind: str) -> None:
    """A mix is linear: the gradient of <mix(x), w> at w is its transpose, so <mix(x), w> = <x, g>.

    With a fill of 0, for it is not linear otherwise.
    """
    images = torch.randn(3, *shape, dtype=torch.float64, generator=seeded(0)).requires_grad_()
    other = torch.randn(3, *shape, dtype=torch.float64, generator=seeded(1))
    tiles = number == 4 and kind != "fill"
    target = rectangles(3, number, *shape[1:], 2, tiles)
    partner = torch.randint(3, (3, number), generator=seeded(3))
    if kind == "blend":
        keep = torch.rand(3, 1, 1, 1, generator=seeded(4))
        mixed = pixels.blend(images, keep, partner[:, 0])
    else:
        source = moved(target, *shape[1:], 5) if kind == "moved" else None
        mixed = pixels.paste(images, target, None if kind == "fill" else partner, source, 0.0)
    (gradient,) = torch.autograd.grad((mixed * other).sum(), images)
    torch.testing.assert_close((mixed * other).sum(), (images * gradient).sum())
    assert bool((gradient != 0).any())


def test_a_gradient_of_the_weight_flows_through_large_images() -> None:
    images = torch.rand(3, 3, 96, 96, generator=seeded(0))
    keep = torch.full((3, 1, 1, 1), 0.3, requires_grad=True)
    partner = torch.tensor([1, 2, 0])
    pixels.blend(images, keep, partner).sum().backward()
    expected = (images - images[partner]).sum(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(keep.grad, expected)


@pytest.mark.parametrize("side", [8, 80])
@pytest.mark.parametrize("partner", [[1, 2, 0, 3, 5, 4], [1, 1, 0, 3, 3, 3]], ids=str)
def test_mixing_in_place_is_mixing(side: int, partner: list[int]) -> None:
    """Bit for bit, in cycles and where several have one partner; small images, and large ones."""
    images = torch.rand(6, 3, side, side, generator=seeded(0))
    keep = torch.rand(6, 1, side, side, generator=seeded(1))
    who = torch.tensor(partner)
    half = side // 2
    boxes = torch.tensor([[0, 0, half, side], [half, 1, side, half]]).expand(6, -1, -1)
    pairs, size = torch.stack([who, who.flip(0)], dim=1), (side, side)
    source = boxes + torch.tensor([[half, 0, half, 0], [0, 0, 0, 0]])
    plans: list[Plan] = [
        Blend(keep, who),
        Blend(keep[:, :, :1, :1], who),
        Blend(keep[:1, :, :1, :1].expand(6, -1, -1, -1), who),
        Blend(keep, None, fill="mean"),
        Paste(size, boxes, pairs),
        Paste(size, boxes.clone(), pairs),
        Paste(size, boxes, pairs, source),
        Paste(size, boxes.clone(), pairs, source.clone()),
        Paste(size, boxes, None, fill="mean"),
        Paste(size, boxes, pairs, boxes.flip(1), resize=True),
        augmentations.create("ricap").sample(images.shape, generator=seeded(2)),
        augmentations.create("none").sample(images.shape),
        augmentations.create("choice", per_sample=True).sample(images.shape, generator=seeded(3)),
    ]
    for plan in plans:
        for dtype, layout in (
            (torch.float32, torch.contiguous_format),
            (torch.float32, torch.channels_last),
            (torch.float16, torch.contiguous_format),
        ):
            given = images.to(dtype).contiguous(memory_format=layout)
            mixed = given.clone()
            plan.mix_in_place(mixed)
            assert torch.equal(mixed, plan.mix_images(given)), (plan, dtype, layout)
