"""Masks and features follow the image's geometry, at any resolution, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.plans.base import Plan
from tests.support.oracles import DEVICES, seeded

each_device = pytest.mark.parametrize("device", DEVICES)


def pasted_by_loops(plan: Paste, values: np.ndarray) -> np.ndarray:
    """(B, ..., H, W) with every rectangle copied (or filled) one by one, from the batch itself."""
    out = values.copy()
    for sample in range(len(values)):
        for rectangle, (top, left, bottom, right) in enumerate(plan.target[sample].tolist()):
            source = plan.target if plan.source is None else plan.source
            row, column = source[sample, rectangle, :2].tolist()
            if plan.partner is None:
                out[sample, ..., top:bottom, left:right] = plan.fill
                continue
            other = values[int(plan.partner[sample, rectangle])]
            out[sample, ..., top:bottom, left:right] = other[
                ..., row : row + bottom - top, column : column + right - left
            ]
    return out


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
@pytest.mark.parametrize("name", ["cutmix", "ricap"])
def test_pasted_masks_are_copied_rectangle_by_rectangle(name: str, per_sample: bool) -> None:
    classes = torch.randint(0, 250, (6, 9, 14), generator=seeded(0))
    for seed in range(5):
        plan = augmentations.create(name, per_sample=per_sample).sample(
            (6, 3, 9, 14), generator=seeded(seed)
        )
        assert isinstance(plan, Paste)
        for masks in (classes, classes.to(torch.uint8), classes > 100, classes.double()):
            expected = pasted_by_loops(plan, masks.numpy())
            assert np.array_equal(plan.mix_masks(masks).numpy(), expected)
            layered = masks.unsqueeze(1).repeat(1, 3, 1, 1)
            assert np.array_equal(plan.mix_masks(layered).numpy(), expected[:, None].repeat(3, 1))


@pytest.mark.parametrize("name", ["cutmix", "ricap", "cutout"])
def test_at_another_resolution_edges_are_scaled_and_rounded(name: str) -> None:
    """Half the height and three times the width: edges by hand, then copied as above."""
    features = torch.rand(6, 4, 5, 42, generator=seeded(0))
    for seed in range(5):
        plan = augmentations.create(name, per_sample=True).sample(
            (6, 3, 10, 14), generator=seeded(seed)
        )
        assert isinstance(plan, Paste)
        edges = plan.target.double() * torch.tensor([0.5, 3.0, 0.5, 3.0])
        target = torch.from_numpy(np.rint(edges.numpy())).long()
        source = None
        if plan.source is not None:
            corner = np.rint(plan.source[..., :2].numpy() * [0.5, 3.0])
            room = np.array([5, 42]) - (target[..., 2:] - target[..., :2]).numpy()
            corner = torch.from_numpy(np.minimum(corner, room)).long()
            source = torch.cat([corner, corner + target[..., 2:] - target[..., :2]], dim=-1)
        scaled = Paste((5, 42), target, plan.partner, source, fill=plan.fill)
        expected = pasted_by_loops(scaled, features.numpy())
        assert np.array_equal(plan.mix_features(features).numpy(), expected)
        if plan.partner is not None:
            masks = (features * 100).long()
            expected = pasted_by_loops(scaled, masks.numpy())
            assert np.array_equal(plan.mix_masks(masks).numpy(), expected)


@pytest.mark.parametrize("corner", [[37, 38], [19, 18]], ids=["at the border", "inside"])
def test_a_resized_source_always_has_a_pixel_to_give(corner: list[int]) -> None:
    """At a twentieth of the size its edges would meet; the target, larger, still is filled."""
    target = torch.tensor([[[0, 0, 40, 40]], [[0, 0, 0, 0]]])
    end = [corner[0] + 2, corner[1] + 2]
    source = torch.tensor([[[*corner, *end]], [[0, 0, 0, 0]]])
    plan = Paste((40, 40), target, torch.tensor([[1], [0]]), source, resize=True)
    small = plan._at(torch.Size([2, 2]))
    assert small.source is not None
    assert small.source[0, 0].tolist() == [1, 1, 2, 2]
    assert small.target[0, 0].tolist() == [0, 0, 2, 2]
    maps = torch.tensor([1.0, 5.0]).view(2, 1, 1, 1).expand(-1, 1, 2, 2)
    assert plan.mix_features(maps)[:, 0, 0, 0].tolist() == [5.0, 5.0]


# --- blends -------------------------------------------------------------------------------------


def test_the_larger_share_has_the_pixel_and_a_tie_is_the_samples_own() -> None:
    keep = torch.tensor([0.6, 0.5, 0.4]).view(3, 1, 1, 1)
    plan = Blend(keep, torch.tensor([1, 2, 0]))
    masks = torch.tensor([7, 8, 9]).view(3, 1, 1).expand(3, 2, 2)
    assert plan.mix_masks(masks)[:, 0, 0].tolist() == [7, 8, 7]
    soft = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1).expand(3, 2, 2)
    torch.testing.assert_close(plan.mix_masks(soft)[:, 0, 0], torch.tensor([0.4, 0.75, 0.2]))


def test_a_mask_at_a_lower_resolution_is_averaged() -> None:
    """Three of four pixels kept: three quarters; features and soft masks by weight, classes by
    majority."""
    keep = torch.ones(2, 1, 4, 4)
    keep[0, 0, 0, 0] = keep[0, 0, 2:, 2:] = 0
    plan = Blend(keep, torch.tensor([1, 0]))
    maps = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 2, 2)
    expected = torch.tensor([[0.25, 0.0], [0.0, 1.0]])
    assert torch.equal(plan.mix_features(maps)[0, 0], expected)
    assert torch.equal(plan.mix_masks(maps)[0, 0], expected)
    classes = torch.tensor([3, 5]).view(2, 1, 1).expand(2, 2, 2)
    assert plan.mix_masks(classes)[0].tolist() == [[3, 3], [3, 5]]
    # At a higher one, every pixel of the mask is a block.
    finer = plan.mix_features(maps[..., :1, :1].expand(2, 1, 8, 8))
    assert torch.equal(
        finer[0, 0], (1 - keep[0, 0]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    )


def test_a_fill_leaves_masks_and_vectors_and_fills_feature_maps() -> None:
    masks = torch.randint(0, 9, (3, 4, 4), generator=seeded(0))
    maps, vectors = torch.ones(3, 2, 2, 2), torch.rand(3, 5, generator=seeded(1))
    keep = torch.ones(3, 1, 4, 4)
    keep[:, :, :2] = 0
    top = torch.tensor([[[0, 0, 2, 4]]]).expand(3, -1, -1)
    plans: list[Plan] = [Blend(keep, fill=-2.0), Paste((4, 4), top, fill=-2.0)]
    for plan in plans:
        mixed = plan.mix_masks(masks)
        assert torch.equal(mixed, masks)
        assert mixed.data_ptr() != masks.data_ptr()
        assert torch.equal(plan.mix_features(vectors), vectors)
        assert plan.mix_features(maps)[:, :, :, 0].tolist() == [[[-2.0, 1.0]] * 2] * 3


# --- any tensor ---------------------------------------------------------------------------------


@each_device
@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap", "fmix", "cutout"])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (16, 24), (20, 7)], ids=str)
def test_axes_before_the_last_two_are_mixed_alike(
    name: str, size: tuple[int, int], device: str
) -> None:
    """(B, h, w), (B, C, T, h, w) and channels_last as (B, C, h, w)."""
    plan = augmentations.create(name, per_sample=True).sample(
        (5, 3, 16, 24), device=device, generator=seeded(1, device)
    )
    video = torch.rand(5, 2, 3, *size, generator=seeded(2)).to(device)
    mixed = plan.mix_features(video)
    assert mixed.shape == video.shape
    for channel in range(2):
        for frame in range(3):
            alone = plan.mix_features(video[:, channel, frame])
            assert torch.equal(mixed[:, channel, frame], alone)
            assert torch.equal(plan.mix_features(video[:, channel, frame, None]).squeeze(1), alone)
    last = video[:, 0].contiguous(memory_format=torch.channels_last)
    found = plan.mix_features(last)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(found, mixed[:, 0])


@pytest.mark.parametrize("name", ["mixup", "cutmix", "ricap", "fmix"])
@pytest.mark.parametrize("shape", [(5, 4, 6, 7), (5, 4, 16, 24), (5, 2, 3, 3, 5), (5, 11)], ids=str)
def test_the_gradient_of_a_feature_goes_where_it_came_from(name: str, shape: tuple) -> None:
    """The transposed mix: the gradient of sum(w * mix(x)) is checked against its matrix."""
    plan = augmentations.create(name, per_sample=True).sample((5, 1, 16, 24), generator=seeded(4))
    features = torch.rand(shape, generator=seeded(5), dtype=torch.float64).requires_grad_()
    weight = torch.rand(shape, generator=seeded(6), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((weight * plan.mix_features(features)).sum(), features)
    # Mixing is linear, and the same for all channels: one-hot samples, one position at a time.
    for seed in range(6):
        probe = torch.zeros(shape, dtype=torch.float64)
        place = tuple(int(torch.randint(0, n, (), generator=seeded(seed + 9 * n))) for n in shape)
        probe[place] = 1.0
        expected = (weight * plan.mix_features(probe)).sum()
        torch.testing.assert_close(gradient[place], expected, atol=1e-6, rtol=0)


@each_device
def test_vectors_are_weighted_sums_of_the_samples(device: str) -> None:
    vectors = torch.rand(5, 9, generator=seeded(0)).to(device)
    for name in ("mixup", "cutmix", "ricap", "fmix"):
        plan = augmentations.create(name, per_sample=True).sample(
            (5, 1, 16, 24), device=device, generator=seeded(1, device)
        )
        index, share = (tensor.cpu().tolist() for tensor in plan.sources())
        mixed = plan.mix_features(vectors)
        for sample in range(5):
            expected = sum(
                weight * vectors[who].double()
                for who, weight in zip(index[sample], share[sample], strict=True)
            )
            torch.testing.assert_close(mixed[sample].double(), expected, atol=1e-6, rtol=0)
        if device == "cpu":
            exact = plan.mix_features(vectors.double())
            torch.testing.assert_close(exact[sample], expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("change", [torch.clone, lambda x: x.expand(4, -1, -1, -1)])
def test_nothing_is_written_to_what_came(change: Callable[[Tensor], Tensor]) -> None:
    for name in ("mixup", "cutmix", "ricap", "fmix", "cutout"):
        plan = augmentations.create(name, per_sample=True).sample((4, 1, 8, 8), generator=seeded(1))
        maps = change(torch.rand(4 if change is torch.clone else 1, 2, 8, 8, generator=seeded(2)))
        before, version = maps.clone(), maps._version
        plan.mix_features(maps)
        plan.mix_masks(maps)
        assert torch.equal(maps, before)
        assert maps._version == version
