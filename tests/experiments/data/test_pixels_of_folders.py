"""Crops from full pictures, other shapes, one scale of pixels, the cache: what is trained on."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mixbench.experiments import cli
from mixbench.experiments.config import resolve
from mixbench.experiments.config.data_text import training_images
from mixbench.experiments.data import folder_pixels, picture_cache, picture_store, survey_cache
from mixbench.experiments.data.dataset import Dataset
from mixbench.experiments.data.file_split import FileSplit
from mixbench.experiments.data.geometry import Shape, crop_area, lost, window
from mixbench.experiments.data.load import check_sizes, fitted, load
from mixbench.experiments.data.pixel_range import survey
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.data.stored_split import CroppedSplit, StoredSplit
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep.expand import expand

RANDOM = np.random.RandomState(3)
CROPS = (0.08, 1.0)
RAMP = np.tile(np.linspace(0, 1, 40), (40, 1))


def save(path: Path, pixels: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def opened(folder: Path, crops: Any = None, workers: int = 0, **keys: Any) -> Dataset:
    raw = {"name": f"imagefolder:{folder}", "image_size": 16, **keys}
    return load(resolve.parse({"dataset": raw}).dataset, workers=workers, crops=crops)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Colour, grey and 16-bit pictures, high and wide, with one that can't be read."""
    for name in ("cat", "dog"):
        for number in range(8):
            shape = (30, 44) if number % 2 else (50, 28)
            values = RANDOM.randint(0, 256, (*shape, 3)).astype(np.uint8)
            save(tmp_path / "8" / name / f"{number}.png", values if number else values[:, :, 0])
            many = RANDOM.randint(0, 4096, shape).astype(np.uint16)
            save(tmp_path / "16" / name / f"{number}.png", many if number else values)
        (tmp_path / "8" / name / "7.png").write_bytes(b"no")
    return tmp_path


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nothing fits in memory; the cache is empty. Returns where it is."""
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pictures"


def all_of(dataset: Dataset, crops: Any) -> list[torch.Tensor]:
    """The images of every split, and those of two parts of an epoch from its second batch on."""
    splits = (dataset.train, dataset.validation, dataset.test)
    found = [torch.cat([x for x, _ in split.batches(3)]) for split in splits]
    for part in ((0, 2), (1, 2)):
        generator = torch.Generator().manual_seed(5)
        epoch = dataset.train.epoch(4, generator, start=1, part=part, crops=crops)
        for images, labels in epoch:
            found += [images, labels]
    return found


# Shapes


def test_windows_by_hand() -> None:
    square, high = Shape(10, 10), Shape(20, 10)
    assert window(40, 20, square) == (10, 0, 20, 20)
    assert window(40, 20, high) == (15, 0, 10, 20)
    assert window(40, 20, Shape(10, 10, "pad")) == (0, -10, 40, 40)
    assert window(40, 20, Shape(20, 10, "stretch")) == (0, 0, 40, 20)
    assert lost(40, 20, square) == 0.5 and lost(40, 20, Shape(10, 10, "pad")) == 0
    # A crop of a stretched picture is as much wider as the picture is.
    assert crop_area(40, 20, Shape(10, 10, "stretch"))[1] == 1
    assert crop_area(40, 20, square)[1] == 2 and crop_area(40, 20, high)[1] == 4


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_arrays_and_pictures_get_the_same_shape(tmp_path: Path, fit: Any) -> None:
    smooth = Image.fromarray(RANDOM.randint(0, 256, (5, 5, 3)).astype(np.uint8)).resize((40, 40))
    for number in range(8):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", np.asarray(smooth))
    found = opened(tmp_path, image_size=[24, 12], fit=fit, validation_fraction=0.5)
    image = next(found.test.batches(1))[0]
    assert found.shape == (3, 24, 12) and image.shape == (1, 3, 24, 12)
    whole = torch.from_numpy(np.array(smooth)).permute(2, 0, 1)[None]
    expected = fitted(whole, Shape(24, 12, fit))
    # At the sides Pillow also smooths with what is cut off.
    assert (image.int() - expected.int())[..., 1:-1].abs().max() <= 3
    assert bool((image[:, :, 0] == 0).all()) == (fit == "pad")


@pytest.mark.parametrize("kind", ["8", "16"])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.usefixtures("no_memory")
def test_memory_cache_and_files_give_the_same_images(
    mixed: Path, monkeypatch: pytest.MonkeyPatch, fit: Any, kind: str
) -> None:
    def open_(**more: Any) -> Dataset:
        keys: dict[str, Any] = {"image_size": [12, 16], "fit": fit, **more}
        return opened(mixed / kind, CROPS, validation_fraction=0.3, **keys)

    stored = open_()
    assert isinstance(stored.train, CroppedSplit) and isinstance(stored.test, StoredSplit)
    with monkeypatch.context() as patch:
        patch.setattr(folder_pixels, "IN_MEMORY_BYTES", 2**30)
        kept = open_()
    assert isinstance(kept.train, CroppedSplit) and isinstance(kept.test, ArraySplit)
    assert stored.digest == kept.digest and len(kept.skipped) == (2 if kind == "8" else 0)
    assert {*kept.skipped} == {*stored.skipped}
    expected = all_of(kept, CROPS)
    assert (expected[0].dtype == torch.float32) == (kind == "16")
    for one, two in zip(expected, all_of(stored, CROPS), strict=True):
        assert torch.equal(one, two)
    torch.testing.assert_close(kept.mean, stored.mean)
    if kind == "16":  # the epochs of streamed files count those that can't be read
        monkeypatch.setattr(picture_cache, "open_or_make", lambda *_: None)
        streamed = open_()
        assert isinstance(streamed.train, FileSplit)
        for one, two in zip(expected, all_of(streamed, CROPS), strict=True):
            assert torch.equal(one, two)
        torch.set_num_threads(3)
        try:
            for one, two in zip(expected, all_of(open_(), CROPS), strict=True):
                assert torch.equal(one, two)
        finally:
            torch.set_num_threads(1)


def test_crops_are_cut_from_the_full_picture(tmp_path: Path) -> None:
    # Red on the left, a green square in the middle, blue on the right; stripes of one pixel.
    picture = np.zeros((64, 192, 3), np.uint8)
    for number in range(3):
        picture[:, 64 * number : 64 * (number + 1) : 2, number] = 255
    for number in range(8):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", picture)
    found = opened(tmp_path, (0.02, 0.03), validation_fraction=0.5)
    assert (next(found.train.batches(1))[0][:, 1] > 100).all()
    index = torch.zeros(200, dtype=torch.int64)
    draws = torch.rand(200, 4, generator=torch.Generator().manual_seed(0))
    crops, _ = found.train.cropped(index, draws, (0.02, 0.03))
    strongest = crops.float().mean((2, 3)).argmax(1).bincount(minlength=3)
    assert strongest.min() > 40
    # A part of 16 to 19 pixels, not a blur of the 64 that a shrunken square would have given.
    assert crops.float().std(3).amax((1, 2)).median() > 60


def test_what_training_sees_in_words(tmp_path: Path) -> None:
    for name in ("a/0.png", "a/1.png", "b/0.png", "b/1.png"):
        save(tmp_path / name, np.zeros((9, 9), np.uint8))

    def words(dataset: Any, training: Any) -> str:
        return training_images(resolve.parse({"dataset": dataset, "training": training}))

    folder = {"name": f"imagefolder:{tmp_path}", "image_size": [96, 64]}
    assert words(folder, {}) == (
        "training sees 96 x 64 pixels (height x width), random crops of 8 to 100 % of the area of "
        "the full picture, half of them mirrored; tests see the middle of each picture"
    )
    assert words({**folder, "fit": "pad"}, {"crop": "none", "flip": False}) == (
        "training sees 96 x 64 pixels (height x width), no random crops, none mirrored; an image "
        "is all of each picture, with black borders"
    )
    assert "moved by up to 2 pixels, half" in words({"name": "fashion_mnist"}, {})
    # An eighth of the shorter side, where the data set has no usual padding.
    assert "moved by up to 8 pixels" in words(folder, {"crop": "pad"})


# One scale for a data set


def grey(root: Path, arrays: list[Any], suffix: str = "tif") -> Path:
    """Four pictures of each of two classes: these arrays, then ramps of their kind."""
    for number, array in enumerate([*arrays, *[arrays[0]] * (8 - len(arrays))]):
        save(root / "ab"[number % 2] / f"{number // 2}.{suffix}", array)
    return root


def levels(found: Dataset) -> set[tuple[float, ...]]:
    """The rows, from 0 to 255, of the middle of every picture, a number in ten."""
    images = [x for s in (found.train, found.validation, found.test) for x, _ in s.batches(9)]
    return {tuple(round(v, 1) for v in row) for row in torch.cat(images)[:, 0, 20, ::10].tolist()}


@pytest.mark.parametrize(
    ("first", "change", "expected", "said"),
    [
        (RAMP.astype("float32"), 1.01, (0, 1.01), "fractions from 0"),
        (RAMP.astype("float32"), 1.0, (0, 1), "fractions from 0"),
        (RAMP.astype("float32"), np.inf, (0, 1), "1 image with pixels that are not finite"),
        (RAMP.astype("float32"), np.nan, (0, 1), "1 image with pixels that are not finite"),
        ((RAMP * 2 - 1).astype("float32"), -1, (-1, 1), "from -1 (black) to 1 (white)"),
        ((RAMP * 250).astype("int32"), 256, (0, 511), "whole numbers from 0"),
        ((RAMP * 250).astype("int32"), 250, (0, 255), "whole numbers from 0"),
        ((RAMP * 1e6).astype("int32"), 5, (0, 2**20 - 1), "1.04858e+06 (white)"),
        ((RAMP * 3000 - 1000).astype("int32"), 0, (-1000, 2000), "whole numbers from -1000"),
        ((RAMP * 4095).astype("uint16"), 7, (0, 4095), "from 0 (black) to 4095 (white)"),
    ],
)
def test_the_scale_is_that_of_the_data_set(
    tmp_path: Path, first: Any, change: float, expected: Any, said: str
) -> None:
    other = first.copy()
    other[0, 0] = change
    found = opened(grey(tmp_path, [first, other]), image_size=40)
    low, high = expected
    rows = levels(found)
    (row,) = rows  # one brightest pixel changes no other picture, nor the rest of its own
    exact = (first[20, ::10].astype(float) - low) / (high - low) * 255
    np.testing.assert_allclose(row, exact, atol=0.06)
    assert any(said in note for note in found.notes)
    assert found.train.shape == (3, 40, 40) and found.scale.is_wide


def test_the_scale_does_not_depend_on_what_is_trained_on(tmp_path: Path) -> None:
    array = (RAMP * 4095).astype("uint16")
    bright = array.copy()
    bright[0] = 60000
    folder = grey(tmp_path, [array] * 7 + [bright], "png")
    more = {"train_size": 4, "validation_fraction": 0.5}
    scales = [opened(folder, split_seed=seed, **more).scale for seed in range(4)]
    assert {scale.whole for scale in scales} == {(0, 65535)}


def test_a_range_that_is_given(tmp_path: Path) -> None:
    array = (RAMP * 4095).astype("uint16")
    bright = array.copy()
    bright[0, 0] = 5000
    folder = grey(tmp_path / "x", [array, bright], "png")
    found = opened(folder, image_size=40, pixel_range=[0, 4095])
    np.testing.assert_allclose(levels(found).pop(), RAMP[20, ::10] * 255, atol=0.1)
    assert found.notes[-1] == (
        "dataset.pixel_range: 1 of 8 images with more than 8 bits have pixels outside of 0 to "
        "4095, from 0 to 5000: cut off"
    )
    assert opened(folder, image_size=40).digest != found.digest
    keys = [
        resolve.parse({"dataset": {"name": f"imagefolder:{folder}", **more}}).run_key
        for more in ({}, {"pixel_range": [0, 4095]}, {"pixel_range": [0.0, 4095.0]})
    ]
    assert keys[0] != keys[1] == keys[2]
    bytes_ = grey(tmp_path / "y", [(RAMP * 255).astype("uint8")], "png")
    config = resolve.parse(
        {"dataset": {"name": f"imagefolder:{bytes_}", "pixel_range": [0, 4095]}}
    ).dataset
    for refusing in (check_sizes, load):
        with pytest.raises(UserError, match=r"pixel_range: got \[0.0, 4095.0\], but all images"):
            refusing(config)
    assert not opened(bytes_, pixel_range=[0, 255]).scale.is_wide


def test_many_files_are_looked_at_once(
    tmp_path: Path, no_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = (RAMP * 4095).astype("uint16")
    paths = sorted(grey(tmp_path / "x", [array, array - 5], "png").rglob("*.png"))
    monkeypatch.setattr(survey_cache, "MANY", 8)
    first = survey_cache.surveyed(tmp_path, paths, None, 1)
    assert first.scale.whole == (0, 65535) and first.sizes.tolist() == [[40, 40]] * 8
    with monkeypatch.context() as patch:
        patch.setattr(survey_cache, "survey", None)
        again = survey_cache.surveyed(tmp_path, paths, None, 2)
    assert (again.scale, again.notes) == (first.scale, first.notes)
    assert np.array_equal(again.sizes, first.sizes)
    (entry,) = picture_cache.entries(tmp_path)
    (entry.path / "entry.json").write_text("{")
    assert survey_cache.surveyed(tmp_path, paths, None, 1).scale == first.scale
    save(paths[1], array)
    os.utime(paths[1], ns=(1, time.time_ns()))
    assert survey_cache.surveyed(tmp_path, paths, (0.0, 9.0), 1).scale.whole == (0, 9)
    assert no_memory.is_dir()


def test_bytes_among_more_bits_keep_their_own_scale(tmp_path: Path) -> None:
    few, many = (RAMP * 255).astype("uint8"), (RAMP * 1000).astype("uint16")
    folder = grey(tmp_path, [few, few, many, many], "png")
    assert survey(sorted(folder.rglob("*.png"))).scale.whole == (0, 1023)
    rows = levels(opened(folder, image_size=40))
    whites = sorted(max(row) for row in rows)
    assert len(rows) == 2 and whites[1] / whites[0] == pytest.approx(1023 / 1000, rel=0.01)


# The cache


def photographs(root: Path) -> Path:
    for number in range(24):
        pixels = RANDOM.randint(0, 256, (20, 30, 3)).astype(np.uint8)
        save(root / "ab"[number % 2] / f"{number:02}.png", pixels)
    return root


def test_the_cache_is_made_once_for_every_split_seed(
    tmp_path: Path, no_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = photographs(tmp_path / "photographs")
    first = opened(folder, CROPS)
    expected = all_of(first, CROPS)
    entries = picture_cache.entries(folder)
    # All pictures at 16 x 16; those of training and validation as they are.
    assert [entry.pictures for entry in entries] in ([24, 19], [19, 24])
    assert sum(entry.size for entry in entries) >= (24 * 16 * 16 + 19 * 20 * 30) * 3
    assert picture_cache.entries(tmp_path) == [] and len(picture_cache.entries()) == 2
    monkeypatch.setattr(folder_pixels, "decode", print)
    monkeypatch.setattr(folder_pixels, "decode_whole", print)
    for one, two in zip(expected, all_of(opened(folder, CROPS), CROPS), strict=True):
        assert torch.equal(one, two)
    opened(folder, CROPS, split_seed=4)
    opened(folder, (0.08, 0.5))
    monkeypatch.undo()
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
    monkeypatch.setenv("MIXBENCH_CACHE", str(no_memory.parent))
    # Another picture under the same name, of the same size in bytes.
    changed = folder / "a" / "00.png"
    os.utime(changed, ns=(1, time.time_ns()))
    opened(folder, CROPS)
    assert len(picture_cache.entries()) == 4
    assert not [path for path in no_memory.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("what", ["pixels", "index", "entry", "short"])
def test_a_damaged_cache_changes_no_image(
    tmp_path: Path, no_memory: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    folder = photographs(tmp_path / "photographs")
    expected = all_of(opened(folder, CROPS), CROPS)
    for entry in picture_cache.entries():
        name = {"index": "index.npy", "entry": "entry.json"}.get(what, "pixels.bin")
        content = bytearray((entry.path / name).read_bytes())
        content[len(content) // 2] ^= 0xFF
        (entry.path / name).write_bytes(content[:-1] if what == "short" else content)
    with caplog.at_level(logging.WARNING):
        found = all_of(opened(folder, CROPS), CROPS)
        assert caplog.records
        for one, two in zip(expected, found, strict=True):
            assert torch.equal(one, two)
        caplog.clear()
        for one, two in zip(expected, all_of(opened(folder, CROPS), CROPS), strict=True):
            assert torch.equal(one, two)
        assert not caplog.records and len(picture_cache.entries()) == 2


def test_a_full_disk_is_said_once_and_pictures_are_decoded(
    tmp_path: Path,
    no_memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = photographs(tmp_path / "photographs")

    def full(_file: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(picture_store, "_sync", full)
    found = opened(folder, CROPS)
    assert isinstance(found.train, FileSplit) and len(all_of(found, CROPS)) > 3
    (said,) = (record.getMessage() for record in caplog.records)
    assert "No space left on device" in said and "decoded again in every epoch" in said
    assert list(no_memory.iterdir()) == []
    monkeypatch.setattr(picture_cache, "LEFT_FREE", 2**60)
    assert isinstance(opened(folder, CROPS).train, FileSplit)
    assert "GB that are free" in caplog.text
    monkeypatch.setenv("MIXBENCH_CACHE", str(folder / "a" / "00.png"))
    assert isinstance(opened(folder, CROPS).train, FileSplit)


def _open_with_others(folder: Path, start: Any, found: Any) -> None:
    plain = folder_pixels.decode
    marks = folder.parent / "decoded"

    def decode(path: Path, form: Any) -> Any:
        # The first one gets no further than this, and is killed.
        while marks.is_dir() and len(list(marks.iterdir())) == 4:
            time.sleep(0.01)
        marks.mkdir(exist_ok=True)
        (marks / f"{os.getpid()} {path.name}").touch()
        return plain(path, form)

    folder_pixels.decode = decode
    start.wait()
    images = all_of(opened(folder), None)
    found.put(sum(int(image.sum()) for image in images))


@pytest.mark.usefixtures("no_memory")
def test_several_at_once_make_it_once_and_a_kill_leaves_nothing(
    tmp_path: Path, no_memory: Path
) -> None:
    folder = photographs(tmp_path / "photographs")
    fork = multiprocessing.get_context("fork")
    start, found = fork.Event(), fork.Queue()
    processes = [
        fork.Process(target=_open_with_others, args=(folder, start, found)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    start.set()
    marks = tmp_path / "decoded"
    while not marks.is_dir() or len(list(marks.iterdir())) < 4:
        time.sleep(0.01)
    first = {path.name.split()[0] for path in marks.iterdir()}
    assert len(first) == 1  # the others wait
    maker = next(process for process in processes if str(process.pid) in first)
    maker.kill()
    maker.join(300)
    (marks / "killed").touch()
    sums = [found.get(timeout=300) for _ in range(2)]
    for process in processes:
        process.join(300)
    assert len(set(sums)) == 1
    (marks / "killed").unlink()
    assert len({path.name.split()[0] for path in marks.iterdir()}) == 2  # one more, not both
    assert [path.name[0] for path in no_memory.iterdir()] != ["."]
    assert len(list(no_memory.iterdir())) == 1


def test_clean_lists_and_deletes_what_the_sweep_has_in_the_cache(
    tmp_path: Path, no_memory: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    here, gone = photographs(tmp_path / "here"), photographs(tmp_path / "gone")
    other = photographs(tmp_path / "other")
    for folder in (here, gone, other):
        opened(folder)
    shutil.rmtree(gone)
    kept = picture_cache.entries(other)
    sweep = expand({"name": "s", "fixed": {"dataset": {"name": f"imagefolder:{here}"}}})
    SweepFolder.create("s", "", sweep.spec, sweep.rows(), None)
    assert cli.main(["clean", "s"]) == 0
    assert "decoded pictures, made again when needed       2" in capsys.readouterr().out
    assert cli.main(["plan", "s", "--device", "cpu"]) == 0
    assert "training sees 224 x 224 pixels" in capsys.readouterr().out
    assert cli.main(["inspect", str(here), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cached_bytes"] == sum(entry.size for entry in picture_cache.entries(here)) > 0
    assert told["pixel_range"] == {} and "random crops of 8 to 100 %" in told["training_sees"]
    assert len(picture_cache.entries()) == 3
    assert cli.main(["clean", "s", "--delete"]) == 0
    assert picture_cache.entries() == kept and len(list(no_memory.iterdir())) == 1
