"""Scenes: what is drawn stays drawn, masks and boxes are exactly what is painted."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from mixbench.experiments.data.scenes import compose, fashion
from mixbench.experiments.data.scenes.compose import Painter, Scenes
from mixbench.experiments.data.scenes.draw import MOST, Source, draw
from mixbench.experiments.data.sets import fashion_scenes


@pytest.fixture(scope="module")
def painter() -> tuple[Source, Painter]:
    """Four items on black: a block, a ring with a black middle, a bar and a stair."""
    images = np.zeros((4, 28, 28), dtype=np.uint8)
    images[0, 4:24, 6:22] = 200
    images[1, 5:23, 5:23] = 220
    images[1, 10:18, 10:18] = 0
    images[2, 12:16, 2:26] = 240
    images[3, 4:14, 4:14] = 180
    images[3, 14:24, 14:24] = 180
    boxes = np.array([[6, 4, 22, 24], [5, 5, 23, 23], [2, 12, 26, 16], [4, 4, 24, 24]], float)
    groups = np.array([0, 1, 2, 2])
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    return Source(groups, boxes), Painter(images, middles, groups, np.array([5, 6, 7, 8]))


@pytest.fixture(scope="module")
def painted(painter: tuple[Source, Painter]) -> Scenes:
    source, paint = painter
    return paint.paint(draw(source, count=70, size=48, seed=3), 48)


def test_a_seed_gives_the_same_scenes_however_many(painter: tuple[Source, Painter]) -> None:
    source, _ = painter
    few, many, other = (
        draw(source, count=n, size=48, seed=s) for n, s in ((5, 3), (70, 3), (5, 4))
    )
    for field in fields(few):
        assert np.array_equal(getattr(few, field.name), getattr(many, field.name)[:5])
    assert not np.array_equal(few.centres, other.centres)
    counts = (many.items >= 0).sum(axis=1)
    assert set(counts) == {2, 3, 4}
    # Groups come equally often, though one has half of the images.
    items = draw(source, count=640, size=48, seed=0).items
    groups = source.groups[items[items >= 0]]
    assert np.bincount(groups).min() > 0.28 * groups.size


def test_masks_and_boxes_are_what_is_seen(painted: Scenes) -> None:
    for scene in range(len(painted)):
        classes, instances = painted.classes[scene], painted.instances[scene]
        for item in range(MOST):
            pixels = instances == item + 1
            label = painted.labels[scene, item]
            assert (label >= 0) == pixels.any()
            if label < 0:
                assert painted.boxes[scene, item].tolist() == [0, 0, 0, 0]
                continue
            rows, columns = np.nonzero(pixels)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert painted.boxes[scene, item].tolist() == box
            assert set(classes[pixels]) <= {label + 1, compose.SEAM}
        assert set(classes[instances == 0]) <= {0, compose.SEAM}
    assert 0.9 < painted.visible[painted.labels >= 0].mean() <= 1
    # Several labels for a scene: the groups of its items.
    for labels, row in zip(painted.labels, fashion_scenes.shown_groups(painted), strict=True):
        assert row.tolist() == [float(group in labels) for group in range(4)]


def test_holes_belong_to_the_object_and_seams_to_nothing(painter: tuple[Source, Painter]) -> None:
    source, paint = painter
    drawn = draw(source, count=1, size=48, seed=0)
    items = np.array([[1, -1, -1, -1]])
    # The ring, upright and twice as large, with its middle at column 24, row 20.
    ring = replace(
        drawn,
        items=items,
        scales=np.full((1, 4), 2.0),
        radians=np.zeros((1, 4)),
        centres=np.full((1, 4, 2), [24.0, 20.0]),
    )
    scene = paint.paint(ring, 48)
    assert (scene.instances[0] == 1).sum() == 36 * 36
    assert scene.boxes[0, 0].tolist() == [6, 2, 42, 38]
    middle = scene.images[0, 0, 14:26, 18:30] / 255
    assert abs(middle.mean()) < 0.1  # black, with noise, not the background
    half = replace(ring, centres=np.full((1, 4, 2), [24.5, 20.5]))
    seams = paint.paint(half, 48).classes[0] == compose.SEAM
    assert seams.any() and not seams[10:30, 14:34].any()


def test_fashion_scenes_are_kept_and_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixbench.experiments.data.sets import fashion_mnist

    source = fashion_mnist.DATASET.find()
    if source is None:
        pytest.skip("needs Fashion-MNIST")
    monkeypatch.setenv("MIXBENCH_DATA", str(tmp_path))
    wanted = {"count": 3, "size": 48, "seed": 1, "source": source}
    first = fashion.scenes("test", **wanted)
    (path,) = tmp_path.rglob("*.npz")
    path.write_bytes(path.read_bytes()[:-40])
    again = fashion.scenes("test", **wanted)
    monkeypatch.setattr(fashion, "_items", None)  # now it is read
    kept = fashion.scenes("test", **wanted)
    for field in fields(Scenes):
        assert np.array_equal(getattr(first, field.name), getattr(again, field.name))
        assert np.array_equal(getattr(first, field.name), getattr(kept, field.name))
    there = first.items >= 0
    assert np.array_equal(np.array(fashion.GROUP_OF)[first.items[there]], first.labels[there])
