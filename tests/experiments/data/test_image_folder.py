import io
import logging
import multiprocessing
import os
import signal
import struct
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import decode as decoding
from mixbench.experiments.data import folder_pixels, picture_cache
from mixbench.experiments.data.file_split import FileSplit
from mixbench.experiments.data.geometry import Shape
from mixbench.experiments.data.load import load
from mixbench.experiments.data.split import ArraySplit
from mixbench.experiments.data.stored_split import CroppedSplit
from mixbench.experiments.errors import UserError

RNG = np.random.RandomState(0)


def noise(width, height):
    return Image.fromarray(RNG.randint(0, 256, (height, width, 3)).astype(np.uint8))


def fill(folder, classes=("cat", "dog"), images=10, size=(30, 20)):
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(images):
            noise(*size).save(folder / name / f"{index:02}.png")
    return folder


CROPS = (0.08, 1.0)


def decode(path, size):
    form = decoding.Form(Shape(size, size))
    return decoding.as_batch([decoding.decode(path, form)])[0]


def open_folder(folder, **kwargs):
    workers, crops = kwargs.pop("workers", None), kwargs.pop("crops", None)
    config = DatasetConfig(name=f"imagefolder:{folder}", image_size=16, **kwargs)
    return load(config, workers=workers, crops=crops)


def no_cache(_wanted, _threads):
    return None


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(picture_cache, "open_or_make", no_cache)


def collect(batches):
    pairs = list(batches)
    return torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])


# Decoding


def test_decode_takes_the_central_square(tmp_path):
    picture = noise(40, 20)
    picture.save(tmp_path / "wide.png")
    expected = torch.from_numpy(np.array(picture)[:, 10:30]).permute(2, 0, 1)
    assert torch.equal(decode(tmp_path / "wide.png", 20), expected)
    picture.rotate(90, expand=True).save(tmp_path / "high.png")
    assert decode(tmp_path / "high.png", 20).shape == (3, 20, 20)


def solid(mode, colour):
    return Image.new(mode, (8, 8), colour)


def gradient16():
    return Image.fromarray(np.full((8, 8), 0x8080, dtype=np.uint16))


CASES = {
    "grey": (solid("L", 77), (77, 77, 77)),
    "palette": (
        solid("RGB", (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE),
        (10, 200, 30),
    ),
    "opaque": (solid("RGBA", (10, 20, 30, 255)), (10, 20, 30)),
    "transparent": (solid("RGBA", (10, 20, 30, 0)), (255, 255, 255)),
    "grey with alpha": (solid("LA", (50, 255)), (50, 50, 50)),
    "one bit": (solid("1", 1), (255, 255, 255)),
    "16 bits": (gradient16(), (128, 128, 128)),
}


@pytest.mark.parametrize("case", CASES)
def test_decode_makes_rgb_of_everything(tmp_path, case):
    picture, colour = CASES[case]
    picture.save(tmp_path / "x.png")
    assert decode(tmp_path / "x.png", 8)[:, 4, 4].tolist() == list(colour)


def test_decode_cmyk_float_and_palette_with_a_transparent_colour(tmp_path):
    solid("CMYK", (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert decode(tmp_path / "x.jpg", 8).min() >= 250
    Image.fromarray(np.full((8, 8), 0.5, dtype=np.float32)).save(tmp_path / "x.tiff")
    assert decode(tmp_path / "x.tiff", 8).unique().tolist() == [pytest.approx(127.5, abs=0.003)]
    gif = Image.new("P", (8, 8), 0)
    gif.putpalette([9, 9, 9] * 256)
    gif.save(tmp_path / "x.gif", transparency=0)
    assert decode(tmp_path / "x.gif", 8).unique().tolist() == [255]


def test_decode_turns_an_image_as_its_exif_says(tmp_path):
    # Left half red, right half blue; orientation 6 is shown turned a quarter to the right.
    array = np.zeros((32, 32, 3), np.uint8)
    array[:, :16, 0] = array[:, 16:, 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(array).save(tmp_path / "x.jpg", exif=exif, quality=95)
    image = decode(tmp_path / "x.jpg", 32).int()
    assert (image[0, :12] > 200).all() and (image[2, :12] < 60).all()
    assert (image[2, 20:] > 200).all() and (image[0, 20:] < 60).all()


ODD_TAGS = {
    "text for a number": struct.pack(">HHI4s", 0x11A, 2, 4, b"abc\0"),
    "bytes for a number": struct.pack(">HHI4s", 0x11A, 1, 4, b"\1\2\3\4"),
    "an offset for a unit": struct.pack(">HHI4s", 0x128, 13, 1, b"\1\2\3\4"),
    "below zero": struct.pack(">HHI4s", 0x103, 8, 1, b"\xff\xff\0\0"),
    "a fraction": struct.pack(">HHIf", 0x100, 11, 1, 1.5),
}


@pytest.mark.parametrize("odd", ODD_TAGS)
def test_an_odd_exif_tag_loses_neither_the_image_nor_the_way_up(tmp_path, odd):
    way_up = struct.pack(">HHI4s", 0x112, 3, 1, b"\0\6\0\0")
    entries = sorted([way_up, ODD_TAGS[odd]])
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\2" + b"".join(entries) + b"\0\0\0\0"
    array = np.zeros((32, 32, 3), np.uint8)
    array[:, :16, 0] = 255
    Image.fromarray(array).save(tmp_path / "x.jpg", exif=exif, quality=95)
    image = decode(tmp_path / "x.jpg", 32).int()
    assert (image[0, :12] > 200).all() and (image[0, 20:] < 60).all()


def test_decode_of_a_large_jpeg_is_close_to_the_whole_thing(tmp_path):
    smooth = noise(12, 9).resize((1200, 900), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "x.jpg", quality=95)
    smooth.save(tmp_path / "x.png")
    quick, exact = (decode(tmp_path / name, 32).float() for name in ("x.jpg", "x.png"))
    assert (quick - exact).abs().mean() < 2
    form = decoding.Form(Shape(32, 32))
    quick, exact = (
        decoding.decode_whole(tmp_path / name, form, 0.08).astype(int)
        for name in ("x.jpg", "x.png")
    )
    # 32 * 32 / 0.08 pixels are left of 1200 x 900.
    assert quick.shape == exact.shape == (98, 131, 3)
    assert np.abs(quick - exact).mean() < 2


# Folders


def test_a_folder_without_parts_keeps_a_fifth_for_testing(tmp_path):
    fill(tmp_path)
    dataset = open_folder(tmp_path, validation_fraction=0.25)
    assert dataset.classes == ("cat", "dog") and dataset.shape == (3, 16, 16)
    assert [len(x) for x in (dataset.train, dataset.validation, dataset.test)] == [12, 4, 4]
    assert dataset.test.labels.bincount().tolist() == [2, 2]
    images = torch.cat(
        [collect(x.batches(3))[0] for x in (dataset.train, dataset.validation, dataset.test)]
    )
    assert len(images.flatten(1).unique(dim=0)) == 20
    other = open_folder(tmp_path, validation_fraction=0.25, split_seed=5)
    assert torch.equal(*(collect(x.test.batches(9))[0] for x in (dataset, other)))
    assert not torch.equal(*(collect(x.train.batches(9))[0] for x in (dataset, other)))


def test_a_folder_with_test_images_uses_them(tmp_path):
    fill(tmp_path / "train", images=10)
    fill(tmp_path / "test", images=3)
    dataset = open_folder(tmp_path)
    assert len(dataset.train) + len(dataset.validation) == 20
    assert dataset.test.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.source == str(tmp_path)


def test_validation_images_validate_and_all_others_train(tmp_path):
    fill(tmp_path / "train", images=10)
    fill(tmp_path / "Val", images=3)
    without_test = open_folder(tmp_path)
    assert [len(without_test.train), len(without_test.test)] == [16, 4]
    fill(tmp_path / "test", images=2)
    dataset = open_folder(tmp_path, train_size=12)
    assert dataset.train.labels.bincount().tolist() == [6, 6]
    assert dataset.validation.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.test.labels.tolist() == [0, 0, 1, 1]


def test_the_digest_knows_the_files_and_not_their_place(tmp_path):
    here = fill(tmp_path / "here")
    first = open_folder(here).digest
    moved = here.rename(tmp_path / "there")
    assert open_folder(moved).digest == first
    assert open_folder(moved, train_size=10).digest != first


def test_other_classes_in_test_are_refused(tmp_path):
    fill(tmp_path / "train", ("cat", "dog", "owl"))
    fill(tmp_path / "test", ("cat", "dog", "ox"))
    with pytest.raises(UserError, match=r"no owl; ox too many"):
        open_folder(tmp_path)


def test_a_class_without_images_is_refused(tmp_path):
    fill(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has 0 images, expected at least 2"):
        open_folder(tmp_path)


def damage(folder):
    """Three files that are no images, in a folder of twelve of each class."""
    whole = io.BytesIO()
    noise(64, 64).save(whole, "png")
    (folder / "cat" / "00.png").write_bytes(b"")
    (folder / "cat" / "01.png").write_bytes(whole.getvalue()[:3000])
    (folder / "dog" / "00.png").write_bytes(b"this is text")
    return ["cat/00.png", "cat/01.png", "dog/00.png"]


@pytest.mark.parametrize("in_memory", [True, False])
def test_unreadable_images_are_named_once_and_skipped(tmp_path, monkeypatch, caplog, in_memory):
    broken = damage(fill(tmp_path, images=12))
    if not in_memory:
        monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
        monkeypatch.setattr(picture_cache, "open_or_make", no_cache)
    with caplog.at_level(logging.WARNING):
        dataset = open_folder(tmp_path, validation_fraction=0.25, workers=0, crops=CROPS)
        splits = (dataset.train, dataset.validation, dataset.test)
        seen = sum(len(collect(split.batches(5))[1]) for split in splits)
        for epoch in range(2):
            list(dataset.train.epoch(4, torch.Generator().manual_seed(epoch), crops=CROPS))
    assert seen == 24 - 3
    warnings = [record.getMessage() for record in caplog.records]
    assert sorted(name for text in warnings for name in broken if name in text) == broken
    assert len(warnings) == 3


def test_a_folder_of_rubbish_is_refused(tmp_path):
    fill(tmp_path)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"no")
    with pytest.raises(UserError, match="no image of the train split can be read"):
        open_folder(tmp_path)


# Streaming


def test_both_forms_evaluate_on_the_same_pixels(tmp_path, monkeypatch):
    fill(tmp_path)
    kept = open_folder(tmp_path)
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(picture_cache, "open_or_make", no_cache)
    streamed = open_folder(tmp_path, workers=0)
    assert isinstance(streamed.train, FileSplit)
    assert streamed.digest == kept.digest and streamed.shape == kept.shape
    for name in ("train", "validation", "test"):
        one, two = (collect(getattr(dataset, name).batches(3)) for dataset in (kept, streamed))
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    torch.testing.assert_close(kept.mean, streamed.mean)
    torch.testing.assert_close(kept.std, streamed.std)


def test_the_limit_decides(tmp_path, monkeypatch):
    fill(tmp_path)
    need = 20 * 3 * 16 * 16
    monkeypatch.setattr(picture_cache, "open_or_make", no_cache)
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", need)
    assert isinstance(open_folder(tmp_path).train, ArraySplit)
    # The training pictures, whole, for crops.
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", need + 14 * 3 * 30 * 20)
    assert isinstance(open_folder(tmp_path, crops=CROPS).train, CroppedSplit)
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", need + 14 * 3 * 30 * 20 - 1)
    assert isinstance(open_folder(tmp_path, crops=CROPS).train, FileSplit)
    monkeypatch.setattr(folder_pixels, "IN_MEMORY_BYTES", need - 1)
    assert isinstance(open_folder(tmp_path).train, FileSplit)
    assert isinstance(open_folder(tmp_path, train_size=12).train, ArraySplit)


@pytest.mark.usefixtures("streamed")
def test_loader_workers_change_nothing(tmp_path):
    fill(tmp_path)
    epochs = []
    for workers in (0, 2):
        dataset = open_folder(tmp_path, workers=workers)
        generator = torch.Generator().manual_seed(3)
        before = torch.get_rng_state()
        epochs.append([collect(dataset.train.epoch(4, generator, crops=CROPS)) for _ in range(2)])
        assert torch.equal(torch.get_rng_state(), before)
    for (x, y), (u, v) in zip(*epochs, strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)
    (first, order), (second, _) = epochs[0]
    assert len(first) == len(dataset.train) == 14 and dataset.train.steps(4) == 4
    assert not torch.equal(first, second)  # another epoch: another order, other crops
    assert not torch.equal(first, collect(dataset.train.subset(order).batches(4))[0])


@pytest.mark.usefixtures("streamed")
def test_a_batch_of_one_is_not_trained_on(tmp_path):
    fill(tmp_path)
    train = open_folder(tmp_path, workers=0).train.subset(torch.arange(9))
    made = [len(y) for _, y in train.epoch(4, torch.Generator().manual_seed(0))]
    assert made == [4, 4] and train.steps(4) == 2


# Streaming on a large scale


def streamed_split(paths, workers=0):
    labels = torch.zeros(len(paths), dtype=torch.int64)
    form = decoding.Form(Shape(16, 16))
    return FileSplit(paths, labels, form, device=torch.device("cpu"), workers=workers, warned={})


def test_batches_that_are_passed_over_are_not_decoded(tmp_path):
    # None of these is there, so that every look at one is known.
    split = streamed_split([tmp_path / f"{number}.png" for number in range(40)])
    batches = list(split.epoch(8, torch.Generator().manual_seed(0), start=3))
    assert [len(labels) for _, labels in batches] == [0, 0]
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert set(split.warned) == {str(split.paths[index]) for index in order[24:].tolist()}


@pytest.mark.parametrize("start", [0, 780])
def test_an_epoch_takes_little_more_than_its_draws(tmp_path, start):
    images = 200_000
    split = streamed_split([tmp_path / "none.png"] * images)
    next(split.epoch(256, torch.Generator(), part=(0, 4), crops=CROPS))
    tracemalloc.start()
    try:
        epoch = split.epoch(256, torch.Generator(), start=start, part=(0, 4), crops=CROPS)
        assert len(next(epoch)[1]) == 0
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # As lists of keys for all batches they would be 200 bytes an image.
    assert peak < 4 * images


def test_loader_processes_leave_signals_to_their_parent(tmp_path):
    folder = fill(tmp_path / "x", images=20)
    split = streamed_split(sorted(folder.rglob("*.png")), workers=2)
    epoch = split.epoch(4, torch.Generator())
    found = [next(epoch)]
    children = multiprocessing.active_children()
    assert len(children) == 2
    # A cluster tells all processes of a job that its time is up.
    for child in children:
        for known in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            os.kill(child.pid, known)
    found += epoch
    assert sum(len(labels) for _, labels in found) == 40
