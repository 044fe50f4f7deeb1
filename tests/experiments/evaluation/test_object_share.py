"""Object share: boxes and labels worked out by hand, and networks of which all is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import mixbench
from mixbench.experiments.config import resolve
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.errors import Impossible, UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.object_share import ObjectShareSettings
from mixbench.experiments.evaluation.object_share import measure as object_share
from mixbench.experiments.evaluation.object_share.framing import framed, windows
from mixbench.experiments.evaluation.object_share.labels import errors_of, label_errors
from tests.support import planted


def rectangle(top: int, left: int, bottom: int, right: int, side: int = 16) -> Tensor:
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_the_largest_window_by_hand() -> None:
    # 8 x 6 in one corner: all of a window of 6 x 6, whose middle is that of the object.
    corner = rectangle(0, 0, 8, 6)
    boxes, filled = windows(corner.unsqueeze(0), 1.0)
    assert boxes.tolist() == [[1, 0, 6, 6]] and filled.tolist() == [1.0]
    # Half of it: 48 pixels of at most 96: a side of 9.
    boxes, filled = windows(corner.unsqueeze(0), 0.5)
    assert boxes[0, 2:].tolist() == [9, 9] and filled.item() == pytest.approx(48 / 81)
    # Three wide is less than a quarter of the side: none. A quarter is enough.
    both = torch.stack([rectangle(0, 0, 16, 3), rectangle(5, 0, 9, 16)])
    boxes, _ = windows(both, 1.0)
    assert boxes.tolist() == [[0, 0, 0, 0], [5, 6, 4, 4]]


def test_windows_are_those_of_a_search() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(6, 12, 12, generator=generator) > 0.35
    for share in (0.7, 0.8):
        boxes, filled = windows(masks, share)
        for mask, (top, left, rows, columns), part in zip(
            masks, boxes.tolist(), filled.tolist(), strict=True
        ):
            shares = {
                side: max(
                    mask[y : y + side, x : x + side].float().mean().item()
                    for y in range(13 - side)
                    for x in range(13 - side)
                )
                for side in range(3, 13)
            }
            fitting = [side for side, most in shares.items() if most >= share - 1e-6]
            assert rows == columns == max(fitting, default=0)
            if rows:
                inside = mask[top : top + rows, left : left + columns].float().mean().item()
                assert part == pytest.approx(inside) and part >= share - 1e-6


def test_objects_get_the_share_that_was_asked_for() -> None:
    # A square of 8 x 8 fills a quarter of 16 x 16.
    image = rectangle(2, 4, 10, 12).float().view(1, 1, 16, 16)
    images = torch.cat([image, 0 * image, rectangle(0, 0, 16, 2).float().view(1, 1, 16, 16)])
    whole, realised, possible = framed(images, 1.0)
    assert possible.tolist() == [True, False, False]
    assert (whole[0] == 1).all() and realised[0] == 1
    # As it is: not a pixel changes.
    same, realised, possible = framed(images, 0.25)
    assert torch.equal(same[0], images[0]) and possible.tolist() == [True, False, True]
    # A sixteenth: all of it at half the size, in the middle of black.
    small, realised, possible = framed(images, 1 / 16)
    assert possible.tolist() == [True, False, True] and realised[0] == pytest.approx(1 / 16)
    assert small[0].sum() == pytest.approx(16.0, rel=0.01) and (small[0, 0, :4] == 0).all()
    # Real ones: what is counted on the image that comes out is what was asked for.
    # In black and white, because interpolated borders are half bright.
    digits = (torch.nn.functional.interpolate(blobs(), (28, 28)) > 0).float()
    for share in (0.2, 0.5, 0.8):
        made, realised, possible = framed(digits, share)
        counted = (made > 0.5).any(dim=1).float().mean(dim=(1, 2))
        # A window of whole pixels shows a little more.
        assert possible.all() and (realised - share).abs().max() < 0.12
        assert realised == pytest.approx(counted, abs=0.05)


def blobs(count: int = 12) -> Tensor:
    """Filled circles of different sizes and brightness, none in the same place."""
    down, right = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    images = []
    for number in range(count):
        middle = (12 + number % 4, 13 + number % 3)
        distance = ((down - middle[0]) ** 2 + (right - middle[1]) ** 2).sqrt()
        images.append((distance < 6 + number / 2).float() * (0.4 + number / 30))
    return torch.stack(images).unsqueeze(1)


def test_label_errors_by_hand() -> None:
    # 4 x 4. The left half of the first is the second's: labels a half each.
    left = torch.tensor([[[0, 0, 4, 2]]]).expand(3, -1, -1)
    plan = mixbench.Paste((4, 4), left, partner=torch.tensor([[1], [2], [2]]))
    masks = torch.stack(
        [
            rectangle(0, 1, 4, 4, side=4),  # 12 pixels, 8 of them in the right half
            rectangle(0, 0, 2, 4, side=4),  # 4 in each half
            rectangle(0, 2, 4, 4, side=4),  # none in the left half
        ]
    )
    errors, ghosts, is_mixed = label_errors(plan, masks)
    # Seen of the first image: 8 of its own and 4 of the second's, 2/3 in place of 1/2. Of the
    # second: 4 and nothing, 1 in place of 1/2. Of the third, its own partner: all is its own.
    assert errors.tolist() == pytest.approx([1 / 6, 1 / 2, 0])
    assert ghosts.tolist() == [False, True, False] and is_mixed.tolist() == [True, True, False]
    # A blend shows all of both objects: 12 and 8 pixels at a half each.
    blend = mixbench.Blend(torch.full((3, 1, 1, 1), 0.5), partner=torch.tensor([1, 0, 2]))
    errors, ghosts, _ = label_errors(blend, masks)
    assert errors.tolist() == pytest.approx([0.1, 0.1, 0]) and not ghosts.any()
    # Nothing is seen of either: no error that could be told, and a ghost.
    errors, ghosts, is_mixed = label_errors(plan, torch.zeros_like(masks))
    assert errors.isnan().all() and ghosts.all() and is_mixed.tolist() == [True, True, False]


def test_label_errors_of_methods() -> None:
    images = (blobs(40) * 255).to(torch.uint8)
    subject = planted.subject(nn.Identity(), images, torch.arange(40) % 10)
    split = subject.split("train")

    def measured(name: str, **values: Any) -> tuple[float | None, float | None]:
        return errors_of(mixbench.create(name, **values), split, subject.normalised, 80, 0)

    assert measured("none") == (None, None)
    error, ghosts = measured("cutmix", prob=0.2)
    assert error is not None and ghosts is not None and 0 < error < 0.5 and ghosts < 0.5
    # Its probability is not what is measured, nor is the batch.
    assert measured("cutmix") == (error, ghosts)
    # Labels are not mixed.
    assert measured("cutout", size=10) == (None, None)


class Bright(nn.Module):
    """Class 1 where more than `share` of the pixels are above 0."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, images: Tensor) -> Tensor:
        score = (images > 0).float().mean(dim=(1, 2, 3)) - self.share
        return torch.stack([-score, score], dim=1)


def test_one_that_needs_a_large_object(monkeypatch: pytest.MonkeyPatch) -> None:
    images = (blobs(30).clamp(max=1) * 255).to(torch.uint8)
    images[0] = 0
    found = [
        object_share.measure(
            planted.subject(Bright(0.6), images, torch.ones(30).long(), batch_size=size),
            ObjectShareSettings.model_validate({"shares": [0.8, 0.3], "pairs": 30, "images": 25}),
        )
        for size in (7, 64)
    ]
    assert found[0].metrics == found[1].metrics and found[0].curves == found[1].curves
    metrics, curves = found[0].metrics, found[0].curves
    assert metrics["object_share/0.3"] == 0 and metrics["object_share/0.8"] == 1
    assert metrics["object_share/label_error"] is None
    assert curves["share"] == [0.3, 0.8] and curves["realised"] == pytest.approx(
        curves["share"], abs=0.05
    )
    # One without an object is left out, if it is among the 25.
    assert curves["images"] + sum(curves["left_out"].values()) == 25
    assert set(curves["left_out"]) <= {"b"}


def test_halves_are_within_classes() -> None:
    # Class 0 is small, class 1 large: only within each does the size decide.
    own = np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    hits = np.array([True, False, False, True, True, True])
    found = object_share.halves(own, hits, np.array([0, 0, 0, 1, 1, 1]))
    assert found == {
        "object_share/own/larger": 0.5,
        "object_share/own/smaller": 1.0,
        "object_share/own/difference": -0.5,
    }
    alike = object_share.halves(np.ones(3), np.ones(3, bool), np.zeros(3, np.int64))
    assert set(alike.values()) == {None}


def test_images_without_a_black_background(digits_subject: Subject) -> None:
    labels = torch.arange(20) % 10
    bright = torch.full((20, 1, 8, 8), 9, dtype=torch.uint8)
    subject = planted.subject(Bright(0.5), bright, labels)
    with pytest.raises(Impossible, match="background is exactly black"):
        object_share.measure(subject, ObjectShareSettings())
    run = resolve.parse({"dataset": {"name": "cifar10"}})
    impossible = catalogue.implementation("object_share").prepare
    with pytest.raises(Impossible, match="got cifar10"):
        impossible(ObjectShareSettings(), run.dataset)
    impossible(ObjectShareSettings(), DatasetConfig(name="digits"))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("object_share.shares", [0.5, 1.2], "at most 1"),
        ("object_share.shares", [], "got 0 shares, expected from 1 to 100"),
        ("object_share.pairs", 0, "expected a number of at least 1"),
        ("object_share.share", 0.5, "did you mean 'shares'?"),
    ],
)
def test_bad_input(key: str, value: Any, words: str) -> None:
    with pytest.raises(UserError) as error:
        catalogue.resolve({key: value}, ["object_share"])
    assert words in str(error.value) and "\n" not in str(error.value)
