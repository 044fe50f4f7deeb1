"""Folders of images and masks, as Pascal VOC has them: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments.config import resolve
from mixbench.experiments.config.mask_folder import digest, open_mask_folder
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.load import load
from mixbench.experiments.data.mask_files import decode_pairs
from mixbench.experiments.errors import UserError


def write(root: Path, name: str, rows: int = 8, columns: int = 12) -> None:
    """A grey image, whose mask is 0 on the left, 2 on the right and 255 between them."""
    mask = np.zeros((rows, columns), np.uint8)
    mask[:, columns // 2 :] = 2
    mask[:, columns // 2 - 1] = 255
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette([*range(256)] * 3)
    for folder, image in (
        ("JPEGImages", Image.fromarray(np.where(mask == 2, 200, 40).astype(np.uint8))),
        ("SegmentationClass", picture),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        image.save(root / folder / f"{name}.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / "voc", name)
    return tmp_path / "voc"


def lists(root: Path, **names: str) -> None:
    folder = root / "ImageSets" / "Segmentation"
    folder.mkdir(parents=True, exist_ok=True)
    for split, text in names.items():
        (folder / f"{split}.txt").write_text("\n".join(text))


def test_masks_are_cut_with_their_images(root: Path) -> None:
    write(root, "d", rows=12, columns=8)
    folder = open_mask_folder(str(root))
    assert folder.classes == ("0", "1", "2")
    assert [pair.image.stem for pair in (*folder.train, *folder.test)] == ["a", "c", "d", "b"]
    images, masks = decode_pairs(folder.train, Shape(4, 4, "crop"))
    assert images.shape == (3, 3, 4, 4) and masks.shape == (3, 2, 4, 4)
    # The middle 8 of 12 columns, every second pixel.
    assert masks[0, 0, :, [0, 2, 3]].T.tolist() == [[0, 2, 2]] * 4
    assert masks[0, 1, :, 2:].tolist() == [[1, 1]] * 4 and not masks[0, 1, :, 0].any()
    assert images[0, 0, 0, 0] == 40 and images[0, 0, 0, 3] == 200
    _, padded = decode_pairs(folder.train[:1], Shape(12, 12, "pad"))
    assert (padded[0, 0, :2] == 255).all() and (padded[0, 0, 2:10] != 255).sum() == 8 * 11
    (root / "SegmentationObject").mkdir()
    objects = np.zeros((8, 12), np.uint8)
    objects[:4, 6:], objects[4:, 6:] = 1, 2
    Image.fromarray(objects).save(root / "SegmentationObject" / "a.png")
    open_mask_folder.cache_clear()
    _, masks = decode_pairs(open_mask_folder(str(root)).train, Shape(8, 12))
    assert masks[0, 1, :, 9].tolist() == [1] * 4 + [2] * 4


def test_lists_say_which_split(root: Path) -> None:
    whole = digest(str(root))
    lists(root, train="ab", val="c")
    (root / "labels.txt").write_text("ground\nroad\ncar\ntree\n")
    open_mask_folder.cache_clear()
    digest.cache_clear()
    folder = open_mask_folder(str(root))
    assert folder.classes == ("ground", "road", "car", "tree")
    assert [len(folder.train), folder.validation, len(folder.test or ())] == [2, None, 1]
    assert digest(str(root)) != whole


def test_a_run_takes_them(root: Path) -> None:
    lists(root, train="ab", val="c", test="d")
    write(root, "d")
    open_mask_folder.cache_clear()
    section = {"name": f"maskfolder:{root}", "image_size": 32, "fit": "pad"}
    config = resolve.parse({"dataset": section, "model": {"name": "unet"}})
    assert config.task_info.name == "segmentation" and config.dataset.classes == 3
    dataset = load(config.dataset)
    sizes = [len(split) for split in (dataset.train, dataset.validation, dataset.test)]
    assert sizes == [2, 1, 1] and dataset.shape == (3, 32, 32)
    assert set(dataset.test.labels[:, 0].unique().tolist()) == {0, 2, 255}
    run_key = config.run_key
    section["name"] = f"maskfolder:{root.rename(root.with_name('moved'))}"
    moved = resolve.parse({"dataset": section, "model": {"name": "unet"}})
    assert moved.run_key == run_key


def colours(root: Path) -> None:
    Image.new("RGB", (12, 8)).save(root / "SegmentationClass" / "b.png")


def broken(root: Path) -> None:
    (root / "JPEGImages" / "a.png").write_bytes(b"no image")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (
            lambda root: Image.new("L", (12, 9)).save(root / "SegmentationClass" / "b.png"),
            r"SegmentationClass/b\.png has 12 x 9 pixels, but JPEGImages/b\.png has 12 x 8",
        ),
        (
            lambda root: (root / "JPEGImages" / "b.png").unlink(),
            r"has no JPEGImages/b\.jpg, which SegmentationClass/b\.png needs",
        ),
        (lambda root: lists(root, train="abx"), r"has no JPEGImages/x\.jpg$"),
        (lambda root: lists(root, train="ab", val="bc"), r"b is both in train\.txt and val\.txt"),
        (
            lambda root: (root / "labels.txt").write_text("ground\nroad\n"),
            r"has the class 2, but .*labels\.txt names 2",
        ),
        (
            colours,
            r"SegmentationClass/b\.png has colours \(RGB\), expected a number",
        ),
        (broken, r"cannot read JPEGImages/a\.png"),
        (
            lambda root: (root / "SegmentationClass").rename(root / "other"),
            r"SegmentationClass' is not a folder",
        ),
    ],
)
def test_what_is_wrong_is_said(root: Path, spoil: object, expected: str) -> None:
    open_mask_folder.cache_clear()
    spoil(root)  # type: ignore[operator]
    with pytest.raises(UserError, match=f"maskfolder: .*{expected}") as error:
        open_mask_folder(str(root))
    assert "\n" not in str(error.value)
