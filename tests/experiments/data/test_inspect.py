"""`mixbench inspect`: exactly what a sweep would read, and what is odd about it."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments import cli
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.load import load
from tests.support.folders import fill, png


def inspected(capsys: pytest.CaptureFixture[str], folder: Path | str, *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["inspect", str(folder), "--json", *more]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def picture(path: Path, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.RandomState(zlib.crc32(path.name.encode())).randint(
        0, 256, (size[1], size[0], 3)
    )
    Image.fromarray(pixels.astype(np.uint8)).convert(mode).save(path)
    return path


def test_it_counts_what_a_sweep_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = fill(tmp_path / "data", ("cat", "dog", "owl"), images=12)
    fill(root / "cat", ["more"], images=3)
    (root / "cat" / "00.png").write_bytes(b"")
    (root / "cat" / "01.png").write_bytes(png("cut off")[:60])
    (root / "dog" / "00.png").write_text("<html>404</html>")
    (root / "owl" / "99.png").symlink_to("/nonexistent/99.png")
    found = inspected(capsys, root)
    data = load(DatasetConfig(name=f"imagefolder:{root}", image_size=8))
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    assert found["splits"] == {split: len(part) for split, part in parts.items()}
    assert found["classes"] == {"cat": 13, "dog": 11, "owl": 12}
    skipped = {entry["file"]: entry["reason"] for entry in found["skipped"]}
    assert {str(root / name) for name in skipped} == set(data.skipped)
    assert skipped == {
        "cat/00.png": "not an image that Pillow can read",
        "cat/01.png": skipped["cat/01.png"],
        "dog/00.png": "not an image that Pillow can read",
        "owl/99.png": "a link that leads nowhere, to /nonexistent/99.png",
    }
    assert any("4 files or folders left out" in text for text in found["warnings"])


def test_it_says_what_is_odd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "odd"
    for number in range(40):
        picture(root / "train" / "a" / f"{number}.png", (20, 10))
    for number in range(4):
        picture(root / "train" / "b" / f"{number}.bmp", (10, 40))
    same = picture(root / "train" / "a" / "original.png", (60, 60))
    with Image.open(same) as image:
        # The same pixels in another format and place.
        (root / "test" / "a").mkdir(parents=True)
        image.save(root / "test" / "a" / "copy.tif")
        image.save(root / "train" / "b" / "copy.bmp")
    picture(root / "test" / "b" / "only.png", (33, 33), "LA")
    frames = [Image.new("L", (8, 8), shade) for shade in (0, 100, 200)]
    frames[0].save(root / "test" / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    found = inspected(capsys, root)
    warnings = "\n".join(found["warnings"])
    for expected in (
        "1 test image has the same pixels as one of the train split, such as test/a/copy.tif and",
        "1 image in more than one class, such as train/a/original.png, train/b/copy.bmp",
        "the test set has 3 images: each is 33.3 points of accuracy",
        "1 class with fewer than 10 images to train on: b (",
        "the central square leaves out more than a third of the pixels of",
        "1 file with several pictures, of which the first is used: test/b/moving.gif",
        "unless dataset.image_size says otherwise",
    ):
        assert expected in warnings
    assert found["modes"]["LA"] == 1 and sum(found["modes"].values()) == 49
    # 40 of 49 lose a half, 4 three quarters, the others nothing.
    assert found["lost_by_the_square"] == {"median": 0.5, "90%": 0.5, "most": 0.75}
    assert found["sizes"] == {"width": [8, 20, 60], "height": [8, 10, 60]}


def test_same_pixels_are_found_in_another_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fill(tmp_path, images=8)
    first = picture(root / "cat" / "a.jpg", (300, 200))
    with Image.open(first) as image:
        image.load()
        image.save(root / "dog" / "converted.png")
        # The same file again, and a picture that differs in one pixel.
        (root / "cat" / "b.jpg").write_bytes(first.read_bytes())
        image.putpixel((7, 7), (255, 0, 255))
        image.save(root / "cat" / "other.png")
    (group,) = inspected(capsys, root)["same_pixels"]
    assert sorted(group) == ["cat/a.jpg", "cat/b.jpg", "dog/converted.png"]


def test_a_clean_folder_has_no_warnings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "clean"
    for part, images in (("train", 30), ("val", 5), ("test", 60)):
        for name in ("cat", "dog"):
            for number in range(images):
                path = root / part / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                shades = np.full((224, 224), number, np.uint8)
                shades[0, 0], shades[0, 1] = len(part), len(name) + ord(name[0])
                Image.fromarray(shades).save(path)
    found = inspected(capsys, root)
    assert found["warnings"] == [] and found["skipped"] == []
    assert found["splits"] == {"train": 60, "validation": 10, "test": 120}
    assert found["folders"] == {"train": "train", "validation": "val", "test": "test"}


def test_the_text_and_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fill(tmp_path / "pets", images=6)
    (root / "cat" / "bad\nname.png").write_bytes(b"")
    before = sorted(root.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["inspect", "pets"]) == 0
    text = capsys.readouterr().out
    assert "12 images of 2 classes" in text and "split off: always the same" in text
    assert "cat/bad\\nname.png" in text and "wrote inspect_pets.png" in text
    with Image.open(tmp_path / "inspect_pets.png") as sheet:
        assert sheet.width > 700 and sheet.height > 200
    # Never into the folder.
    monkeypatch.chdir(root)
    assert cli.main(["inspect", "."]) == 0
    assert "wrote" not in capsys.readouterr().out and sorted(root.rglob("*")) == before
    assert cli.main(["inspect", "imagefolder:.", "--json", "--samples", "../drawn.png"]) == 0
    assert (tmp_path / "drawn.png").is_file()


def test_a_class_that_cannot_be_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = fill(tmp_path, ("a", "b", "c"), images=12)
    for file in (root / "c").iterdir():
        file.write_text("<html>404 not found</html>")
    sweep = tmp_path / "broken.yaml"
    dataset = {"name": f"imagefolder:{root}", "image_size": 16}
    written = {"name": "broken", "fixed": {"dataset": dataset}, "grid": {"augmentation": ["none"]}}
    sweep.write_text(json.dumps(written))
    for words in (["inspect", str(root)], ["plan", str(sweep)]):
        assert cli.main(words) == 2
        message = capsys.readouterr().err
        assert message.count("\n") == 1
        assert "none of the 8 train images of class 'c' can be read (c/0" in message
        assert "not an image that Pillow can read" in message


@pytest.mark.parametrize("name", ["", "no/such", "a_file", "a" * 300, "nul\0byte", "unreadable"])
def test_what_is_no_folder_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "a_file").write_text("")
    (tmp_path / "unreadable").mkdir(mode=0)
    assert cli.main(["inspect", f"{tmp_path}/{name}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert os.listdir(tmp_path / "unreadable") == []
