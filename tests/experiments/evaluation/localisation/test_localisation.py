"""Localisation: scenes as they should be, and networks of which the maps are known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from mixbench.experiments.config import resolve
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Subject
from mixbench.experiments.evaluation.localisation import LocalisationSettings, measure
from mixbench.experiments.evaluation.localisation.scenes import layout
from mixbench.experiments.models.resizing import Resizing
from tests.support import planted

CHANCE = {"pointing": 0.25, "iou": 0.25, "energy": 0.25}


class Shades(nn.Module):
    """Sees each class, which is a shade, exactly where it is; `size`: the only one it takes."""

    def __init__(self, size: int | None = None, sees: float = 1.0, classes: int = 4) -> None:
        super().__init__()
        self.size = size
        self.seen = nn.Identity()
        self.weight = nn.Parameter(torch.full((1, 1), sees))
        self.shades = torch.arange(classes).view(1, -1, 1, 1) * 60 / 255
        self.given: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.size is not None:
            assert images.shape[-1] == self.size
        self.given.append(images.detach())
        match = (1 - (images[:, :1] - self.shades).abs() * 50).clamp(min=0)
        return self.seen(match).mean(dim=(2, 3)) * self.weight


def shades(count: int = 200, size: int = 6) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 4
    return (labels * 60).to(torch.uint8).view(-1, 1, 1, 1).repeat(1, 1, size, size), labels


def of(found: dict[str, float | None], kind: str = "", end: str = "") -> dict[str, float | None]:
    return {name: found[f"localisation/{kind}{name}{end}"] for name in CHANCE}


@pytest.mark.parametrize("grid", [2, 3])
def test_a_perfect_map_scores_1(grid: int) -> None:
    network = Shades()
    asked = LocalisationSettings(grid=grid)
    with planted.untouched(network):
        found = measure.measure(planted.subject(network, *shades()), asked)
    assert of(found.metrics) == pytest.approx(dict.fromkeys(CHANCE, 1.0), abs=1e-9)
    chance = dict.fromkeys(CHANCE, 1 / grid**2)
    assert of(found.metrics, end="/chance") == pytest.approx(chance)
    assert found.curves["whole"] is True and found.curves["size"] == 6 * grid
    assert not network.seen._forward_hooks


def test_a_network_of_one_size_gets_its_size() -> None:
    network = Shades(size=8)
    found = measure.measure(planted.subject(network, *shades(size=8)), LocalisationSettings())
    assert found.curves["whole"] is False and found.curves["size"] == 8
    # At the border of a cell the shades are mixed, and half a place is missed.
    assert found.metrics["localisation/pointing"] == 1
    assert found.metrics["localisation/energy"] == pytest.approx(1, abs=0.2)


def test_a_map_that_knows_nothing_scores_the_chance_level() -> None:
    found = measure.measure(planted.subject(Shades(sees=0.0), *shades()), LocalisationSettings())
    assert of(found.metrics) == pytest.approx(CHANCE)
    assert of(found.metrics, end="/chance") == pytest.approx(CHANCE)


class Objects(Shades):
    """Its maps show every object, whatever class is asked for."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).sum(dim=1, keepdim=True).expand(-1, 4)


def test_objects_of_any_class_score_the_chance_level() -> None:
    images, labels = shades(500)
    # Objects in the middle of their cells.
    images[:, :, 0] = images[:, :, -1] = images[..., 0] = images[..., -1] = 255
    found = measure.measure(planted.subject(Objects(), images, labels), LocalisationSettings())
    assert found.metrics["localisation/pointing"] == pytest.approx(0.25, abs=0.02)
    assert found.metrics["localisation/energy"] == pytest.approx(0.25, abs=0.02)
    # Of equal parts the first counts, which is the object's in a quarter of the scenes.
    assert found.metrics["localisation/iou"] == pytest.approx(0.25 * 16 / 36, abs=0.03)


def test_what_is_not_finite_has_no_value() -> None:
    found = measure.measure(
        planted.subject(Shades(sees=float("nan")), *shades()), LocalisationSettings()
    )
    assert of(found.metrics) == dict.fromkeys(CHANCE)
    assert of(found.metrics, end="/chance") == CHANCE


def test_the_same_scenes_in_batches_of_any_size(digits_subject: Subject) -> None:
    images, labels = next(digits_subject.split("test").batches(300))
    found, given = [], []
    for batch_size in (7, 64, 500):
        network = Shades()
        subject = planted.subject(network, images, labels % 4, batch_size=batch_size)
        found.append(
            measure.measure(subject, LocalisationSettings(images=40, validation_images=30))
        )
        # Scenes of 2 x 2, and those on a larger canvas; the last, for choosing thresholds included.
        given.append([torch.cat([one for one in network.given if one.shape[-1] == 32])[-40:]])
        given[-1].append(torch.cat([one for one in network.given if one.shape[-1] == 48])[-70:])
    for one, other in pairwise(given):
        assert all(torch.equal(first, second) for first, second in zip(one, other, strict=True))
    for name, values in found[0].arrays.items():
        assert values.shape[0] == 40
        for other in found[1:]:
            assert np.allclose(values, other.arrays[name], atol=1e-5)


def test_scenes_are_what_is_said() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (3000,), generator=generator) ** 2 // 4  # of unequal sizes
    images = torch.arange(3000).view(-1, 1, 1, 1).expand(-1, 2, 3, 3)
    plan = layout(labels, 3, seed=0)
    scenes = plan.compose(images, slice(0, 3000))
    assert scenes.shape == (3000, 2, 9, 9)
    for number in range(0, 3000, 17):
        left, top, right, bottom = (round(9 * float(edge)) for edge in plan.boxes()[number, 0])
        inside = torch.zeros(9, 9, dtype=torch.bool)
        inside[top:bottom, left:right] = True
        assert inside.sum() == 9
        for channel in scenes[number]:
            assert (channel[inside] == number).all()
            assert (labels[channel[~inside]] != labels[number]).all()
    # Every cell as often, and every image of another class.
    expected = 3000 / 9
    assert (plan.cells.bincount() - expected).abs().max() < 5 * expected**0.5
    own = torch.arange(3000).unsqueeze(1)
    others = plan.sources[plan.sources != own].view(3000, 8)
    beside = labels[others[labels == 1]].flatten()
    shares = beside.bincount(minlength=5).double() / len(beside)
    outside = labels[labels != 1].bincount(minlength=5).double() / (labels != 1).sum()
    assert torch.allclose(shares, outside, atol=0.02)
    assert others.unique().numel() > 0.99 * 3000
    assert not torch.equal(plan.cells, layout(labels, 3, seed=1).cells)


def test_one_class_alone_makes_no_scene() -> None:
    images, labels = shades()
    subject = planted.subject(Shades(), images, labels * 0)
    with pytest.raises(UserError, match="at least two classes"):
        measure.measure(subject, LocalisationSettings())


def test_a_trained_network_finds_digits(digits_subject: Subject) -> None:
    before = digits_subject.network.state_dict()
    with planted.untouched(digits_subject.network):
        found = measure.measure(digits_subject, LocalisationSettings(images=300))
    assert before.keys() == digits_subject.network.state_dict().keys()
    assert found.curves["module"] == "features.9"
    for name in ("pointing", "energy"):
        score = found.metrics[f"localisation/{name}"]
        assert score is not None and score > 0.4


def test_a_network_with_an_input_size_works_at_as_many_times_that() -> None:
    network = Shades()
    hook = Resizing(12)
    network.register_forward_pre_hook(hook)
    found = measure.measure(planted.subject(network, *shades()), LocalisationSettings())
    assert found.curves["whole"] is True and found.curves["size"] == 24
    assert hook.size == 12 and {images.shape[-1] for images in network.given} == {24, 36}
    # Of one size alone, it works at that.
    network.size = 12
    found = measure.measure(planted.subject(network, *shades()), LocalisationSettings())
    assert found.curves["whole"] is False and hook.size == 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of 40 x 20 in two classes, black but for a square of the class's shade."""
    for split in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            place = tmp_path / "photos" / split / name
            place.mkdir(parents=True)
            for number in range(5):
                pixels = np.full((20, 40, 3), 255, np.uint8)
                pixels[5:15, 15:25] = 60 * label
                Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path


def on_folder(folder: Path, network: nn.Module) -> Subject:
    run = resolve.parse({"dataset": {"name": f"imagefolder:{folder / 'photos'}", "image_size": 20}})
    dataset = load(run.dataset)
    dataset.mean.zero_()
    dataset.std.fill_(1)
    return Subject(network, dataset, run, torch.device("cpu"))


def rows(folder: Path, *lines: str) -> str:
    file = folder / "boxes.csv"
    file.write_text("\n".join(["image,class,left,top,right,bottom", *lines]), encoding="utf-8")
    return str(file)


def test_boxes_of_own_images(folder: Path) -> None:
    upright = np.full((40, 20, 3), 255, np.uint8)
    upright[15:25, 5:15] = 60
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: turned by a quarter to be seen
    lying = Image.fromarray(np.rot90(upright).copy())
    lying.save(folder / "turned.png", exif=exif)
    given = rows(
        folder,
        "photos/test/cat/0.png,cat,15,5,25,15",
        "photos/test/dog/1.png, dog ,15,5,25,15",
        "photos/test/dog/1.png,dog,0,0,30,20",
        "photos/train/dog/1.png,dog,15,5,25,15",
        "turned.png,dog,5,15,15,25",
        "photos/test/dog/2.png,dog,0,0,9,20",
        "photos/test/dog/3.png,dog,0,5,30,15",
    )
    network = Shades(classes=2)
    asked = LocalisationSettings.model_validate({"boxes": given, "images": 4})
    found = measure.measure(on_folder(folder, network), asked)
    # The central square is 20 wide: 10 to 30. The last box is cut at 0 and 20: 20 x 10.
    assert found.curves["boxes"] == {"images": 4, "outside": 1, "trained": 1, "crowds": 0}
    assert found.arrays["boxes_iou"].tolist() == pytest.approx([1, 1, 1, 0.5])
    assert found.metrics["localisation/boxes/pointing"] == 1
    assert found.metrics["localisation/boxes/energy"] == 1
    # 100, the union of 100 and 400, 100 and 200 of 400 pixels.
    chance = (0.25 + 1 + 0.25 + 0.5) / 4
    assert found.metrics["localisation/boxes/energy/chance"] == pytest.approx(chance)
    assert found.metrics["localisation/pointing"] == 1


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("photos/test/cat/0.png,cat,15,5,25", r"row 2: got 5 fields, expected 6"),
        ("photos/test/cat/9.png,cat,15,5,25,15", r"row 2: image: no file .*9\.png"),
        ("photos/test/cat/0.png,cat,x,5,25,15", r"row 2: left: got 'x', expected pixels"),
        ("photos/test/cat/0.png,cat,1,5,nan,15", r"row 2: right: got 'nan'"),
        ("photos/test/cat/0.png,cat,1,-5,25,15", r"row 2: top: got '-5', expected .* at least 0"),
        ("photos/test/cat/0.png,cat,15,5,15,15", r"row 2: right: got 15, expected above left, 15"),
        ("photos/test/cat/0.png,cat,1,5,25,3", r"row 2: bottom: got 3, expected above top, 5"),
        ('"photos/test/cat/0.png,cat,1,5,25,3', r"row 2: unexpected end"),
        ("", r"no box in it"),
    ],
)
def test_a_bad_row_is_named_before_anything_is_measured(
    folder: Path, line: str, expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        catalogue.resolve({"localisation.boxes": rows(folder, line)}, ["localisation"])
    assert "localisation.boxes: " in str(caught.value) and "\n" not in str(caught.value)


def test_a_bad_file_is_named(folder: Path) -> None:
    def check(path: str, expected: str) -> None:
        with pytest.raises(UserError, match=expected):
            catalogue.resolve({"localisation.boxes": path}, ["localisation"])

    check(str(folder / "none.csv"), r"none\.csv can't be read: No such file")
    check(str(folder), r"has 0 YAML files, expected the one of a data set in YOLO's form")
    file = folder / "boxes.csv"
    file.write_bytes(b"image,class\xff")
    check(str(file), "not UTF-8")
    file.write_text("image,class,left,top,right\n")
    check(str(file), r"row 1: no column 'bottom'; expected a first row image,class,left")
    file.write_text("image,class,left,left,top,right,bottom\n")
    check(str(file), r"row 1: more than one column 'left'")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("photos/test/cat/0.png,cot,15,5,25,15", r"row 3: class: 'cot'; did you mean 'cat'"),
        ("photos/test/cat/0.png,cat,15,5,41,15", r"row 3: right: got 41, expected at most 40"),
        ("photos/test/cat/0.png,cat,15,5,40,21", r"row 3: bottom: got 21, expected at most 20"),
        ("boxes.csv,cat,15,5,40,20", r"row 3: image: not readable"),
    ],
)
def test_a_row_that_does_not_fit_is_named(folder: Path, line: str, expected: str) -> None:
    given = rows(folder, "photos/test/cat/1.png,cat,15,5,25,15", line)
    asked = LocalisationSettings.model_validate({"boxes": given})
    with pytest.raises(UserError, match=expected):
        measure.measure(on_folder(folder, Shades(classes=2)), asked)


def test_boxes_need_an_image_folder_and_images_that_were_not_trained_on(folder: Path) -> None:
    given = rows(folder, "photos/train/cat/1.png,cat,15,5,25,15")
    asked = LocalisationSettings.model_validate({"boxes": given})
    with pytest.raises(UserError, match="no image is left: 1 are of the training"):
        measure.measure(on_folder(folder, Shades(classes=2)), asked)
    with pytest.raises(UserError, match="fashion_mnist has no image files"):
        measure.measure(planted.subject(Shades(), *shades()), asked)


def test_columns_in_any_order_and_the_mark_of_spreadsheets(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "boxes.csv").write_text(
        "\ufeffRight,left,bottom,top,note,class,image\n\n25,15,15,5,x,cat,photos/test/cat/1.png\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(folder)
    wanted: dict[str, Any] = catalogue.resolve(
        {"localisation.boxes": "boxes.csv"}, ["localisation"]
    )
    # As seen from anywhere.
    assert wanted["localisation"]["boxes"] == str((folder / "boxes.csv").resolve())
    asked = LocalisationSettings.model_validate(wanted["localisation"])
    found = measure.measure(on_folder(folder, Shades(classes=2)), asked)
    assert found.metrics["localisation/boxes/iou"] == 1


def coco(folder: Path, **changes: object) -> str:
    """The boxes of two images, of a crowd, and rounded past an edge."""
    box = {"id": 1, "image_id": 7, "category_id": 2, "bbox": [15, 5, 10, 10]}
    crowd = {"id": 3, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1], "iscrowd": 1}
    content = {
        "images": [
            {"id": 7, "file_name": "test/dog/1.png", "width": 40, "height": 20},
            {"id": 9, "file_name": "test/cat/0.png", "width": 40, "height": 20},
        ],
        "annotations": [
            box | changes,
            {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 40.4, 20.01]},
            crowd,
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    file = folder / "instances.json"
    file.write_text(json.dumps(content))
    return str(file)


def yolo(folder: Path, *lines: str) -> str:
    """The same boxes; images and labels in folders of these names."""
    for number, (label, rows_of_image) in enumerate(
        [("dog", lines), ("cat", ["0 0.505 0.5 1.01 1.0005"])]
    ):
        image = folder / "set" / "images" / "val" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "photos" / "test" / label / f"{1 - number}.png", image)
        text = folder / "set" / "labels" / "val" / f"{number}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(rows_of_image) + "\n")
    (folder / "set" / "images" / "val" / "empty.png").write_bytes(b"")
    (folder / "set" / "data.yaml").write_text("names: {0: cat, 1: dog}\nval: images/val\n")
    return str(folder / "set")


def test_the_same_boxes_in_all_three_forms(folder: Path) -> None:
    csv = rows(
        folder, "photos/test/dog/1.png,dog,15,5,25,15", "photos/test/cat/0.png,cat,0,0,40,20"
    )
    square = "1 0.5 0.5 0.25 0.5"
    outline = "1 0.375 0.25 0.625 0.25 0.625 0.75 0.5 0.6"
    found = []
    for given in (
        {"boxes": csv},
        {"boxes": coco(folder), "boxes_folder": str(folder / "photos")},
        {"boxes": yolo(folder, square)},
        {"boxes": yolo(folder, outline) + "/data.yaml"},
    ):
        asked = LocalisationSettings.model_validate({**given, "images": 4})
        measured = measure.measure(on_folder(folder, Shades(classes=2)), asked)
        found.append({key: value for key, value in measured.metrics.items() if "boxes" in key})
        crowds = 1 if "instances" in given["boxes"] else 0
        assert measured.curves["boxes"]["crowds"] == crowds
    assert all(one == pytest.approx(found[0]) for one in found[1:])
    # The dog is found to the pixel, the cat's box is the whole of what is seen.
    assert found[0]["localisation/boxes/iou"] == pytest.approx((1 + 0.25) / 2)
    assert found[0]["localisation/boxes/box_acc/30"] == 0.5


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda f: coco(f, bbox=[30, 5, 11, 10]), r"annotation 1: right: got 41, .* at most 40"),
        (lambda f: coco(f, bbox=[-1, 5, 9, 10]), r"annotation 1: left: got -1, .* at least 0"),
        (lambda f: coco(f, bbox=[1, 5, 0, 10]), r"annotation 1: right: got 1, expected above left"),
        (lambda f: coco(f, bbox=[1, 5, 3]), r"annotation 1: bbox: got \[1, 5, 3\], expected"),
        (lambda f: coco(f, image_id=8), r"annotation 1: image_id: got 8, which the file does not"),
        (lambda f: yolo(f, "1 0.9 0.5 0.25 0.5"), r"0\.txt, line 1: right: got 41, .* at most 40"),
        (lambda f: yolo(f, "3 0.5 0.5 0.1 0.1"), r"line 1: class: got 3, expected one of 0, 1"),
        (lambda f: yolo(f, "1 0.5 0.5 0.1"), r"line 1: got 4 numbers, expected class x y"),
        (lambda f: yolo(f, "1 0.5 x 0.1 0.1"), r"line 1: got '1 0.5 x 0.1 0.1', expected numbers"),
        (lambda f: str(f / "photos"), r"photos has 0 YAML files"),
    ],
)
def test_boxes_of_other_forms_that_do_not_fit(
    folder: Path, make: Callable[[Path], str], expected: str
) -> None:
    path = make(folder)
    given = {"localisation.boxes": path}
    if path.endswith(".json"):
        given["localisation.boxes_folder"] = str(folder / "photos")
    dataset = on_folder(folder, Shades()).config.dataset

    def prepare() -> None:
        wanted = catalogue.resolve(given, ["localisation"])
        measure.prepare(LocalisationSettings.model_validate(wanted["localisation"]), dataset)

    with pytest.raises(UserError, match=expected) as caught:
        prepare()
    assert "\n" not in str(caught.value) and "localisation.boxes" in str(caught.value)
