"""The data sets, by name: what they are, without torch. `mixbench.experiments.data.load` has the
pixels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError, unknown

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is read. `flip` and `crop_padding` are usual."""

    name: str
    title: str
    channels: int
    size: int
    classes: int | None
    train: int | None
    test: int | None
    flip: bool
    crop_padding: int
    source: str


_DATASETS = {
    info.name: info
    for info in (
        DatasetInfo(
            "fashion_mnist",
            "Fashion-MNIST",
            1,
            28,
            10,
            60_000,
            10_000,
            True,
            2,
            "$MIXBENCH_DATA, the system's package, or a download",
        ),
        DatasetInfo(
            "digits",
            "handwritten digits (scikit-learn)",
            1,
            8,
            10,
            1_438,
            359,
            False,
            0,
            "comes with scikit-learn",
        ),
        DatasetInfo("cifar10", "CIFAR-10", 3, 32, 10, 50_000, 10_000, True, 4, "download"),
        DatasetInfo("cifar100", "CIFAR-100", 3, 32, 100, 50_000, 10_000, True, 4, "download"),
        DatasetInfo("svhn", "SVHN", 3, 32, 10, 73_257, 26_032, False, 4, "download"),
        DatasetInfo("stl10", "STL-10", 3, 96, 10, 5_000, 8_000, True, 12, "download"),
    )
}


def names() -> tuple[str, ...]:
    """The data sets that have a name; `imagefolder:/path` comes on top."""
    return tuple(_DATASETS)


def info(name: str) -> DatasetInfo:
    """What is known of data set `name`; UserError for no such name, or no images."""
    if name in _DATASETS:
        return _DATASETS[name]
    kind, colon, path = name.partition(":")
    if kind == "imagefolder" and colon:
        return _folder_info(path)
    raise unknown("dataset", name, [*_DATASETS, "imagefolder:/path"])


def identity(name: str) -> str:
    """The name without where it is: a folder is identified by what is in it."""
    kind, colon, path = name.partition(":")
    return f"{kind}:{_folder_digest(path)}" if colon else name


def data_folder() -> Path:
    """Where data sets are kept that were fetched: $MIXBENCH_DATA, else ~/.cache/mixbench/data."""
    named = os.environ.get("MIXBENCH_DATA")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mixbench" / "data"


def available_offline(name: str) -> bool:
    """Whether data set `name` is on this machine, so that `load` fetches nothing."""
    from mixbench.experiments.data import fashion_mnist, torchvision_sets

    info(name)
    if name == "fashion_mnist":
        return fashion_mnist.find() is not None
    if name in torchvision_sets.SETS:
        return torchvision_sets.find(name) is not None
    return True


def ensure(name: str, *, check: bool = True) -> str:
    """Find data set `name`, or fetch it, and return where it is.

    Call it once before several processes load the same data set. UserError when it is neither
    here nor to be had, or (with `check`) when its files are not what was published.
    """
    from mixbench.experiments.data import fashion_mnist, torchvision_sets

    source = info(name).source
    if name == "fashion_mnist":
        folder = fashion_mnist.find() or fashion_mnist.fetch()
        if check:
            fashion_mnist.check(folder)
        return str(folder)
    if name in torchvision_sets.SETS:
        folder = torchvision_sets.find(name) or torchvision_sets.fetch(name)
        if check:
            torchvision_sets.check(name, folder)
        return str(folder)
    return source


def class_folders(root: Path) -> list[Path]:
    """The class folders of an image folder, sorted by name."""
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")


def image_files(folder: Path) -> Iterator[Path]:
    """The image files below a class folder, sorted."""
    for base, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith("."):
                yield Path(base) / file


def image_splits(root: Path) -> dict[str, Path]:
    """{"train": ..., "test": ...} where the folder has them (test, or val), else {"all": root}."""
    train = root / "train"
    for name in ("test", "val"):
        if train.is_dir() and (root / name).is_dir():
            return {"train": train, "test": root / name}
    return {"all": root}


@cache
def _folder_info(path: str) -> DatasetInfo:
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(f"imagefolder: {path!r} is not a folder")
    name = f"imagefolder:{root.resolve()}"
    splits = image_splits(root)
    counts: dict[str, int] = {}
    for split, folder in splits.items():
        classes = class_folders(folder)
        counts[split] = sum(1 for entry in classes for _ in image_files(entry))
        if len(classes) < 2 or not counts[split]:
            raise UserError(
                f"imagefolder: expected a folder of images for each of at least two classes in "
                f"{str(folder)!r}, found {len(classes)} folders with {counts[split]} images"
            )
    # About: the split of an undivided folder is made when its images are read.
    train = counts.get("train", counts.get("all", 0) * 4 // 5)
    classes_count = len(class_folders(next(iter(splits.values()))))
    return DatasetInfo(
        name,
        f"images in {root.name}",
        3,
        224,
        classes_count,
        train,
        sum(counts.values()) - train,
        True,
        0,
        str(root),
    )


@cache
def _folder_digest(path: str) -> str:
    root = Path(path).expanduser()
    digest = hashlib.sha256()
    for folder in image_splits(root).values():
        for entry in class_folders(folder):
            for file in image_files(entry):
                digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\n".encode())
    return digest.hexdigest()[:16]
