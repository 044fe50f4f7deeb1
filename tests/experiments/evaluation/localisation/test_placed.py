"""Scenes that line up with nothing, and scores whose thresholds are chosen on other images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from mixbench.experiments.data.object_masks import object_masks
from mixbench.experiments.evaluation.gradients import input_gradients
from mixbench.experiments.evaluation.localisation import (
    LocalisationSettings,
    box_accuracy,
    measure,
    thresholded,
)
from mixbench.experiments.evaluation.localisation.placed import (
    ground_of,
    place,
)
from tests.support import planted

P = "localisation/placed"


def test_max_box_acc_v2_by_hand() -> None:
    """Two maps on 4 x 4, each with its best threshold; IoU worked out by hand."""
    # A part of 4 pixels above .5, of 8 above .2; and one far away, which counts as well.
    first = torch.zeros(4, 4)
    first[:2, :2], first[:2, 2:], first[3, 3] = 1.0, 0.4, 0.3
    second = torch.zeros(4, 4)
    second[0, 0] = 1.0
    boxes = torch.tensor([[[0, 0, 1, 0.5]], [[0.75, 0.75, 1, 1]]])
    found = box_accuracy.box_overlaps(torch.stack([first, second]), boxes, (0.0, 0.2, 0.5))
    # The box of 8 pixels is the truth; the upper left quarter is half of it.
    assert found.tolist() == [[1.0, 1.0, 0.5], [0.0, 0.0, 0.0]]
    other = box_accuracy.box_overlaps(first[None], torch.tensor([[[0.75, 0.75, 1, 1]]]), (0.2, 0.3))
    assert other.tolist() == [[1.0, 0.0]]  # above, not at the threshold
    # By δ the best thresholds differ: .3 and .5 are reached by all three, .7 by two.
    hits = thresholded.hits_of(found[:, [0, 1, 2]])
    assert hits.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert thresholded.accuracies(hits) == {
        "max_box_acc_v2": pytest.approx(2 / 6),
        "box_acc/30": 0.5,
        "box_acc/50": 0.5,
        "box_acc/70": 0.0,
    }


def test_thresholds_come_from_other_images() -> None:
    count = len(box_accuracy.THRESHOLDS)
    overlaps = np.zeros((6, count))
    overlaps[0::2, 10], overlaps[1::2, 30] = 0.6, 0.4
    chosen = box_accuracy.choose(overlaps[0::2], overlaps[1::2])
    assert chosen.boxes[:2] == (0.2, 0.2) and chosen.mask == 0.6
    # What is best for one half is nothing for the other.
    assert thresholded.cross_fitted(overlaps)["max_box_acc_v2"] == 0
    overlaps[:] = 0
    overlaps[:, 10] = 0.6
    assert thresholded.cross_fitted(overlaps) == {
        "max_box_acc_v2": pytest.approx(2 / 3),
        "box_acc/30": 1.0,
        "box_acc/50": 1.0,
        "box_acc/70": 0.0,
    }
    assert set(thresholded.cross_fitted(overlaps[:1]).values()) == {None}


def test_overlaps_as_one_part_at_a_time() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 9, 7, generator=generator)
    truth = torch.tensor([[[0.1, 0.2, 0.8, 0.6], [0.0, 0.0, 0.0, 0.0]]]).repeat(6, 1, 1)
    found = box_accuracy.box_overlaps(maps, truth, (0.3, 0.8))
    masks = maps > 0.4
    for number in range(6):
        for column, threshold in enumerate((0.3, 0.8)):
            labels, parts = ndimage.label(maps[number].numpy() > threshold, np.ones((3, 3)))
            best = 0.0
            for part in range(1, parts + 1):
                y, x = np.nonzero(labels == part)
                left, top, right, bottom = x.min(), y.min(), x.max() + 1, y.max() + 1
                wide = min(right, 0.8 * 7) - max(left, 0.1 * 7)
                high = min(bottom, 0.6 * 9) - max(top, 0.2 * 9)
                shared = max(wide, 0) * max(high, 0)
                area = (right - left) * (bottom - top) + 0.7 * 7 * 0.4 * 9
                best = max(best, shared / (area - shared))
            assert found[number, column] == pytest.approx(best, abs=1e-6)
        covered = box_accuracy.mask_overlaps(maps[number : number + 1], masks[number][None], (0.4,))
        assert covered.tolist() == [[1.0]]


def test_masks_close_holes_but_not_what_is_open() -> None:
    image = torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
    image[0, 0, 1:5, 1:5] = 7
    image[0, 0, 2:4, 2:4] = 0  # a hole
    image[0, 0, 4, 2] = 0  # and no longer
    assert object_masks(image).sum() == 11
    image[0, 0, 4, 2] = 1
    assert object_masks(image)[0, 1:5, 1:5].all() and object_masks(image).sum() == 16


def test_placed_scenes_are_what_is_said() -> None:
    labels = torch.arange(300) % 5
    images = torch.arange(1, 301).view(-1, 1, 1, 1).expand(-1, 2, 5, 4).clone()
    images[:, :, 0] = images[:, :, -1] = images[..., 0] = images[..., -1] = 0
    plan = place(images, labels, seed=0)
    assert ground_of(images).tolist() == [0, 0] and plan.canvas == (15, 12)
    scenes = plan.compose(images, slice(100, 300))
    masks = plan.masks(torch.ones(300, 5, 4, dtype=torch.bool), slice(100, 300))
    boxes = plan.boxes()[100:, 0] * torch.tensor([12, 15, 12, 15])
    for number, scene in enumerate(scenes):
        shown = scene.unique().tolist()
        # Nothing hides anything: all three are there whole, and nothing else.
        assert len(shown) == 4 and all((scene[0] == value).sum() == 6 for value in shown[1:])
        others = [labels[value - 1] for value in shown[1:] if value != 101 + number]
        assert len(others) == 2 and all(label != labels[100 + number] for label in others)
        left, top, right, bottom = boxes[number].round().int().tolist()
        assert scene[0, top + 1 : bottom - 1, left + 1 : right - 1].eq(101 + number).all()
        assert masks[number, top:bottom, left:right].all() and masks[number].sum() == 20
    # Anywhere, and rarely in line with a quadrant or a cell.
    tops = plan.corners[:, 0, 0]
    assert set(tops.tolist()) == set(range(11)) and (tops % 5 == 0).float().mean() < 0.6
    # The same scene whatever others there are.
    assert not torch.equal(plan.corners, place(images, labels, seed=1).corners)


class Sees(nn.Module):
    """Sees each class, which is a shade, exactly where it is; or every class anywhere."""

    def __init__(self, *, classes_apart: bool = True) -> None:
        super().__init__()
        self.seen = nn.Identity()
        self.apart = classes_apart
        self.shades = torch.tensor([60, 120, 180, 240]).view(1, -1, 1, 1) / 255

    def forward(self, images: Tensor) -> Tensor:
        match = (1 - (images[:, :1] - self.shades).abs() * 50).clamp(min=0)
        if not self.apart:
            match = match.sum(dim=1, keepdim=True).expand(-1, 4, -1, -1)
        return self.seen(match).mean(dim=(2, 3))


def rounds(count: int = 60) -> tuple[Tensor, Tensor]:
    """Shades in the form of a plus with black corners, so that box and mask differ."""
    labels = torch.arange(count) % 4
    images = (60 * (labels + 1)).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, 8, 8)
    for rows in (slice(0, 2), slice(6, 8)):
        for columns in (slice(0, 2), slice(6, 8)):
            images[:, :, rows, columns] = 0
    return images, labels


def measured(network: nn.Module, images: Tensor, labels: Tensor) -> dict[str, float | None]:
    subject = planted.subject(network, images, labels)
    return measure.measure(subject, LocalisationSettings()).metrics


def test_a_planted_localiser_is_found_and_one_of_any_object_is_not() -> None:
    images, labels = rounds()
    perfect = measured(Sees(), images, labels)
    for name in ("pointing", "energy", "mask_iou", "max_box_acc_v2", "box_acc/30", "box_acc/70"):
        assert perfect[f"{P}/{name}"] == 1, name
    assert perfect[f"{P}/pointing/chance"] == pytest.approx(1 / 9)
    assert perfect[f"{P}/mask_iou/chance"] == pytest.approx(48 / 64 / 9)
    centre = perfect[f"{P}/max_box_acc_v2/centre"]
    assert centre is not None and centre < 0.3
    anything = measured(Sees(classes_apart=False), images, labels)
    assert anything[f"{P}/pointing"] == pytest.approx(1 / 3, abs=0.02)
    assert anything[f"{P}/mask_iou"] == pytest.approx(1 / 3, abs=0.02)


def test_what_can_t_be_measured_has_no_value() -> None:
    images, labels = rounds(12)
    subject = planted.subject(Sees(), images, labels)
    one_class = subject.split("validation").subset(torch.tensor([0, 4, 8]))
    object.__setattr__(subject.dataset, "validation", one_class)
    with input_gradients(subject.network):
        found = measure.measure_placed(subject, LocalisationSettings(), images, labels)
    assert found.metrics[f"{P}/max_box_acc_v2"] is None and found.metrics[f"{P}/pointing"] == 1
    assert found.metrics[f"{P}/max_box_acc_v2/centre"] is None
    # Colours have no black background: no masks.
    coloured = planted.subject(Sees(), images.repeat(1, 3, 1, 1), labels, name="cifar10")
    names = measure.measure(coloured, LocalisationSettings()).metrics
    assert f"{P}/mask_iou" not in names and names[f"{P}/max_box_acc_v2"] == 1
