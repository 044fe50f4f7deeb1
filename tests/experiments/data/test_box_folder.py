"""The user's own images with boxes: COCO files and YOLO folders, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments.config import resolve
from mixbench.experiments.data.inspection.boxes import boxes_as_json, boxes_as_text
from mixbench.experiments.data.load import load
from mixbench.experiments.data.object_rows import Objects
from mixbench.experiments.errors import UserError

SIZE = (40, 20)
"""Width and height: the middle square is from 10 to 30."""
BOXES: list[list[list[float]]] = [
    # Class, then left, top, width and height in pixels.
    [[0, 12, 4, 8, 10], [1, 20, 10, 6, 6]],
    [[1, 5, 0, 10, 20]],
    [],
    [[0, 0, 0, 9, 5]],
    [[1, 10, 0, 20, 20]],
]


def pictures(folder: Path, numbers: range) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{number}.png" for number in numbers]
    for number, file in zip(numbers, files, strict=True):
        Image.new("RGB", SIZE, (10 * number, 0, 0)).save(file)
    return files


def coco_of(files: list[Path], first: int = 0) -> dict[str, Any]:
    rows = [
        {"id": 9 * image + row, "image_id": image, "category_id": 7 + int(kind), "bbox": sides}
        for image in range(len(files))
        for row, (kind, *sides) in enumerate(BOXES[first + image])
    ]
    crowd = {"id": 99, "image_id": 0, "category_id": 7, "bbox": [0, 0, 1, 1], "iscrowd": 1}
    images = [{"id": number, "file_name": file.name} for number, file in enumerate(files)]
    kinds = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}]
    return {"images": images, "annotations": [*rows, crowd], "categories": kinds}


def make_coco_file(root: Path) -> Path:
    files = pictures(root / "images", range(5))
    (root / "boxes.json").write_text(json.dumps(coco_of(files)))
    return root / "boxes.json"


def make_coco_folder(root: Path) -> Path:
    (root / "annotations").mkdir()
    for split, numbers in (("train2017", range(3)), ("val2017", range(3, 5))):
        files = pictures(root / split, numbers)
        content = json.dumps(coco_of(files, numbers[0]))
        (root / "annotations" / f"instances_{split}.json").write_text(content)
    return root


def make_yolo(root: Path) -> Path:
    for split, numbers in (("train", range(3)), ("val", range(3, 5))):
        (root / "labels" / split).mkdir(parents=True)
        for number, file in zip(numbers, pictures(root / "images" / split, numbers), strict=True):
            lines = [
                f"{int(kind)} {(x + w / 2) / 40} {(y + h / 2) / 20} {w / 40} {h / 20}"
                for kind, x, y, w, h in BOXES[number]
            ]
            if lines:
                (root / "labels" / split / f"{file.stem}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/val\n")
    return root


def configured(path: Path, **more: Any) -> Any:
    section = {"name": f"boxfolder:{path}", "image_size": 40, "validation_fraction": 0.4, **more}
    return resolve.parse({"dataset": section, "model": {"name": "small_fcos"}})


@pytest.mark.parametrize("make", [make_coco_file, make_coco_folder, make_yolo])
def test_boxes_are_cut_and_scaled_as_images_are(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    config = configured(make(tmp_path))
    assert config.task_info.name == "detection" and config.dataset.classes == 2
    data = load(config.dataset)
    assert data.classes == ("cat", "dog") and data.targets == "boxes"
    found = {}
    for split in (data.train, data.validation, data.test):
        for images, rows in split.batches(10):
            objects = Objects.of(rows, (40, 40))
            assert objects.maps is None
            for image, boxes, labels, there in zip(
                images, objects.boxes, objects.labels, objects.there, strict=True
            ):
                shown = [[*map(float, box)] for box in boxes[there]]
                found[int(image[0, 0, 0]) // 10] = [
                    *zip(labels[there].tolist(), shown, strict=True)
                ]
    assert len(data.test) == (1 if make is make_coco_file else 2)
    # The middle square of 20 pixels is shown at 40: twice as large, from column 10 on.
    assert found == {
        0: [(0, [4, 8, 20, 28]), (1, [20, 20, 32, 32])],
        1: [(1, [0, 0, 10, 40])],
        2: [],
        3: [],
        4: [(1, [0, 0, 40, 40])],
    }
    padded = (
        load(configured(tmp_path / "boxes.json", fit="pad").dataset)
        if make is make_coco_file
        else data
    )
    assert np.isfinite(padded.mean.numpy()).all()


def test_inspect_counts_what_is_there(tmp_path: Path) -> None:
    found = boxes_as_json(f"boxfolder:{make_coco_folder(tmp_path)}")
    assert found["crowds_left_out"] == 2 and found["image_size"] == 128
    assert found["splits"]["train"] == {
        "images": 3,
        "images_without_boxes": 1,
        "boxes": {"cat": 1, "dog": 2},
        "boxes_cut_off": 0,
        "small_boxes": 0,
    }
    # Left of the middle square.
    assert found["splits"]["test"]["boxes_cut_off"] == 1
    text = boxes_as_text(f"boxfolder:{tmp_path}")
    assert "1 boxes are outside of the central square; dataset.fit" in text


def test_the_key_knows_the_boxes_and_not_the_place(tmp_path: Path) -> None:
    keys = []
    for name, change in (("a", None), ("b", None), ("c", [12, 4, 8, 11])):
        (tmp_path / name).mkdir()
        path = make_coco_file(tmp_path / name)
        if change:
            content = json.loads(path.read_text())
            content["annotations"][0]["bbox"] = change
            path.write_text(json.dumps(content))
        keys.append(configured(path).run_key)
    assert keys[0] == keys[1] != keys[2]


def _with(field: str, **values: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = json.loads(path.read_text())
        content[field][0].update(values)
        path.write_text(json.dumps(content))

    return change


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            _with("annotations", bbox=[30, 0, 20, 5]),
            "annotation 0: right: got 50, expected at most 40",
        ),
        (
            _with("annotations", bbox=[3, 0, 0, 5]),
            "annotation 0: right: got 3, expected above left",
        ),
        (_with("annotations", category_id=5), "annotation 0: category_id: got 5"),
        (_with("images", file_name="none.png"), "no file '.*none.png'"),
        (lambda path: path.write_text("{"), "no JSON"),
        (lambda path: (path.parent / "images" / "0.png").write_text("no"), "cannot read .*0.png"),
        (lambda path: path.unlink(), "no file or folder"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line(
    spoil: Callable[[Path], None], expected: str, tmp_path: Path
) -> None:
    path = make_coco_file(tmp_path)
    spoil(path)
    with pytest.raises(UserError, match=f"boxfolder.*{expected}") as error:
        load(configured(path).dataset)
    assert "\n" not in str(error.value)


def test_copy_paste_needs_masks_and_splits_are_apart(tmp_path: Path) -> None:
    path = make_coco_file(tmp_path)
    section = {"dataset": {"name": f"boxfolder:{path}"}, "model": {"name": "small_fcos"}}
    with pytest.raises(UserError, match=r"copy_paste needs masks .*: fashion_scenes"):
        resolve.parse({**section, "augmentation": "copy_paste"})
    (tmp_path / "yolo").mkdir()
    root = make_yolo(tmp_path / "yolo")
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/train\n")
    with pytest.raises(UserError, match=r"0.png is both in train and in val"):
        configured(root)
