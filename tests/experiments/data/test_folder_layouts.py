"""How image folders are laid out: what is read as what, and what is refused with what was seen."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from mixbench.experiments.config import image_folder
from mixbench.experiments.config.image_folder import names, suffixes
from mixbench.experiments.data.folder_listing import Listing, scan
from mixbench.experiments.errors import UserError
from tests.support.folders import fill, png

CAFE = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]


def read(root: Path) -> tuple[tuple[str, ...], list[int | None]]:
    """The classes, and how many images train, validate (None: of the training ones) and test."""
    listing = scan(str(root))
    parts = (listing.train, listing.validation, listing.test)
    return listing.classes, [None if part is None else len(part[0]) for part in parts]


SPLITS = {
    ("train", "test"): [10, None, 6],
    ("Train", "TEST"): [10, None, 6],
    ("Training", "Testing"): [10, None, 6],
    ("trn", "tst"): [10, None, 6],
    ("train_set", "test images"): [10, None, 6],
    ("01_train", "02_test"): [10, None, 6],
    ("train", "eval"): [10, None, 6],
    ("train", "holdout"): [10, None, 6],
    ("train", "val"): [8, 6, 2],
    ("train", "validation"): [8, 6, 2],
    ("TRAIN", "Valid"): [8, 6, 2],
    ("train", "dev"): [8, 6, 2],
    ("train", "val", "test"): [10, 6, 6],
    ("training", "validation", "evaluation"): [10, 6, 6],
    ("train", "eval", "test"): [10, 6, 6],
    ("train",): [8, None, 2],
}


@pytest.mark.parametrize("folders", SPLITS)
def test_splits_go_by_their_usual_names(tmp_path: Path, folders: tuple[str, ...]) -> None:
    for name in folders:
        fill(tmp_path / name, images=5 if name is folders[0] else 3)
    assert read(tmp_path) == (("cat", "dog"), SPLITS[folders])
    # The whole data set in one more folder, as many archives have it, with what a Mac adds.
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "__MACOSX").mkdir()
    inner = tmp_path / "outer" / "data_v2" / "v2"
    inner.mkdir(parents=True)
    for name in folders:
        (tmp_path / name).rename(inner / name)
    assert read(tmp_path / "outer") == (("cat", "dog"), SPLITS[folders])
    assert image_folder.digest(str(tmp_path / "outer")) == image_folder.digest(str(inner))


@pytest.mark.parametrize("held_out", ["", "images", "unknown"])
def test_images_without_labels_are_no_test_set(tmp_path: Path, held_out: str) -> None:
    fill(tmp_path / "train")
    fill(tmp_path / "val", images=2)
    fill(tmp_path / "test", [held_out or "."])
    listing = scan(str(tmp_path))
    assert read(tmp_path) == (("cat", "dog"), [8, 4, 2])
    (reason,) = listing.left_out.values()
    assert list(listing.left_out) == [str(tmp_path / "test")] and "5 images" in reason


REFUSED = {
    "folds": ("fold_1 fold_2", "cat dog", "look like parts of the data"),
    "folds without class folders": ("fold1 fold2 fold3", "", "look like parts of the data"),
    "batches": ("batch-a batch-b", "cat dog", "look like parts"),
    "images and masks": ("images masks", "", "look like images and their masks"),
    "images and masks of classes": ("Images Masks", "cat dog", "look like images and their"),
    "YOLO": ("images labels", "train val", "look like images and their masks"),
    "VOC": ("Annotations JPEGImages ImageSets", "", "look like images and their masks"),
    "Roboflow": ("train valid test", "images labels", "look like images and their masks"),
    "years": ("2019 2020", "cat dog", "all hold the same folders, cat, dog"),
    "domains": ("amazon/images dslr/images", "cat dog", "all hold the same folders, cat, dog"),
    "splits in Spanish": ("entrenamiento prueba", "cat dog", "all hold the same folders"),
    "classes first": ("cat dog", "train test", "all hold the same folders, test, train"),
    "CycleGAN": ("trainA trainB testA testB", "", "look like splits"),
    "COCO": ("train2017 val2017", "", "look like splits"),
    "classes in names": ("train_cat train_dog test_cat test_dog", "", "look like splits"),
    "no training": ("val test", "cat dog", "no folder for training"),
    "flat splits": ("train test", "", "train has no folders, 5 images"),
    "two for training": ("train training test", "cat dog", "2 folders for training"),
    "two for testing": ("train test Testing", "cat dog", "2 folders for test"),
    "no telling what for": ("train val test eval", "cat dog", "what eval is for can't be told"),
    "a class or the training": ("train car", "a b", "whether train is a class"),
    "splits in the split": ("train test", "train test", "look like splits"),
    "one class": ("train test", "cat", "train has 1 folders with 5 images: cat"),
    "one more folder": ("flowers", "cat dog", "if cat, dog are the classes, name imagefolder:"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_layouts_are_refused_with_what_was_seen(tmp_path: Path, case: str) -> None:
    above, below, expected = REFUSED[case]
    for name in above.split():
        fill(tmp_path / name, below.split() or ["."])
    with pytest.raises(UserError) as caught:
        scan(str(tmp_path))
    assert expected in str(caught.value) and "expected" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_part_of_the_data_may_lack_a_class(tmp_path: Path) -> None:
    fill(tmp_path / "2019", ("cat", "dog"))
    fill(tmp_path / "2020", ("dog",))
    with pytest.raises(UserError, match="2019, 2020 all hold the same folders, dog, so"):
        scan(str(tmp_path))
    # With images of their own they are classes, and the folder is a part of them.
    fill(tmp_path, ("2019", "2020"))
    assert read(tmp_path)[0] == ("2019", "2020")


CLASSES = {
    "a class called train": ("bus train tram", ""),
    "a class called test": ("control test", ""),
    "classes called valid and invalid": ("invalid valid", ""),
    "with and without masks": ("mask no_mask", ""),
    "numbers": ("0 1 2", ""),
    "years": ("1999 2000", ""),
    "a folder of images in each": ("n01443537 n01629819", "images"),
}


@pytest.mark.parametrize("case", CLASSES)
def test_names_that_only_look_like_splits_are_classes(tmp_path: Path, case: str) -> None:
    classes, below = (text.split() for text in CLASSES[case])
    for name in classes:
        fill(tmp_path / name, below or ["."])
    assert read(tmp_path)[0] == tuple(classes)


def test_classes_called_like_splits_within_splits(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill(tmp_path / part, ("bus", "train"))
    assert read(tmp_path) == (("bus", "train"), [10, None, 10])


def test_class_names_of_two_splits_are_compared_normalised(tmp_path: Path) -> None:
    fill(tmp_path / "train", (CAFE[0], "Bar "))
    fill(tmp_path / "test", (CAFE[1], "bar"))
    listing = scan(str(tmp_path))
    assert listing.classes == ("Bar ", CAFE[0])
    assert listing.test[1].tolist() == [0] * 5 + [1] * 5
    assert all(path.parent.name == "bar" for path in listing.test[0][:5])
    assert listing.notes == ("the class 'Bar ' is called 'bar' in test",)
    fill(tmp_path / "train", (CAFE[1],))
    with pytest.raises(UserError, match="two folders 'café', written with different Unicode"):
        scan(str(tmp_path))


def test_capital_and_small_letters_are_two_classes(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill(tmp_path / part, ("A", "a", "B"))
    assert read(tmp_path) == (("A", "B", "a"), [15, None, 15])


def test_a_class_may_be_missing_where_nothing_is_measured(tmp_path: Path) -> None:
    fill(tmp_path / "train", ("cat", "dog", "owl"))
    fill(tmp_path / "val", ("cat", "dog"))
    assert read(tmp_path)[1] == [12, 10, 3]
    fill(tmp_path / "test", ("cat", "dog"))
    with pytest.raises(UserError, match=r"test has other class folders than .*train: no owl"):
        scan(str(tmp_path))


# Links, suffixes and what is left out


def left_out(listing: Listing) -> dict[str, str]:
    return {
        str(Path(path).relative_to(listing.root)): why for path, why in listing.left_out.items()
    }


def test_links_are_followed_once_and_not_back(tmp_path: Path) -> None:
    root = fill(tmp_path / "data", images=4)
    archive = fill(tmp_path / "archive", ("more", "more/deeper"), images=3)
    (root / "cat" / "archive").symlink_to(archive)
    (root / "cat" / "0_first").symlink_to(archive / "more")  # again, and before it by name
    (root / "cat" / "back").symlink_to(root)
    (archive / "back").symlink_to(root / "cat")
    (archive / "loop").symlink_to(archive / "loop")
    (root / "owl").symlink_to(archive / "more")
    (root / "all").symlink_to(root)
    listing = scan(str(root))
    assert listing.classes == ("cat", "dog", "owl")
    files = [str(path.relative_to(root)) for path in listing.train[0] + listing.test[0]]
    assert len(files) == len(set(files)) == (4 + 3 + 3) + 4 + (3 + 3)
    assert len({path.resolve() for path in (root / "cat").rglob("*.png")}) == 4
    notes = " ".join(listing.notes)
    assert "all leads back" in notes and "cat/back leads back" in notes
    assert "can't be followed" in left_out(listing)["cat/archive/loop"]


def test_links_that_lead_nowhere(tmp_path: Path) -> None:
    root = fill(tmp_path)
    (root / "cat" / "99.png").symlink_to("/nonexistent/picture.png")
    (root / "cat" / "folder").symlink_to("/nonexistent/folder")
    os.mkfifo(root / "dog" / "pipe.png")
    found = left_out(scan(str(root)))
    assert found == {
        "cat/99.png": "a link that leads nowhere, to /nonexistent/picture.png",
        "cat/folder": "a link that leads nowhere, to /nonexistent/folder",
        "dog/pipe.png": "not a regular file",
    }
    image_folder.digest.cache_clear()
    assert len(image_folder.digest(str(root))) == 16
    (root / "owl").symlink_to("/nonexistent/owl")
    with pytest.raises(UserError, match="owl is a link that leads nowhere"):
        scan(str(root))


def test_every_suffix_of_pillow_is_an_image_or_known_not_to_be() -> None:
    Image.init()
    known = suffixes.IMAGES | suffixes.OTHER_IMAGES | suffixes.NOT_IMAGES
    assert set(Image.registered_extensions()) <= known
    assert not suffixes.IMAGES & (suffixes.OTHER_IMAGES | suffixes.NOT_IMAGES)


def test_what_is_an_image_and_what_is_named(tmp_path: Path) -> None:
    root = fill(tmp_path, images=2)
    cat = root / "cat"
    for name in ("A.PNG", "b.JfIf", "no_suffix", "d.jpg_large", "e.heic", "f.pgm"):
        (cat / name).write_bytes(png("1"))
    backups = ("00.png.bak", "00.png~", "01.svg", "02.NEF")
    for name in backups:
        (cat / name).write_bytes(png("2"))
    for name in ("Thumbs.db", "labels.txt", ".hidden.png", "._00.png", "README", "x.npy"):
        (cat / name).write_bytes(b"\0\0text")
    fill(root, ["cat/.ipynb_checkpoints", "cat/__MACOSX"])
    (root / "beside.png").write_bytes(png("3"))
    listing = scan(str(root))
    used = [path.name for path in listing.train[0] + listing.test[0] if "cat" in path.parts]
    assert sorted(used) == sorted(
        ["00.png", "01.png", "A.PNG", "b.JfIf", "no_suffix", "d.jpg_large", "e.heic", "f.pgm"]
    )
    named = left_out(listing)
    assert sorted(named) == [
        "beside.png",
        *(f"cat/{n}" for n in sorted(("00.png.bak", "00.png~", "01.svg", "02.NEF"))),
    ]
    assert named["beside.png"] == "lies beside the class folders"


def test_a_folder_beside_the_splits_is_named_if_it_has_images(tmp_path: Path) -> None:
    for part in ("train", "test"):
        fill(tmp_path / part)
    fill(tmp_path / "unsorted", ["."])
    (tmp_path / "docs").mkdir()
    assert list(left_out(scan(str(tmp_path)))) == ["unsorted"]


def digest_of_before(root: Path, folders: list[str]) -> str:
    """What identified a folder up to version 0.2: sorted names and sizes of its class folders."""
    total = hashlib.sha256()
    for folder in folders:
        for entry in sorted((root / folder).iterdir()):
            for base, below, files in os.walk(entry):
                below.sort()
                for file in sorted(files):
                    path = Path(base) / file
                    total.update(f"{path.relative_to(root)}\0{path.stat().st_size}\n".encode())
    return total.hexdigest()[:16]


def test_folders_that_were_read_right_keep_their_key(tmp_path: Path) -> None:
    fill(tmp_path / "undivided", ("cat", "dog", "dog/b", "dog/a", "dog/a/x", "é"))
    here = str(tmp_path / "undivided")
    assert image_folder.digest(here) == digest_of_before(tmp_path / "undivided", ["."])
    for part in ("train", "test"):
        fill(tmp_path / "divided" / part, ("cat", "dog"))
    divided = tmp_path / "divided"
    assert image_folder.digest(str(divided)) == digest_of_before(divided, ["train", "test"])
    # With validation images other images train, so it is another key.
    fill(tmp_path / "validated" / "train")
    fill(tmp_path / "validated" / "val")
    validated = tmp_path / "validated"
    assert image_folder.digest(str(validated)) != digest_of_before(validated, ["train", "val"])
    # These were taken for classes.
    fill(tmp_path / "short" / "trn")
    fill(tmp_path / "short" / "tst")
    short = tmp_path / "short"
    assert image_folder.digest(str(short)) != digest_of_before(short, ["."])


@pytest.mark.parametrize("name", ["trainer", "test_tube", "value", "device", "valve", "fold"])
def test_ordinary_words_are_no_splits(name: str) -> None:
    assert names.split_kind(name) is None and names.why_not_classes([name, "other"]) is None
