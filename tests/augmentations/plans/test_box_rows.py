"""What goes along with boxes: formats, types, rows per box; and targets that are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from mixbench import augmentations
from mixbench.augmentations import Blend, Paste
from mixbench.augmentations.plans.at_depth import AtDepth
from mixbench.augmentations.plans.base import Plan
from mixbench.augmentations.plans.composite import chain, select
from tests.support.given import all_needed
from tests.support.oracles import DEVICES, seeded

Target = dict[str, Any]
ROTATED = tv_tensors.BoundingBoxes(torch.ones(1, 5), format="CXCYWHR", canvas_size=(8, 8))
LABEL = torch.zeros(1, dtype=torch.int64)


def one(box: list[float], label: int = 0, **more: Tensor) -> Target:
    return {"boxes": torch.tensor([box]), "labels": torch.tensor([label]), **more}


def cutmix_plan() -> Paste:
    return Paste((8, 8), torch.tensor([[[0, 0, 8, 4]], [[0, 0, 8, 4]]]), torch.tensor([[1], [0]]))


def test_other_tensors_go_with_their_boxes_and_the_rest_stays() -> None:
    targets: list[Target] = [
        {
            "boxes": torch.tensor([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 8.0, 8.0]]),
            "labels": torch.tensor([1, 2]),
            "weights": torch.tensor([0.5, 0.25]),
            "iscrowd": torch.tensor([True, False]),
            "image_id": torch.tensor([7]),
            "path": "first.jpg",
        },
        {
            "boxes": torch.tensor([[1.0, 1.0, 3.0, 3.0]]),
            "labels": torch.tensor([3]),
            "iscrowd": torch.tensor([True]),
            "image_id": torch.tensor([8]),
            "path": "second.jpg",
        },
    ]
    before = [{k: v.clone() if isinstance(v, Tensor) else v for k, v in t.items()} for t in targets]
    first, second = cutmix_plan().mix_boxes(targets)
    assert first["labels"].tolist() == [2, 3]
    assert first["weights"].tolist() == [0.25, 1.0]
    assert first["iscrowd"].tolist() == [False, True]
    assert (first["image_id"].tolist(), first["path"]) == ([7], "first.jpg")
    assert second["labels"].tolist() == [1]
    assert second["weights"].tolist() == [0.5]
    assert (second["image_id"].tolist(), second["path"]) == ([8], "second.jpg")
    for target, old in zip(targets, before, strict=True):
        assert target.keys() == old.keys()
        assert all(
            torch.equal(target[k], v) if isinstance(v, Tensor) else target[k] == v
            for k, v in old.items()
        )


@pytest.mark.parametrize("per_sample", [False, True], ids=["batch", "per_sample"])
@pytest.mark.parametrize("name", augmentations.available())
def test_a_sample_that_is_not_mixed_keeps_its_boxes_bit_for_bit(
    name: str, per_sample: bool
) -> None:
    corners = torch.rand(4, 3, 2, generator=seeded(1)) * torch.tensor([31.0, 23.0])
    targets: list[Target] = [
        {"boxes": torch.cat([corner, corner + 0.7], dim=1), "labels": torch.arange(3)}
        for corner in corners
    ]
    # Also what a plan would clip or could not weigh: over the border, outside, without area.
    strange = torch.tensor([[-3.0, -2, 9, 30], [40, 2, 50, 9], [5, 5, 5, 9]])
    targets.append({"boxes": strange, "labels": torch.arange(3)})
    images = torch.rand(5, 3, 24, 32, generator=seeded(0))
    mix = augmentations.create(name, prob=0.0, per_sample=per_sample)
    plan: Plan = mix.sample(images.shape, generator=seeded(2), **all_needed(mix, images))
    for found, given in zip(plan.mix_boxes(targets, visibility=1.0), targets, strict=True):
        assert torch.equal(found["boxes"], given["boxes"])
        assert torch.equal(found["labels"], given["labels"])
        assert found["weights"].tolist() == [1.0] * 3


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
def test_boxes_keep_their_kind_and_images_without_boxes_are_no_exception(
    dtype: torch.dtype, device: str
) -> None:
    empty = {
        "boxes": torch.zeros(0, 4, dtype=dtype, device=device),
        "labels": torch.zeros(0, dtype=torch.int64, device=device),
    }
    full = {
        "boxes": torch.tensor([[1.5, 1.0, 3.0, 3.0]], dtype=dtype, device=device),
        "labels": torch.tensor([3], device=device),
    }
    generator = seeded(0, device)
    for name in ("none", "cutmix", "mixup", "fmix", "ricap"):
        mix = augmentations.create(name, per_sample=True)
        plan = mix.sample((3, 1, 8, 8), device=device, generator=generator)
        for targets in ([empty] * 3, [full, empty, empty], [full] * 3):
            for found in plan.mix_boxes(targets):
                assert found["boxes"].dtype == dtype
                assert found["boxes"].shape == (len(found["labels"]), 4)
                assert found["weights"].dtype == torch.float32
                assert found["weights"].shape == found["labels"].shape


def typed(boxes: Tensor, kind: str, size: tuple[int, int] = (8, 8)) -> Tensor:
    """Boxes (x1, y1, x2, y2) as torchvision's, in another format."""
    xyxy = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=size)
    return F.convert_bounding_box_format(xyxy, new_format=kind)


def test_the_format_of_torchvisions_boxes_is_read_and_returned() -> None:
    first = torch.tensor([[1.0, 1.0, 3.0, 3.0], [3.0, 2.0, 8.0, 6.0]])
    second = torch.tensor([[1.0, 2.0, 6.0, 7.0]])
    labels = torch.tensor([1, 2]), torch.tensor([3])
    expected = [[[4.0, 2.0, 8.0, 6.0], [1.0, 2.0, 4.0, 7.0]], [[1.0, 1.0, 3.0, 3.0]]]
    # Each target keeps its own format, whatever its partner has.
    for kinds in (["XYXY"] * 2, ["XYWH"] * 2, ["CXCYWH"] * 2, ["XYWH", "CXCYWH"], ["XYXY", "XYWH"]):
        boxes = [typed(b, kind) for b, kind in zip((first, second), kinds, strict=True)]
        targets = [{"boxes": b, "labels": n} for b, n in zip(boxes, labels, strict=True)]
        mixed = cutmix_plan().mix_boxes(targets, visibility=0.5)
        for target, kind, wanted in zip(mixed, kinds, expected, strict=True):
            found = target["boxes"]
            assert isinstance(found, tv_tensors.BoundingBoxes)
            assert (found.format.value, found.canvas_size) == (kind, (8, 8))
            xyxy = F.convert_bounding_box_format(found, new_format="XYXY")
            assert xyxy.as_subclass(Tensor).tolist() == wanted
    # Sides that no sum of float32 keeps: what is not touched is returned bit for bit.
    odd = tv_tensors.BoundingBoxes(
        torch.tensor([[5.1, 0.3, 2.7, 1.1]]), format="XYWH", canvas_size=(8, 8)
    )
    kept, _ = cutmix_plan().mix_boxes([{"boxes": odd, "labels": labels[1]}] * 2)
    assert torch.equal(kept["boxes"][0].as_subclass(Tensor), odd[0].as_subclass(Tensor))


def test_a_flip_after_mixing_flips_boxes_masks_and_images() -> None:
    """torchvision's next transform knows what it got."""
    boxes = typed(torch.tensor([[4.0, 1.0, 7.0, 3.0]]), "XYWH")
    points = tv_tensors.KeyPoints(torch.tensor([[[5.0, 2.0]]]), canvas_size=(8, 8))
    masks = tv_tensors.Mask(torch.ones(1, 8, 8, dtype=torch.uint8))
    target = {"boxes": boxes, "labels": torch.tensor([1]), "masks": masks, "keypoints": points}
    images = tv_tensors.Image(torch.rand(2, 3, 8, 8))
    segments = tv_tensors.Mask(torch.arange(8).expand(2, 8, 8).clone())
    plan = cutmix_plan()
    chained = chain([plan, AtDepth(plan, 1), select(torch.tensor([0, 1]), [plan, plan])])
    for one in (plan, Blend(torch.ones(2, 1, 1, 1)), chained):
        assert type(one.mix_images(images)) is tv_tensors.Image
        assert type(one.mix_masks(segments)) is tv_tensors.Mask
        assert type(one.mix_images(images.as_subclass(Tensor))) is Tensor
    for name in ("resizemix", "cutmix", "fmix"):
        batch = augmentations.create(name)(images, torch.tensor([0, 1]), 2)
        assert type(batch.images) is tv_tensors.Image
    mixed = plan.mix_boxes([target, target])[0]
    assert [type(mixed[key]) for key in target] == [type(value) for value in target.values()]
    flipped = v2.RandomHorizontalFlip(1.0)(mixed)
    xyxy = F.convert_bounding_box_format(flipped["boxes"], new_format="XYXY")
    assert xyxy.as_subclass(Tensor).tolist() == [[1.0, 1.0, 4.0, 3.0]]
    assert flipped["masks"].as_subclass(Tensor)[0, 2].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_said_of_an_image_stays_with_it(rows: int) -> None:
    """Whatever its shape: an image_id in a batch of one box each, a size of two numbers, of two."""
    plan = Paste((8, 8), torch.tensor([[[0, 0, 8, 4]]] * 4), torch.tensor([[1], [2], [3], [0]]))
    targets = [
        {
            "boxes": torch.tensor([[0.0, 0.0, 8.0, 8.0]] * rows),
            "labels": torch.full((rows,), n),
            "image_id": torch.tensor([n]),
            "orig_size": torch.tensor([480 + n, 640 + n]),
            "path": f"{n}.jpg",
            "embedding": torch.full((rows, 3), float(n)),
        }
        for n in range(4)
    ]
    for n, target in enumerate(plan.mix_boxes(targets)):
        assert target["labels"].tolist() == [n] * rows + [(n + 1) % 4] * rows
        for key in ("image_id", "orig_size", "path", "embedding"):
            assert target[key] is targets[n][key]
    named = plan.mix_boxes(targets, per_box=("embedding",))
    assert named[3]["embedding"][:, 0].tolist() == [3.0] * rows + [0.0] * rows


def test_areas_masks_and_points_follow_their_boxes() -> None:
    """The partner's right half moves to the left, the sample's own left half is covered."""
    plan = Paste(
        (8, 8),
        torch.tensor([[[0, 0, 8, 4]], [[0, 0, 0, 0]]]),
        torch.tensor([[1], [1]]),
        torch.tensor([[[0, 4, 8, 8]], [[0, 0, 0, 0]]]),
    )
    masks = torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 2:6, 2:8] = True
    masks[0, 2, 6] = False
    target = {
        "boxes": torch.tensor([[2.0, 2.0, 8.0, 6.0]]),
        "labels": torch.tensor([4]),
        "area": torch.tensor([24.0]),
        "masks": masks,
        "keypoints": torch.tensor([[[3.0, 3.0, 2.0], [6.0, 5.0, 1.0]]]),
        "names": ["cat"],
    }
    first, second = plan.mix_boxes([target, {**target, "names": ["dog"]}], per_box=["names"])
    assert first["boxes"].tolist() == [[4.0, 2.0, 8.0, 6.0], [0.0, 2.0, 4.0, 6.0]]
    assert first["area"].tolist() == [15.0, 15.0]
    assert first["names"] == ["cat", "dog"]
    own, brought = torch.zeros(2, 8, 8, dtype=torch.bool)
    own[2:6, 4:8] = brought[2:6, 0:4] = True
    own[2, 6] = brought[2, 2] = False
    assert torch.equal(first["masks"], torch.stack([own, brought]))
    assert first["keypoints"].tolist() == [
        [[0.0, 0.0, 0.0], [6.0, 5.0, 1.0]],
        [[0.0, 0.0, 0.0], [2.0, 5.0, 1.0]],
    ]
    for key, value in target.items():
        assert second[key] == ["dog"] if key == "names" else torch.equal(second[key], value)
    # Twice as large: four times the area, points and masks with it.
    twice = Paste(
        (8, 8),
        torch.tensor([[[0, 0, 8, 8]]] * 2),
        torch.tensor([[1], [0]]),
        torch.tensor([[[2, 4, 6, 8]]] * 2),
        resize=True,
    )
    large = {**target, "area": torch.tensor([24]), "names": []}
    first, _ = twice.mix_boxes([large, large])
    assert (first["boxes"].tolist(), first["area"].tolist()) == ([[0.0, 0.0, 8.0, 8.0]], [60])
    assert first["keypoints"].tolist() == [[[0.0, 0.0, 0.0], [4.0, 6.0, 1.0]]]
    assert (~first["masks"]).nonzero()[:, 1:].tolist() == [[0, 4], [0, 5], [1, 4], [1, 5]]


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([one([0.0, 0.0, 1.0, 1.0])], "targets: expected 2, one per sample, got 1"),
        ([torch.zeros(1, 4)] * 2, r"target 0: expected a mapping with boxes and labels, got \(1"),
        ([{"boxes": torch.zeros(0, 4)}] * 2, r"target 0: expected a mapping .* got \['boxes'\]"),
        ([{"boxes": torch.zeros(1, 5), "labels": torch.zeros(1)}] * 2, "boxes of target 0: .* 5"),
        (
            [{"boxes": torch.zeros(1, 4).long(), "labels": torch.zeros(1)}] * 2,
            r"boxes of target 0: expected \(N, 4\) floating point, got \(1, 4\) int64",
        ),
        (
            [one([0.0, 0.0, 1.0, 1.0]), {"boxes": torch.zeros(1, 4), "labels": torch.zeros(2)}],
            r"labels of target 1: expected \(1,\), one per box, got \(2,\)",
        ),
        ([one([0.0, 0.0, 1.0, 1.0], weights=torch.ones(3))] * 2, "weights of target 0: expected"),
        (
            [one([0.0, 0.0, 1.0, 1.0]), one([0.0, 0.0, 1.0, 1.0], area=torch.ones(1))],
            r"targets: expected the same keys in all, got \['boxes', 'labels'\] and",
        ),
        (
            [one([0.0, 0.0, 1.0, 1.0]), one([4.0, 4.0, 2.0, 6.0])],
            r"boxes: expected x1 <= x2 and y1 <= y2, .* got XYXY \[4, 4, 2, 6\] in target 1",
        ),
        ([one([0.0, 0.0, float("inf"), 6.0])] * 2, "boxes: expected .* finite, got XYXY .*inf"),
        (
            [{"boxes": typed(torch.tensor([[4.0, 4, 2, 6]]), "XYWH"), "labels": LABEL}] * 2,
            r"boxes: expected x1 <= x2 and y1 <= y2, .* got XYWH \[4, 4, -2, 2\]",
        ),
        (
            [{"boxes": ROTATED, "labels": LABEL}] * 2,
            r"boxes of target 0: expected the format XYXY, XYWH or CXCYWH, got CXCYWHR \(rotated",
        ),
        (
            [{"boxes": typed(torch.ones(1, 4), "XYXY", (8, s)), "labels": LABEL} for s in (8, 9)],
            r"boxes of target 1: expected them for images of 8 x 8 .*, got 8 x 9",
        ),
        (
            [one([0.0, 0.0, 1.0, 1.0], area=torch.ones(2))] * 2,
            r"area of target 0: expected a tensor or list with 1 rows, one per box, got \(2,\)",
        ),
        (
            [one([0.0, 0.0, 1.0, 1.0], iscrowd=torch.tensor(0))] * 2,
            r"iscrowd of target 0: expected a tensor or list with 1 rows",
        ),
        ([one([0.0, 0.0, 1.0, 1.0], masks=torch.ones(1, 4))] * 2, r"masks .* \(1, H, W\), got"),
        ([one([0.0, 0.0, 1.0, 1.0], keypoints=torch.ones(1, 4))] * 2, r"keypoints .*\(1, K, 3\)"),
        ([one([0.0, 0.0, float("nan"), 6.0])] * 2, "boxes: expected x1 <= x2 and y1 <= y2"),
        (
            [{"boxes": torch.zeros(1, 4, device="meta"), "labels": torch.zeros(1)}] * 2,
            "boxes of target 0: expected them on cpu, where the plan is, got meta",
        ),
    ],
)
def test_targets_of_another_kind_are_named(targets: Any, message: str) -> None:
    for plan in (cutmix_plan(), Blend(torch.ones(2, 1, 1, 1), torch.tensor([1, 0]))):
        with pytest.raises(ValueError, match=message) as caught:
            plan.mix_boxes(targets)
        assert "\n" not in str(caught.value)


def test_a_wrong_key_per_box_is_named() -> None:
    targets = [one([0.0, 0.0, 1.0, 1.0], scores=torch.ones(1), size=torch.ones(2))] * 2
    for wrong, message in (
        (["score"], "per_box: no target has the key 'score'; did you mean 'scores'"),
        ("scores", r"per_box: expected names of keys, such as \['scores'\], got 'scores'"),
        (["size"], r"size of target 0: expected .* 1 rows, one per box, got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            cutmix_plan().mix_boxes(targets, per_box=wrong)
    mixed = [{**targets[0], "scores": ["good"]}, targets[0]]
    with pytest.raises(ValueError, match="scores of target 1: expected a list, as target 0 has"):
        cutmix_plan().mix_boxes(mixed, per_box=["scores"])
    with pytest.raises(ValueError, match=r"masks of target 0: expected them .* 8 x 8 .* got 4 x 5"):
        cutmix_plan().mix_boxes([one([0.0, 0.0, 1.0, 1.0], masks=torch.ones(1, 4, 5))] * 2)


def test_a_visibility_that_is_no_share_is_named() -> None:
    wrong: Any
    for wrong in (-0.1, 1.5, float("nan"), "half", None):
        with pytest.raises(ValueError, match=r"visibility: expected a number from 0 to 1, got"):
            cutmix_plan().mix_boxes([one([0.0, 0.0, 1.0, 1.0])] * 2, visibility=wrong)
