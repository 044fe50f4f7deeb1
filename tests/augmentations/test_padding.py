"""Images of different sizes, padded with their masks and targets so that a plan can mix them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import tv_tensors

import mixbench

SIZES = [(4, 6), (7, 3)]
IMAGES = [torch.rand(3, *size, generator=torch.Generator().manual_seed(0)) for size in SIZES]


def test_images_and_what_lies_in_them_stay_in_the_upper_left_corner() -> None:
    masks = [torch.full(size, 2, dtype=torch.uint8) for size in SIZES]
    targets = [
        {
            "boxes": tv_tensors.BoundingBoxes(
                torch.tensor([[0.0, 1.0, 3.0, 4.0]]), format="XYXY", canvas_size=size
            ),
            "labels": torch.tensor([n]),
            "masks": torch.ones(1, *size, dtype=torch.bool),
            "keypoints": torch.tensor([[[1.0, 2.0, 1.0]]]),
            "path": f"{n}.jpg",
        }
        for n, size in enumerate(SIZES)
    ]
    padded = mixbench.pad_images(IMAGES, masks=masks, targets=targets, fill=-1.0, multiple=4)
    assert padded.images.shape == (2, 3, 8, 8) and padded.sizes.tolist() == [[4, 6], [7, 3]]
    assert isinstance(padded.masks, Tensor) and padded.targets is not None
    inside = padded.inside()
    for n, (height, width) in enumerate(SIZES):
        assert torch.equal(padded.images[n, :, :height, :width], IMAGES[n])
        assert inside[n].sum() == height * width and inside[n, :height, :width].all()
        assert (padded.images[n].masked_select(~inside[n]) == -1).all()
        assert torch.equal(padded.masks[n] == 255, ~inside[n])
        target = padded.targets[n]
        assert torch.equal(target["masks"][0], inside[n])
        assert target["boxes"].canvas_size == (8, 8)
        assert target["boxes"].tolist() == [[0.0, 1.0, 3.0, 4.0]]
        assert targets[n]["boxes"].canvas_size == SIZES[n]  # what was given is as it was
        assert (target["path"], target["labels"].item()) == (f"{n}.jpg", n)
    batch = mixbench.create("cutmix", pairing="roll")(padded.images, torch.tensor([0, 1]), 2)
    assert len(batch.plan.mix_boxes(padded.targets)) == 2
    assert batch.plan.mix_dense(padded.masks).labels.shape == (2, 1, 8, 8)
    assert mixbench.pad_images(IMAGES, size=(9, 6)).images.shape == (2, 3, 9, 6)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"images": []}, "images: expected a list of at least one image, got list"),
    ({"images": [IMAGES[0], torch.zeros(1, 4, 4)]}, "image 1: expected 3 channels of"),
    ({"images": [torch.zeros(3, 4, 4).byte()]}, "image 0: expected (C, h, w) floating point"),
    ({"size": (5, 9)}, "size: expected at least 7 x 6, for image 1 and all others, got 5 x 9"),
    ({"multiple": 0}, "multiple: expected a whole number at least 1, got 0"),
    ({"masks": [torch.zeros(4, 6).long()]}, "masks: expected 2, one per image, got 1"),
    ({"masks": [torch.zeros(4, 4).long()] * 2}, "mask 0: expected (4, 6) of classes, as its"),
    (
        {"masks": [torch.zeros(size).byte() for size in SIZES], "ignore_index": -1},
        "ignore_index: expected a number that masks of torch.uint8 can hold, got -1",
    ),
    (
        {"targets": [{"masks": torch.zeros(1, 4, 4)}] * 2},
        "masks of target 0: expected (N, 4, 6), as its image, got (1, 4, 4) float32",
    ),
    (
        {
            "targets": [
                {"points": tv_tensors.KeyPoints(torch.zeros(1, 2), canvas_size=(9, 9))},
                {},
            ]
        },
        "points of target 0: expected them for an image of 4 x 6, got 9 x 9",
    ),
]


@pytest.mark.parametrize(("changed", "message"), WRONG)
def test_what_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        mixbench.pad_images(**{"images": IMAGES, **changed})
    assert "\n" not in str(caught.value)
