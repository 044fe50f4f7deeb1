"""What can't be mixed is refused in one line: the field, what was expected and what came."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.integrations.dropin import SoftTargets
from tests.support.given import beside
from tests.support.oracles import seeded

IMAGES, LABELS = torch.zeros(4, 3, 8, 12), torch.tensor([0, 1, 2, 3])

BOX = torch.tensor([[[1, 2, 5, 9]]]).expand(4, -1, -1)
BLEND = Blend(torch.full((4, 1, 8, 12), 0.5), torch.tensor([1, 0, 3, 2]))
PASTE = Paste((8, 12), BOX, torch.tensor([[1], [0], [3], [2]]))


def assert_refused(action: Callable[[], Any], message: str) -> None:
    """With exactly this message ("." matches no line break)."""
    with pytest.raises(ValueError, match=rf"\A{message}\Z"):
        action()


WRONG_IMAGES: list[tuple[Any, str]] = [
    (
        torch.zeros(4, 3, 8, 12, dtype=torch.uint8),
        r"images: expected \(B, C, H, W\) floating point, got \(4, 3, 8, 12\) uint8 "
        r"\(divide by 255 and normalise first\)",
    ),
    (torch.zeros(4, 3, 8, 12, dtype=torch.int64), r"images: .*, got \(4, 3, 8, 12\) int64"),
    (torch.zeros(3, 8, 12), r"images: expected \(B, C, H, W\) .*, got \(3, 8, 12\) float32"),
    ([[1.0]], r"images: expected \(B, C, H, W\) .*, got list"),
    (None, r"images: expected \(B, C, H, W\) .*, got None"),
]
WRONG_LABELS: list[tuple[Any, str]] = [
    (LABELS[:3], r"labels: expected \(4,\) int64 or \(4, 9\) floating .*, got \(3,\) int64"),
    (LABELS.float(), r"labels: expected \(4,\) int64 or .*, got \(4,\) float32"),
    (torch.zeros(4, 8), r"labels: expected .* \(4, 9\) floating point, got \(4, 8\) float32"),
    (torch.zeros(3, 9), r"labels: expected .* \(4, 9\) floating point, got \(3, 9\) float32"),
    ([0, 1, 2, 3], r"labels: expected \(4,\) int64 or .*, got list"),
    (
        torch.tensor([0, 1, 2, 9]),
        r"labels: expected classes from 0 to 8, or -100 \(ignored\), got values from 0 to 9",
    ),
    (torch.tensor([0, 1, 2, -7]), r"labels: expected classes .* got values from -7 to 2"),
    (LABELS.to("meta"), r"labels: expected them on cpu, where the plan is, got meta"),
]


@pytest.mark.parametrize("name", augmentations.available())
def test_images_and_labels(name: str) -> None:
    mix = augmentations.create(name)
    given = beside(mix, IMAGES)
    for images, message in WRONG_IMAGES:
        assert_refused(partial(mix, images, LABELS, 4), message)
    for labels, message in WRONG_LABELS:
        assert_refused(partial(mix, IMAGES, labels, 9, **given), message)


@pytest.mark.parametrize("plan", [BLEND, PASTE], ids=["blend", "paste"])
@pytest.mark.parametrize(
    ("apply", "given", "message"),
    [
        ("mix_images", IMAGES[:3], r"images: expected \(4, C, 8, 12\) .*, got \(3, 3, 8, 12\) .*"),
        ("mix_images", IMAGES.mT, r"images: expected \(4, C, 8, 12\) .*, got \(4, 3, 12, 8\) .*"),
        ("mix_images", IMAGES.to("meta"), "images: expected them on cpu, where .*, got meta"),
        ("mix_masks", IMAGES[:3], r"masks: expected \(4, H, W\) or .*, got \(3, 3, 8, 12\) .*"),
        ("mix_masks", LABELS, r"masks: expected \(4, H, W\) or \(4, C, H, W\), got \(4,\) int64"),
        ("mix_masks", "mask", r"masks: expected \(4, H, W\) or \(4, C, H, W\), got str"),
        ("mix_masks", IMAGES.to("meta"), "masks: expected them on cpu, where .*, got meta"),
        ("mix_features", IMAGES[:3], r"features: expected \(4, D\) or \(4, ..., h, w\) .* \(3, .*"),
        ("mix_features", IMAGES.long(), r"features: expected .* floating point, got .* int64"),
        ("mix_features", LABELS.float(), r"features: expected .*, got \(4,\) float32"),
        ("mix_features", IMAGES.to("meta"), "features: expected them on cpu, .*, got meta"),
        ("mix_labels", LABELS[:2], r"labels: expected \(4,\) int64 or .*, got \(2,\) int64"),
        ("mix_labels", LABELS.to("meta"), "labels: expected them on cpu, where .*, got meta"),
    ],
)
def test_a_plan_takes_what_it_was_drawn_for(
    plan: Any, apply: str, given: Any, message: str
) -> None:
    assert_refused(lambda: getattr(plan, apply)(given), message)


@pytest.mark.parametrize(
    ("keep", "got"),
    [
        (torch.tensor([0.5, torch.nan, 1.0, 0.0]), "NaN"),
        (torch.tensor([0.5, 1.25, 1.0, 0.0]), "values from 0 to 1.25"),
        (torch.tensor([0.5, -0.5, 1.0, 0.0]), "values from -0.5 to 1"),
        (torch.tensor([0.5, torch.inf, 1.0, 0.0]), "values from 0 to inf"),
    ],
)
@pytest.mark.parametrize("spatial", [False, True])
def test_a_strength_that_is_no_weight(keep: Tensor, got: str, spatial: bool) -> None:
    keep = keep.view(4, 1, 1, 1)
    plan = Blend(keep.expand(-1, -1, 8, 12) if spatial else keep, torch.tensor([1, 0, 3, 2]))
    message = rf"(keep|weights): expected weights from 0 to 1, got {re.escape(got)}"
    assert_refused(lambda: plan.mix_images(IMAGES), message)
    if "1.25" not in got and "-0.5" not in got:
        assert_refused(lambda: plan.mix_labels(LABELS), r"weights: expected weights from 0 to 1.*")
    assert_refused(lambda: plan.mix_masks(LABELS.view(4, 1, 1).expand(-1, 8, 12)), message)
    assert_refused(lambda: plan.mix_features(IMAGES), message)
    boxes = [{"boxes": torch.zeros(1, 4), "labels": torch.zeros(1)}] * 4
    assert_refused(lambda: plan.mix_boxes(boxes), message)
    assert_refused(plan.check_fields, "keep: expected values from 0 to 1, got .*")


def test_vectors_are_not_mixed_with_weights_that_are_none() -> None:
    plan = Blend(torch.full((4, 1, 1, 1), torch.nan), torch.tensor([1, 0, 3, 2]))
    assert_refused(lambda: plan.mix_features(IMAGES.flatten(1)), "weights: expected .* got NaN")


@pytest.mark.parametrize("wrong", [0, -3, "4", 4.0])
def test_a_number_of_classes_that_is_none(wrong: Any) -> None:
    message = f"num_classes: expected a whole number at least 1, got {wrong!r}"
    mix = augmentations.create("mixup")
    assert_refused(lambda: mix(IMAGES, LABELS, wrong), message)
    assert_refused(lambda: SoftTargets(mix, wrong), message)


def test_a_generator_that_is_none() -> None:
    mix: Any = augmentations.create("mixup")
    message = "generator: expected a torch.Generator or None, got int"
    assert_refused(lambda: mix(IMAGES, LABELS, 4, generator=0), message)


def test_declared_weights_that_are_none() -> None:
    for wrong in (torch.nan, 1.5, -0.5):
        weights = torch.tensor([[0.5, 0.5]] * 3 + [[wrong, 1 - wrong]])
        plan = Blend(BLEND.keep, BLEND.partner, weights=weights)
        assert_refused(lambda plan=plan: plan.mix_labels(LABELS), "weights: expected weights .*")  # type: ignore[misc]


def test_values_are_read_on_the_cpu_only() -> None:
    """Elsewhere the host would wait; on a device without values reading would raise."""
    plan = Blend(torch.full((4, 1, 1, 1), 0.5, device="meta"), LABELS.to("meta"))
    assert plan.mix_images(IMAGES.to("meta")).shape == IMAGES.shape
    targets = plan.mix_labels(LABELS.to("meta"), num_classes=9)
    assert targets.cross_entropy(torch.zeros(4, 9, device="meta")).shape == ()
    boxed = Paste((8, 12), BOX.to("meta"), torch.zeros(4, 1, dtype=torch.int64, device="meta"))
    assert boxed.mix_labels(LABELS.to("meta"), num_classes=9).weights.shape == (4, 2)
    for given in (plan, boxed):
        assert all(value.shape == () for value in given.statistics().values())


@pytest.mark.parametrize("name", augmentations.available())
def test_a_shape_that_is_no_batch(name: str) -> None:
    for shape in ((4, 3, 8), (4, 3, 8, 0), (0, 3, 8, 8)):
        assert_refused(
            lambda shape=shape: augmentations.create(name).sample(shape),  # type: ignore[misc]
            r"expected a shape \(B, C, H, W\), all at least 1, got \(.*\)",
        )


def test_a_generator_of_another_device() -> None:
    mix = augmentations.create("cutmix")
    assert_refused(
        lambda: mix.sample((4, 3, 8, 8), device="cuda", generator=seeded(0)),
        "generator: expected one on cuda, as the plan, got cpu",
    )


def test_a_mask_size_that_is_not_the_images() -> None:
    plan = Blend(torch.ones(4, 1, 8, 8), torch.arange(4))
    assert_refused(
        lambda: plan.mix_images(IMAGES),
        r"images: expected \(4, C, 8, 8\) floating point, got \(4, 3, 8, 12\) float32",
    )


@pytest.mark.parametrize("rows", [1, 3])
def test_rectangles_beyond_the_image_are_no_label_weights(rows: int) -> None:
    target = torch.tensor([[[0, 0, 9, 8]]]).expand(rows, -1, -1)
    partner = torch.tensor([[1], [2], [0]])
    plan = Paste((6, 7), target.clone() if rows > 1 else target, partner).expand(3)
    with pytest.raises(ValueError, match=r"(target|weights): expected"):
        plan.mix_labels(torch.arange(3))
