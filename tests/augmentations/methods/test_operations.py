"""TrivialAugment and RandAugment: torchvision's pixels, from draws of the plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mixbench import augmentations
from mixbench.augmentations.pixels import operations
from mixbench.augmentations.plans.operations import Operations
from mixbench.augmentations.plans.serialise import from_tensors, to_tensors
from mixbench.augmentations.sampling.operations import Space
from tests.support.oracles import seeded

SIZE = (14, 22)
THEIRS = [
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness"),
    *("Color", "Contrast", "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
]
AT = operations.AT
MEAN, STD = torch.tensor([0.3, 0.5, 0.4]), torch.tensor([0.2, 0.25, 0.3])


def pictures(count: int, channels: int) -> Tensor:
    """Whole numbers from 0 to 255: noise, faint noise, few levels, one colour."""
    pixels = torch.randint(0, 256, (count, channels, *SIZE), generator=seeded(1))
    pixels[1::4] = pixels[1::4] // 5 + 70
    pixels[2::4] = pixels[2::4] // 64 * 17
    return pixels.float()


def normalised(pixels: Tensor, mean: Tensor = MEAN, std: Tensor = STD) -> Tensor:
    return (pixels / 255 - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


def theirs(transform: Any, name: str, level: int, negative: bool, pixels: Tensor) -> Tensor:
    """What torchvision makes of one image."""
    scale, signed = transform._AUGMENTATION_SPACE[name]
    values = scale(31, *SIZE)
    amount = 0.0 if values is None else float(values[level]) * (-1 if negative and signed else 1)
    mixed = transform._apply_image_or_video_transform(
        pixels.to(torch.uint8), name, amount, transform.interpolation, transform._fill
    )
    result: Tensor = mixed.float()
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["trivial_augment", "rand_augment"])
def test_every_operation_is_torchvisions(name: str, channels: int) -> None:
    """All in one batch, each image with its own; at the weakest, middling and strongest."""
    drawn = [(k, level, level % 2 == 0) for k in range(14) for level in (0, 9, 15, 30)]
    pixels = pictures(len(drawn), channels)
    which, level, negative = (torch.tensor(part) for part in zip(*drawn, strict=True))
    if name == "trivial_augment":
        transform: Any = v2.TrivialAugmentWide()
        space = Space(0.99, (32.0, 32.0), 135.0, 0.99, 2)
    else:
        transform = v2.RandAugment()
        space = Space(0.3, (150 / 331 * SIZE[0], 150 / 331 * SIZE[1]), 30.0, 0.9, 4)
    strength = space.strengths(which, level, negative, 31)
    ours = operations.apply_operation(pixels, which, strength)
    for row, (k, *how) in enumerate(drawn):
        expected = theirs(transform, THEIRS[k], *how, pixels[row])
        apart = (ours[row] - expected).abs()
        # torchvision's colour is rounded once where a CPU multiplies and adds in one, ours twice.
        most, often = (1, 0.05) if THEIRS[k] == "Color" else (0, 0)
        assert apart.max() <= most and (apart > 0).float().mean() <= often, (THEIRS[k], *how)


@pytest.mark.parametrize("name", ["trivial_augment", "rand_augment"])
def test_a_normalised_batch_by_its_plan(name: str) -> None:
    mix = augmentations.create(name)
    pixels = pictures(24, 3)
    images, labels = normalised(pixels), torch.arange(24) % 5
    batch = mix(images, labels, 5, seeded(2), normalisation=(MEAN, STD))
    plan: Any = batch.plan
    transform: Any = v2.TrivialAugmentWide()
    expected = pixels
    for step in range(plan.operation.shape[1]):
        expected = operations.apply_operation(
            expected, plan.operation[:, step], plan.strength[:, step]
        )
    torch.testing.assert_close(batch.images, normalised(expected), atol=2e-6, rtol=0)
    same = ~plan.changed()
    assert torch.equal(batch.images[same], images[same])
    assert torch.equal(batch.targets.labels[:, 0], labels)
    again = from_tensors(to_tensors(plan))
    assert torch.equal(again.mix_images(images), batch.images)
    assert transform.num_magnitude_bins == mix.bins  # type: ignore[attr-defined]
    # A GPU's way: every pass over all images.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operations, "readable", lambda _: False)
        assert torch.equal(plan.mix_images(images), batch.images)


def test_operations_and_strengths_are_uniform() -> None:
    mix = augmentations.create("rand_augment", num_ops=3, magnitude=30)
    plan: Any = mix.sample((3000, 1, 8, 8), generator=seeded(3), normalisation=(0, 1))
    counts = plan.operation.flatten().bincount(minlength=14).float()
    expected = 9000 / 14
    assert float(((counts - expected) ** 2 / expected).sum()) < 40  # χ² of 13: p = 1e-4
    turns = plan.strength[plan.operation == AT["rotate"]]
    assert set(turns.tolist()) == {30.0, -30.0}
    assert abs(float((turns > 0).float().mean()) - 0.5) < 5 * 0.5 / len(turns) ** 0.5
    trivial = augmentations.create("trivial_augment")
    plan = trivial.sample((6000, 1, 8, 8), generator=seeded(4), normalisation=(0, 1))
    angles = plan.strength[plan.operation == AT["rotate"]].abs() / 4.5
    assert set(angles.round().int().tolist()) == set(range(31))
    assert 13 < float(angles.mean()) < 17


def shift(name: str, amount: float) -> Operations:
    one = torch.tensor([[AT[name]], [0]])
    strength = torch.tensor([[amount], [0.0]])
    return Operations(SIZE, one, strength, torch.zeros(1), torch.ones(1))


def test_masks_and_features_move_with_the_image() -> None:
    plan = shift("translate_x", 4.0)
    masks = torch.arange(2 * SIZE[0] * SIZE[1]).view(2, *SIZE)
    moved = plan.mix_masks(masks)
    assert torch.equal(moved[0, :, 4:], masks[0, :, :-4])
    assert torch.equal(moved[0, :, :4], masks[0, :, :4])  # what is filled leaves masks
    assert torch.equal(moved[1], masks[1])
    features = torch.rand(2, 5, SIZE[0] // 2, SIZE[1] // 2, generator=seeded(1))
    deep = plan.mix_features(features)
    assert torch.equal(deep[0, :, :, 2:], features[0, :, :, :-2])
    assert not deep[0, :, :, :2].any() and torch.equal(deep[1], features[1])
    # The gradient goes back to where a pixel came from.
    images = torch.rand(2, 1, *SIZE, generator=seeded(2)).requires_grad_()
    (gradient,) = torch.autograd.grad(plan.mix_images(images)[0, 0, 3, 10], images)
    assert gradient.nonzero().tolist() == [[0, 0, 3, 6]]


@pytest.mark.parametrize(
    ("name", "amount"), [("rotate", 30.0), ("shear_x", 0.4), ("shear_y", -0.4)]
)
def test_boxes_are_torchvisions(name: str, amount: float) -> None:
    boxes = torch.tensor([[8.0, 5.0, 13.0, 9.0], [0.0, 0.0, 3.0, 2.0]])
    target = {
        "boxes": tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=SIZE),  # type: ignore[call-overload]
        "labels": torch.tensor([3, 4]),
        "keypoints": torch.tensor([[[8.0, 5.0, 1.0]], [[0.0, 0.0, 0.0]]]),
    }
    given = [target, {**target}]
    turned, same = shift(name, amount).mix_boxes(given, visibility=0.0)
    if name == "rotate":
        expected: Tensor = F.rotate(target["boxes"], amount)
    else:
        angle = torch.tensor(amount).atan().rad2deg().item()
        shear = [angle, 0.0] if name == "shear_x" else [0.0, angle]
        expected = F.affine(target["boxes"], 0.0, [0, 0], 1.0, shear, center=[0, 0])
    kept = (expected[:, 2:] > expected[:, :2]).all(dim=1)
    torch.testing.assert_close(turned["boxes"].as_subclass(Tensor), expected[kept])
    assert isinstance(turned["boxes"], tv_tensors.BoundingBoxes)
    assert turned["labels"].tolist() == target["labels"][kept].tolist()
    assert torch.equal(same["boxes"], target["boxes"]) and same["weights"].tolist() == [1, 1]


def test_bad_input_is_refused_in_a_line() -> None:
    mix = augmentations.create("trivial_augment")
    images, labels = torch.rand(4, 3, 8, 8), torch.arange(4)
    for given, says in (
        (None, r"expected normalisation=, .* got None; \(0, 1\) for images from 0 to 1"),
        ((0.5,), r"normalisation: expected \(mean, std\), got \(0.5,\)"),
        ((0.5, 0), r"normalisation: expected a std above 0, got \[0.0\]"),
        ((0.5, "half"), "normalisation: expected a number as its std, .* got 'half'"),
        (([0.5, 0.5], 1), "images: expected 2 channels, as the normalisation's mean has, got 3"),
    ):
        with pytest.raises(ValueError, match=says):
            mix(images, labels, 10, normalisation=given)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rand_augment.magnitude: got 31, expected at most 30"):
        augmentations.create("rand_augment", magnitude=31)
    with pytest.raises(ValueError, match="trivial_augment needs normalisation=, the mean"):
        augmentations.SoftTargets(mix, 10)
    soften = augmentations.SoftTargets(mix, 10, normalisation=(0, 1), generator=seeded(1))
    mixed, soft = soften(images, labels)
    assert mixed.shape == images.shape and torch.equal(soft.argmax(1), labels)
