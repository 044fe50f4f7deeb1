"""Inspect images with boxes: what a sweep would read, and what is odd about it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mixbench.experiments.config.box_folder import open_box_folder
from mixbench.experiments.config.datasets import boxes_path, info
from mixbench.experiments.data.box_files import decode_boxed
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.object_rows import FIELDS

SMALL = 8
"""Boxes with a side below so many pixels, at the usual size, are small for a map at a quarter."""


def boxes_as_json(name: str) -> dict[str, Any]:
    """Return what is in `boxfolder:PATH`; every image is decoded once. UserError as a sweep."""
    folder = open_box_folder(str(boxes_path(name)))
    side = info(name).sides[0]
    splits = {}
    for split, images in (
        ("train", folder.train),
        ("validation", folder.validation),
        ("test", folder.test),
    ):
        if images is None:
            continue
        room = max(1, *map(len, images.values())) if images else 1
        _, rows = decode_boxed(images, folder.classes, Shape(side, side), room)
        numbers = rows[:, 1:].reshape(-1, FIELDS)
        shown = numbers[numbers[:, 4] >= 0]
        sides = np.minimum(shown[:, 2] - shown[:, 0], shown[:, 3] - shown[:, 1])
        boxes = Counter(box.label for boxes in images.values() for box in boxes)
        splits[split] = {
            "images": len(images),
            "images_without_boxes": sum(not boxes for boxes in images.values()),
            "boxes": {label: boxes[label] for label in folder.classes},
            "boxes_cut_off": boxes.total() - len(shown),
            "small_boxes": int((sides < SMALL).sum()),
        }
    return {
        "name": info(name).name,
        "classes": list(folder.classes),
        "image_size": side,
        "crowds_left_out": folder.crowds,
        "splits": splits,
    }


def boxes_as_text(name: str) -> str:
    """Return the same in words."""
    found = boxes_as_json(name)
    side = found["image_size"]
    lines = [f"{found['name']}: {len(found['classes'])} classes, at {side} x {side} pixels", ""]
    for split, one in found["splits"].items():
        lines.append(
            f"{split}: {one['images']:,} images, {one['images_without_boxes']:,} of them without "
            f"boxes; {sum(one['boxes'].values()):,} boxes"
        )
        lines += [f"  {label:20} {count:,}" for label, count in one["boxes"].items()]
        if one["boxes_cut_off"]:
            lines.append(
                f"  {one['boxes_cut_off']:,} boxes are outside of the central square; "
                "dataset.fit: pad or stretch keeps them"
            )
        if one["small_boxes"]:
            lines.append(
                f"  {one['small_boxes']:,} boxes have a side below {SMALL} pixels; a larger "
                "dataset.image_size shows more of them"
            )
    untrained = [label for label, count in found["splits"]["train"]["boxes"].items() if not count]
    if untrained:
        lines.append(f"no box to train on: {', '.join(untrained)}")
    if found["crowds_left_out"]:
        lines.append(f"{found['crowds_left_out']:,} boxes around crowds are left out")
    return "\n".join(lines)
