"""Scores of maps against boxes: hand-made maps, flat maps, and one image at a time with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from mixbench.experiments.evaluation.localisation.map_scores import boxes_around, cover, scores

QUARTER = torch.tensor([[[0.5, 0.0, 1.0, 0.5]]])
"""The upper right quarter of one image."""


def one(rows: list[list[float]]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float32)


def values(maps: Tensor, boxes: Tensor, threshold: float = 0.2) -> tuple[float, float, float]:
    found = scores(maps, boxes, threshold)
    return float(found.pointing[0]), float(found.iou[0]), float(found.energy[0])


def test_a_perfect_map_scores_1_wherever_the_box_is() -> None:
    for box in ([0, 0, 0.5, 0.5], [0.25, 0.5, 1, 0.75], [0, 0, 1, 1], [1 / 3, 2 / 3, 1, 1]):
        boxes = torch.tensor([[box]], dtype=torch.float64)
        assert values(cover(boxes, 12, 12), boxes) == pytest.approx((1, 1, 1))


@settings(max_examples=60, deadline=None)
@given(
    shade=st.sampled_from([0.0, 1e-20, 0.1, 1.0, 1e6]),
    edges=st.lists(st.integers(0, 40), min_size=4, max_size=4),
    height=st.integers(2, 9),
    width=st.integers(2, 9),
)
def test_a_flat_map_scores_the_chance_level_exactly(
    shade: float, edges: list[int], height: int, width: int
) -> None:
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    box = torch.tensor([left, top, right + 1, bottom + 1], dtype=torch.float64) / 41
    found = scores(torch.full((1, height, width), shade), box.view(1, 1, 4))
    area = (right + 1 - left) * (bottom + 1 - top) / 41**2
    for score, chance in (
        (found.pointing, found.pointing_chance),
        (found.iou, found.iou_chance),
        (found.energy, found.energy_chance),
    ):
        assert float(score) == pytest.approx(area) and float(chance) == pytest.approx(area)


def test_flatness_survives_interpolation() -> None:
    flat = torch.nn.functional.interpolate(torch.full((1, 1, 7, 7), 0.1), (56, 56), mode="bilinear")
    assert values(flat[0], QUARTER) == pytest.approx((0.25, 0.25, 0.25))


def test_scores_by_hand() -> None:
    found = one([[0, 0, 4, 2], [0, 0, 2, 0], [1, 0, 0, 0], [1, 0, 0, 0]])
    # In the quarter: 8 of 10; the maximum; above 0.8 the first component, as large as its box.
    assert values(found, QUARTER) == pytest.approx((1, 1, 0.8))
    # Of all that is above 0.75 * 4, one pixel is left: 1 of 4.
    assert values(found, QUARTER, threshold=0.75) == pytest.approx((1, 1 / 4, 0.8))
    # In the lower left quarter: nothing of that, and 2 of 10.
    assert values(found, torch.tensor([[[0, 0.5, 0.5, 1.0]]])) == pytest.approx((0, 0, 0.2))


def test_the_threshold_is_exceeded_not_reached() -> None:
    row = one([[1.0, 0.25, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    left = torch.tensor([[[0, 0, 0.25, 0.5]]])
    assert values(row, left, threshold=0.25)[1] == pytest.approx(1)
    assert values(row, left, threshold=0.24)[1] == pytest.approx(0.5)


def test_equal_maxima_share() -> None:
    assert values(one([[3, 3, 0, 0], [0, 0, 0, 3], [0] * 4, [0] * 4]), QUARTER)[0] == (
        pytest.approx(1 / 3)
    )
    assert values(one([[3, 3.01, 0, 0], [0, 0, 0, 3], [0] * 4, [0] * 4]), QUARTER)[0] == 0


def test_the_best_of_several_boxes_and_none_twice() -> None:
    peak = one([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    boxes = torch.tensor([[[0.5, 0.5, 1, 1], [0, 0, 0.5, 0.25], [0, 0, 0.5, 0.5], [0, 0, 0, 0]]])
    assert values(peak, boxes) == pytest.approx((1, 1, 1))
    # The second lies within the third: two quarters of the image are covered.
    assert float(scores(peak, boxes).energy_chance) == pytest.approx(0.5)
    assert float(scores(peak, boxes).iou_chance) == pytest.approx(0.25)


def test_parts_touch_at_corners_but_not_across_images() -> None:
    masks = torch.zeros(3, 4, 4, dtype=torch.bool)
    masks[0, 0, 0] = masks[0, 1, 1] = masks[0, 2, 2] = masks[0, 3, 0] = masks[0, 0, 3] = True
    masks[1, 3, 3] = masks[1, 0, 0] = True
    masks[2, 1:3, 1:] = True
    # Of two equal parts, the first.
    expected = [[0, 0, 0.75, 0.75], [0, 0, 0.25, 0.25], [0.25, 0.25, 1, 0.75]]
    assert boxes_around(masks).tolist() == expected


def test_boxes_as_one_image_at_a_time() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(60, 9, 13, generator=generator) < 0.4
    for mask, found in zip(masks.numpy(), boxes_around(masks), strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        sizes = [int((labels == number).sum()) for number in range(1, count + 1)]
        rows, columns = ndimage.find_objects(labels)[int(np.argmax(sizes))]
        box = [columns.start / 13, rows.start / 9, columns.stop / 13, rows.stop / 9]
        assert found.tolist() == pytest.approx(box)


def test_pixels_are_covered_in_part() -> None:
    covered = cover(torch.tensor([[[0.125, 0.0, 0.5, 0.25]]]).double(), 2, 4)
    assert covered.tolist() == [[[0.25, 0.5, 0, 0], [0, 0, 0, 0]]]
