import hashlib
import pickle
import tarfile

import numpy as np
import pytest
import scipy.io
import torch
import torchvision.datasets

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data import fetch
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError

RNG = np.random.RandomState(0)


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXBENCH_DATA", str(tmp_path))
    return tmp_path


def write_cifar(folder, count, key, classes):
    """Files in CIFAR's format: rows of 1024 red, 1024 green, 1024 blue."""
    folder.mkdir()
    written = []
    for name in ("train", "test"):
        images = RNG.randint(0, 256, (count, 3, 32, 32)).astype(np.uint8)
        labels = [index % classes for index in range(count)]
        with (folder / name).open("wb") as file:
            pickle.dump({"data": images.reshape(count, 3072), key: labels}, file)
        written.append((images, labels))
    names = [f"kind {index}" for index in range(classes)]
    with (folder / "meta").open("wb") as file:
        pickle.dump({"label_names": names, "fine_label_names": names}, file)
    return written


def accept_cifar(monkeypatch, kind, folder):
    monkeypatch.setattr(kind, "train_list", [["train", md5(folder / "train")]])
    monkeypatch.setattr(kind, "test_list", [["test", md5(folder / "test")]])
    meta = {"filename": "meta", "key": kind.meta["key"], "md5": md5(folder / "meta")}
    monkeypatch.setattr(kind, "meta", meta)


@pytest.fixture
def cifar10(root, monkeypatch):
    kind = torchvision.datasets.CIFAR10
    folder = root / kind.base_folder
    written = write_cifar(folder, 60, "labels", 10)
    accept_cifar(monkeypatch, kind, folder)
    return folder, written


def same(split, images, labels):
    found = torch.cat([batch for batch, _ in split.batches(7)]).numpy()
    assert np.array_equal(found, images)
    assert split.labels.tolist() == list(labels)


def test_cifar10(cifar10, root):
    _, (train, test) = cifar10
    dataset = load(DatasetConfig(name="cifar10"))
    same(dataset.test, *test)
    assert dataset.classes[3] == "kind 3" and dataset.source == str(root)
    assert len(dataset.train) == 54 and len(dataset.validation) == 6
    originals = {(image.tobytes(), label) for image, label in zip(*train, strict=True)}
    used = {
        (image.numpy().tobytes(), label)
        for split in (dataset.train, dataset.validation)
        for image, label in zip(
            torch.cat([batch for batch, _ in split.batches(9)]), split.labels.tolist(), strict=True
        )
    }
    assert used == originals


def test_cifar100_has_its_fine_labels(root, monkeypatch):
    kind = torchvision.datasets.CIFAR100
    folder = root / kind.base_folder
    _, test = write_cifar(folder, 1100, "fine_labels", 100)
    accept_cifar(monkeypatch, kind, folder)
    dataset = load(DatasetConfig(name="cifar100"))
    same(dataset.test, *test)
    assert len(dataset.classes) == 100


def test_svhn_calls_zero_zero(root, monkeypatch):
    sums = {}
    written = {}
    for part in ("train", "test"):
        images = RNG.randint(0, 256, (32, 32, 3, 50)).astype(np.uint8)
        labels = np.arange(50)[:, None] % 10 + 1  # 1..10, where 10 stands for the digit 0
        path = root / f"{part}_32x32.mat"
        scipy.io.savemat(path, {"X": images, "y": labels})
        sums[part] = ["http://127.0.0.1:9/", path.name, md5(path)]
        written[part] = (images, labels)
    monkeypatch.setattr(torchvision.datasets.SVHN, "split_list", sums)
    dataset = load(DatasetConfig(name="svhn"))
    images, labels = written["test"]
    same(dataset.test, images.transpose(3, 2, 0, 1), labels[:, 0] % 10)
    assert dataset.classes == tuple("0123456789")


def test_stl10_is_read_without_its_unlabelled_images(root, monkeypatch):
    kind = torchvision.datasets.STL10
    folder = root / kind.base_folder
    folder.mkdir()
    for part in ("train", "test"):
        columns_first = RNG.randint(0, 256, (20, 3, 96, 96)).astype(np.uint8)
        columns_first.tofile(folder / f"{part}_X.bin")
        (np.arange(20, dtype=np.uint8) % 10 + 1).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("airplane\nbird\n")
    lists = {
        part: [[name, md5(folder / name)] for name in (f"{part}_X.bin", f"{part}_y.bin")]
        for part in ("train", "test")
    }
    monkeypatch.setattr(kind, "train_list", [*lists["train"], ["unlabeled_X.bin", "0" * 32]])
    monkeypatch.setattr(kind, "test_list", lists["test"])
    dataset = load(DatasetConfig(name="stl10", validation_fraction=0.5))
    same(dataset.test, columns_first.transpose(0, 1, 3, 2), np.arange(20) % 10)
    assert dataset.classes[:2] == ("airplane", "bird")


def test_a_corrupt_file_is_named_with_both_sums(cifar10):
    folder, _ = cifar10
    expected = md5(folder / "test")
    with (folder / "test").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError) as caught:
        load(DatasetConfig(name="cifar10"))
    message = str(caught.value)
    assert str(folder / "test") in message and "\n" not in message
    assert f"its md5 is {md5(folder / 'test')}, expected {expected}" in message
    with pytest.raises(UserError, match="corrupt"):
        fetch.ensure("cifar10")


def test_a_missing_file_is_named(cifar10):
    folder, _ = cifar10
    (folder / "train").unlink()
    with pytest.raises(UserError, match=r"train is missing; remove .* to have it fetched again"):
        load(DatasetConfig(name="cifar10"))


def test_an_archive_in_the_data_folder_is_unpacked(cifar10, root, monkeypatch):
    folder, (_, test) = cifar10
    kind = torchvision.datasets.CIFAR10
    archive = root / kind.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    monkeypatch.setattr(kind, "tgz_md5", "0" * 32)
    assert not fetch.available_offline("cifar10")
    with pytest.raises(UserError, match=rf"{archive.name} is corrupt, its md5 is {md5(archive)}"):
        load(DatasetConfig(name="cifar10"))
    monkeypatch.setattr(kind, "tgz_md5", md5(archive))
    same(load(DatasetConfig(name="cifar10")).test, *test)
    assert fetch.available_offline("cifar10")
    assert sorted(path.name for path in root.iterdir()) == sorted([archive.name, folder.name])


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "stl10"])
def test_a_download_that_fails_is_one_clear_line(root, monkeypatch, name):
    kind = getattr(torchvision.datasets, name.upper())
    dead = "http://127.0.0.1:9/file"
    if name == "svhn":
        parts = {key: [dead, *rest] for key, (_, *rest) in kind.split_list.items()}
        monkeypatch.setattr(kind, "split_list", parts)
    else:
        monkeypatch.setattr(kind, "url", dead)
    with pytest.raises(UserError) as caught:
        load(DatasetConfig(name=name))
    message = str(caught.value)
    assert message.startswith(f"{name}: ") and "\n" not in message
    assert "the download failed" in message and "MIXBENCH_DATA" in message
    assert list(root.iterdir()) == []
