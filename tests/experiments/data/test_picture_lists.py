"""Tables and shards of pictures: what they hold is read as a folder of the same pictures is."""

from __future__ import annotations

import csv
import io
import json
import random
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from mixbench.experiments.config import datasets, picture_list
from mixbench.experiments.config.member_file import content, member_of
from mixbench.experiments.config.picture_list import csv_file, open_list
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.folder_listing import listing_of
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from tests.support import running

LABELS = ["cat", "dog"]
NAMES = [f"{label}/{part}{n}.png" for label in LABELS for n in range(9) for part in "ab"]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The same uneven pictures as a folder and as each kind of list, in another order."""
    root = tmp_path_factory.mktemp("pictures")
    random_numbers = np.random.RandomState(0)
    for name in NAMES:
        path = root / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sides = random_numbers.randint(10, 30, 2)
        pixels = random_numbers.randint(0, 256, (*sides, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    rows = [(f"folder/{name}", name.partition("/")[0]) for name in NAMES]
    random.Random(0).shuffle(rows)
    lists = {
        "imagefolder": root / "folder",
        "csv": table(root / "all.csv", ["path", "label"], *rows),
        "parquet": parquet(root / "parquet", [name for name, _ in rows]),
        "webdataset": shards(root / "shards", [name for name, _ in rows]),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_CACHE", str(root / "cache"))
        yield lists


def parquet(folder: Path, names: list[str]) -> Path:
    """Two files, as `datasets` write them."""
    folder.mkdir()
    contents = [(folder.parent / name).read_bytes() for name in names]
    images = [
        {"bytes": content, "path": Path(name).name}
        for name, content in zip(names, contents, strict=True)
    ]
    labels = [LABELS.index(name.split("/")[1]) for name in names]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    whole = pyarrow.table({"image": pyarrow.array(images, kind), "label": labels})
    features = {"label": {"names": LABELS, "_type": "ClassLabel"}}
    head = {"huggingface": json.dumps({"info": {"features": features}})}
    for number in range(2):
        part = whole.replace_schema_metadata(head).slice(number * 20, 20)
        pyarrow.parquet.write_table(part, folder / f"data-{number:05}-of-00002.parquet")
    return folder


def shards(folder: Path, names: list[str], mode: str = "w") -> Path:
    """Three of them, with numbers as labels and a file of the classes' names."""
    folder.mkdir()
    (folder / "classnames.txt").write_text("\n".join(LABELS))
    for number in range(3):
        with tarfile.open(folder / f"{number}.tar{'.gz' * (mode == 'w:gz')}", mode) as tar:
            for name in names[number::3]:
                label = str(LABELS.index(name.split("/")[1])).encode()
                path = Path(name).relative_to("folder")
                add(tar, str(path.with_suffix(".cls")), label)
                add(tar, str(path), (folder.parent / name).read_bytes())
    return folder


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def table(path: Path, *rows: Any) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def _run(kind: str, place: Path, **dataset: Any) -> dict[str, Any]:
    return {"dataset": {"name": f"{kind}:{place}", "image_size": 12, **dataset}}


@pytest.mark.parametrize("kind", ["csv", "parquet", "webdataset"])
def test_the_pixels_and_splits_are_those_of_the_folder(kind: str, places: dict[str, Path]) -> None:
    wanted, found = (
        load(parse(_run(one, places[one], fit="pad")).dataset, crops=(0.2, 1.0))
        for one in ("imagefolder", kind)
    )
    assert found.classes == wanted.classes and torch.equal(found.mean, wanted.mean)
    for split in ("train", "validation", "test"):
        for one, other in zip(
            *(getattr(dataset, split).batches(64) for dataset in (found, wanted)), strict=True
        ):
            assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])
    draws = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    cut, again = (one.train.cropped(torch.arange(5), draws, (0.2, 1.0)) for one in (found, wanted))
    assert torch.equal(cut[0], again[0])


def test_runs_have_the_same_results_to_the_last_bit(places: dict[str, Path], runs: Path) -> None:
    names = [f"{kind}:{place}" for kind, place in places.items()]
    folder = running.planned(
        {
            "name": "lists",
            "fixed": {
                "dataset": {"image_size": 12},
                "model": {"width": 4},
                "training": {"epochs": 1, "batch_size": 8},
            },
            "grid": {"dataset.name": names},
        }
    )
    assert running.work(folder, "tests") == len(names)
    results = [one.folder.result() for one in folder.plan()]
    assert len({one["run_key"] for one in results}) == len(names)
    metrics = [{k: v for k, v in one["metrics"].items() if "seconds" not in k} for one in results]
    assert all(one == metrics[0] for one in metrics[1:])


def test_a_table_is_known_by_what_it_names_in_any_order(
    places: dict[str, Path], tmp_path: Path
) -> None:
    name = f"csv:{places['csv']}"
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "folder").symlink_to(places["imagefolder"])
    rows = [(f"./folder/{name}", f" {name.partition('/')[0]}", "x") for name in reversed(NAMES)]
    other = f"csv:{table(moved / 'b.csv', ['Path', 'LABEL', 'note'], *rows)}"
    assert datasets.identity(other) == datasets.identity(name)
    semicolons = moved / "c.csv"
    semicolons.write_text(
        "\ufeff" + "\r\n".join(";".join(row) for row in [("path", "label", "n"), *rows])
    )
    assert datasets.identity(f"csv:{semicolons}") == datasets.identity(name)


def test_what_a_table_leaves_out_is_counted_and_named(places: dict[str, Path]) -> None:
    (places["imagefolder"] / "notes.txt").write_text("no picture")
    inner = places["imagefolder"] / "cat"
    rows = [
        [f"../{name}", name.partition("/")[0], "train" if "a" in name.split("/")[1] else "test"]
        for name in NAMES
    ]
    odd = [["gone.png", "cat", "train"], ["", "cat", "test"], ["../cat/a0.png", "", "test"]]
    odd += [["../notes.txt", "cat", "train"], ["..", "dog", "test"], ["a\0b.png", "dog", "test"]]
    listing = listing_of(f"csv:{table(inner / 'odd.csv', ['path', 'label', 'split'], *odd, *rows)}")
    assert len(listing.train[0]) == len(listing.test[0]) == 18 and listing.named == (
        "train",
        "test",
    )
    assert listing.left_out == {
        "row 2: gone.png": "no such file",
        "row 3": "no path",
        "row 4: ../cat/a0.png": "no label",
        "row 5: ../notes.txt": ".txt files are not read",
        "row 6: ..": "not a regular file",
        "row 7: a\0b.png": "no such file",
    }
    assert listing.notes == ("18 pictures outside of the folder of odd.csv, such as ../dog/a0.png",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty; expected a first row path,label"),
        ("file,label\na.png,x\n", "no column 'path' in file,label"),
        ("path,label,label\n", "more than one column 'label'"),
        ("path,label\ncat/a0.png\n", "row 2: got 1 field, expected 2"),
        ("path,label,split\ncat/a0.png,cat,tset\n", "split: got 'tset', .*did you mean 'test'"),
        (
            "path,label\ncat/a0.png,cat\n./cat/a0.png,dog\n",
            "label 'cat' in row 2 and 'dog' in row 3",
        ),
        ("path,label\ncat/a0.png,cat\n", "one class, 'cat'; expected at least two"),
        ("path,label\nx.png,cat\n", r"no picture with a label \(1 left out: no such file\)"),
        (
            "path,label,split\ncat/a0.png,cat,test\n",
            "pictures of test alone; expected some of train",
        ),
        (
            "path,label,split\ncat/a0.png,cat,train\ndog/a0.png,dog,\n",
            r"dog/a0.png has no split, but others have \(train\)",
        ),
        (
            "path,label,split\ncat/a0.png,cat,train\ndog/a0.png,dog,train\ncat/a1.png,cat,test\n",
            "no picture to test on of dog",
        ),
        ('path,label\n"cat/a0.png,cat\n', "row 2: unexpected end of data"),
        (
            "path,label,boxes\ncat/a0.png,cat,9 1 2 3\n",
            "row 2: boxes: got '9 1 2 3', expected left",
        ),
    ],
)
def test_a_table_that_cant_be_read_is_refused_in_a_line(
    text: str, words: str, places: dict[str, Path]
) -> None:
    file = places["imagefolder"] / f"{abs(hash(text))}.csv"
    file.write_text(text)
    with pytest.raises(UserError, match=words) as caught:
        parse({"dataset": {"name": f"csv:{file}"}})
    assert "\n" not in str(caught.value)


def test_boxes_of_a_table(places: dict[str, Path]) -> None:
    rows = [["cat/a0.png", "cat", "1 2 3 4; 0 0 9.5 9 big dog"], ["dog/a0.png", "dog", ""]]
    rows += [["cat/a0.png", "cat", "5 5 6 6"]]
    file = table(places["imagefolder"] / "boxes.csv", ["path", "label", "boxes"], *rows)
    assert csv_file.has_boxes(file) and not csv_file.has_boxes(places["csv"])
    found = [(box.image.name, box.label, box.sides) for box in csv_file.boxes_of(file)]
    assert found == [
        ("a0.png", "cat", (1, 2, 3, 4)),
        ("a0.png", "big dog", (0, 0, 9.5, 9)),
        ("a0.png", "cat", (5, 5, 6, 6)),
    ]
    assert len(open_list(f"csv:{file}").splits["all"]) == 2


def test_a_shard_leaves_out_what_has_no_label_and_compressed_ones_are_copied(
    places: dict[str, Path], tmp_path: Path
) -> None:
    root = places["imagefolder"].parent
    (tmp_path / "folder").symlink_to(places["imagefolder"])
    packed = shards(tmp_path / "packed", [f"folder/{name}" for name in NAMES], "w:gz")
    plain = shards(tmp_path / "plain", [f"folder/{name}" for name in NAMES])
    with tarfile.open(plain / "0.tar", "a") as tar:
        picture = (root / "folder/cat/a0.png").read_bytes()
        for name in ("cat/a0.jpg", "new.png", "._new.png", "new.json", "old.cls"):
            add(tar, name, picture)
    found = [listing_of(f"webdataset:{place}") for place in (packed, plain)]
    assert [content(member) for member in map(member_of, found[0].files) if member] == [
        content(member) for member in map(member_of, found[1].files) if member
    ]
    assert datasets.identity(f"webdataset:{packed}") == datasets.identity(f"webdataset:{plain}")
    assert found[1].left_out == {
        "0.tar: cat/a0.jpg": "a second picture of cat/a0",
        "0.tar: new.png": "no label",
    }
    assert found[1].others == {"hidden": 1, ".json": 1, ".cls without a picture": 1}


def test_files_of_splits_are_told_by_their_names(places: dict[str, Path], tmp_path: Path) -> None:
    whole = pyarrow.parquet.read_table(places["parquet"])
    names = pyarrow.array([LABELS[n] for n in whole["label"].to_pylist()])
    flat = pyarrow.table({"image": pyarrow.compute.struct_field(whole["image"], 0), "label": names})
    for name in ("train-00000-of-00001", "default/validation/0000", "test"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(flat, tmp_path / f"{name}.parquet")
    listing = listing_of(f"parquet:{tmp_path}")
    assert listing.named == ("train", "validation", "test") and listing.classes == ("cat", "dog")
    assert len(listing.train[0]) == len(listing.test[0]) == 36
    pyarrow.parquet.write_table(flat, tmp_path / "more.parquet")
    with pytest.raises(UserError, match=r"more.parquet names no split, but others do \(train, val"):
        picture_list.KINDS["parquet"](str(tmp_path))


BAD = {
    "nothing there": ("parquet", None, "is not there; expected a folder of .parquet files"),
    "arrow": (
        "parquet",
        {"data.arrow": b""},
        "it has files of .*[.]arrow; .*to_parquet what is read",
    ),
    "damaged": ("parquet", {"a.parquet": b"x" * 50}, "a.parquet can't be read: "),
    "a column": (
        "parquet",
        {"a.parquet": {"img": [b"x"], "label": [0]}},
        "no column 'image'; did you mean 'img'.*rename_column",
    ),
    "no bytes": ("parquet", {"a.parquet": {"image": ["x"], "label": [0]}}, "image: got string"),
    "a fraction": (
        "parquet",
        {"a.parquet": {"image": [b"x"], "label": [0.5]}},
        "label: got double",
    ),
    "unlabelled": (
        "parquet",
        {"a.parquet": {"image": [b"x", b"y"], "label": [-1, None]}},
        r"no picture with a label \(2 left out: no label\)",
    ),
    "no tar": ("webdataset", {"a.tar": b"x" * 600}, "a.tar can't be read: "),
    "cut off": ("webdataset", {"a.tar": None}, "a.tar can't be read: unexpected end of data"),
    "too few names": (
        "webdataset",
        {"a.tar": {"1.png": b"x", "1.cls": b"7"}},
        "label 7, but 2 nam",
    ),
    "another name": (
        "webdataset",
        {"a.tar": {"1.png": b"x", "1.cls": b"cow"}},
        "label 'cow' is not",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_files_that_cant_be_read_are_refused_in_a_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path / "cache"))
    kind, files, words = BAD[case]
    place = tmp_path / "data"
    if files is not None:
        place.mkdir()
        (place / "classnames.txt").write_text("cat\ndog\n")
    for name, inside in (files or {}).items():
        if isinstance(inside, bytes):
            (place / name).write_bytes(inside)
        elif kind == "parquet":
            pyarrow.parquet.write_table(pyarrow.table(inside), place / name)
        else:
            with tarfile.open(place / name, "w") as tar:
                for one, data in (inside or {"1.png": b"x" * 9000}).items():
                    add(tar, one, data)
            if inside is None:
                (place / name).write_bytes((place / name).read_bytes()[:5000])
    with pytest.raises(UserError, match=words) as caught:
        parse(_run(kind, place))
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("pictures/.*/"))


def test_without_room_for_the_cache_shards_are_read_and_parquet_says_so(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path / "file"))
    assert len(picture_list.KINDS["webdataset"](str(places["webdataset"])).splits["all"]) == 36
    with pytest.raises(
        UserError, match=r"can't be kept in .*; name another place in MIXBENCH_CACHE"
    ):
        picture_list.KINDS["parquet"](str(places["parquet"]))


def test_without_its_package_parquet_says_so(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow to read files; pip install"):
        picture_list.KINDS["parquet"](str(places["parquet"]))


@pytest.mark.parametrize("damage", ["bytes.bin", "pictures.json", "killed"])
def test_a_damaged_or_unfinished_entry_of_the_cache_is_made_anew(
    damage: str, places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path))
    first = picture_list.KINDS["parquet"](str(places["parquet"]))
    (entry,) = (tmp_path / "pictures").iterdir()
    if damage == "killed":
        entry.rename(entry.with_name(f".{entry.name}.0"))
    else:
        (entry / damage).write_bytes((entry / damage).read_bytes()[:40])
    again = picture_list.KINDS["parquet"](str(places["parquet"]))
    assert again.digest() == first.digest() and list((tmp_path / "pictures").iterdir()) == [entry]
    member = member_of(again.splits["all"][0].path)
    assert member is not None
    assert content(member) == (places["imagefolder"] / "cat/a0.png").read_bytes()
