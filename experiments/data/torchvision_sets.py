"""CIFAR-10, CIFAR-100, SVHN and STL-10, as torchvision downloads, checks and reads them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import data_folder
from mixbench.experiments.data.download import impatience, reason, work_folder
from mixbench.experiments.errors import UserError


@dataclass(frozen=True)
class TorchvisionSet:
    """Where torchvision keeps a data set below its root. `archive` unpacks into `entries`."""

    kind: str
    entries: tuple[str, ...]
    archive: str | None = None


SETS = {
    "cifar10": TorchvisionSet("CIFAR10", ("cifar-10-batches-py",), "cifar-10-python.tar.gz"),
    "cifar100": TorchvisionSet("CIFAR100", ("cifar-100-python",), "cifar-100-python.tar.gz"),
    "svhn": TorchvisionSet("SVHN", ("train_32x32.mat", "test_32x32.mat")),
    "stl10": TorchvisionSet("STL10", ("stl10_binary",), "stl10_binary.tar.gz"),
}


def find(name: str) -> Path | None:
    """The data folder if the set is in it, unpacked; None otherwise."""
    root = data_folder()
    return root if all((root / entry).exists() for entry in SETS[name].entries) else None


def fetch(name: str) -> Path:
    """Unpack the archive that is in the data folder, else download; the folder it is then in.

    Nothing appears in the data folder before it is complete and checked. Raises UserError that
    says why and what to do.
    """
    known, root = SETS[name], data_folder()
    archive = root / known.archive if known.archive else None
    if archive and archive.is_file():
        # torchvision would download over an archive that it does not recognise.
        _compare(name, archive, _class(name).tgz_md5)
    try:
        with work_folder() as work:
            if archive and archive.is_file():
                (work / archive.name).symlink_to(archive.resolve())
            _download(name, work)
            for entry in known.entries:
                if not (root / entry).exists():
                    os.replace(work / entry, root / entry)
    except OSError as error:
        raise UserError(
            f"{name}: cannot write to {root} ({error.strerror or error}); name another folder "
            f"in MIXBENCH_DATA"
        ) from None
    return root


def read(
    name: str, root: Path
) -> tuple[
    tuple[str, ...], NDArray[np.uint8], NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]
]:
    """Class names, training images uint8 (N,3,H,W) and labels, test images and labels.

    Raises UserError naming the file that is missing or is not what was published.
    """
    try:
        train, test = _parts(name, str(root), download=False)
    except (RuntimeError, OSError) as error:
        check(name, root)
        raise UserError(f"{name}: cannot be read from {root} ({error})") from None
    names = "0123456789" if name == "svhn" else train.classes
    return tuple(names), *_arrays(name, train), *_arrays(name, test)


def check(name: str, root: Path) -> None:
    """UserError naming the file unless all are what was published."""
    for path, md5 in _checksums(name, root):
        _compare(name, path, md5)


def _class(name: str) -> Any:
    import torchvision.datasets

    kind = getattr(torchvision.datasets, SETS[name].kind)
    if name != "stl10":
        return kind

    # Without the 2.7 GB of unlabelled images, whose checksum would be taken at every start.
    return type("STL10", (kind,), {"train_list": kind.train_list[:2]})


def _parts(name: str, root: str, download: bool) -> tuple[Any, Any]:
    kind = _class(name)
    if name in ("svhn", "stl10"):
        return tuple(kind(root, split=part, download=download) for part in ("train", "test"))
    return tuple(kind(root, train=part, download=download) for part in (True, False))


def _arrays(name: str, part: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    cifar = name.startswith("cifar")
    images = part.data.transpose(0, 3, 1, 2) if cifar else part.data
    labels = part.targets if cifar else part.labels
    return np.ascontiguousarray(images), np.asarray(labels, dtype=np.int64)


def _download(name: str, work: Path) -> None:
    try:
        with impatience():
            _parts(name, str(work), download=True)
    except Exception as error:  # whatever a network can do
        cause = reason(error)
        if "corrupted" in cause:
            cause = "what came is not what was published, and has been removed"
        known = SETS[name]
        files = known.archive or " and ".join(known.entries)
        raise UserError(
            f"{name}: not in {data_folder()}, and the download failed ({cause}); put {files} "
            f"there, or name the folder that has it in MIXBENCH_DATA"
        ) from None


def _checksums(name: str, root: Path) -> list[tuple[Path, str]]:
    kind = _class(name)
    if name == "svhn":
        return [
            (root / kind.split_list[part][1], kind.split_list[part][2])
            for part in ("train", "test")
        ]
    files = [*kind.train_list, *kind.test_list]
    if hasattr(kind, "meta"):
        files.append([kind.meta["filename"], kind.meta["md5"]])
    return [(root / kind.base_folder / file, md5) for file, md5 in files]


def _compare(name: str, path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{name}: {path} is missing; remove {path.parent} to have it fetched again")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        raise UserError(
            f"{name}: {path} is corrupt, its md5 is {found}, expected {expected}; remove it to "
            f"have it fetched again"
        )
