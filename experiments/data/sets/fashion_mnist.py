"""Fashion-MNIST (Xiao et al. 2017): found on this machine or fetched, and always verified."""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.debian_package import unpack
from mixbench.experiments.data.download import (
    Unavailable,
    answer_timeout,
    data_folder,
    last_line,
    work_folder,
)
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.errors import UserError

INFO = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    channels=1,
    size=28,
    classes=10,
    train=60_000,
    test=10_000,
    flip=True,
    crop_padding=2,
    black_background=True,
    source="$MIXBENCH_DATA, the system's package, or a download",
)

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

PACKAGE = "dataset-fashion-mnist"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")

# md5 of what is inside each file. The published sums are of the .gz files, but packagers write
# these again with another header; the contents are the same byte for byte.
CONTENTS = {
    "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
}
PUBLISHED = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


class _FashionMNIST(NamedDataset):
    def find(self) -> str | None:
        """The first folder that holds the four files, packed or not."""
        for folder in _folders():
            if all(_file(folder, name) for name in CONTENTS):
                return str(folder)
        return None

    def fetch(self) -> str:
        """Download the files, else unpack the system's package of them; needs no privileges.

        Nothing appears in the data folder before it is complete and verified.
        """
        target = data_folder() / "fashion-mnist"
        reasons = []
        for way in (_download, _unpack_package):
            try:
                with work_folder() as work:
                    folder = _verified(way(work))
                    target.mkdir(exist_ok=True)
                    for name in CONTENTS:
                        os.replace(folder / f"{name}.gz", target / f"{name}.gz")
                return str(target)
            except Unavailable as error:
                reasons.append(str(error))
            except OSError as error:
                reasons.append(f"cannot write to {target.parent} ({error.strerror or error})")
                break
        raise UserError(
            f"fashion_mnist: not on this machine and not to be had: {'; '.join(reasons)}. Install "
            f"the system's package {PACKAGE} (Debian, Ubuntu), or put the four .gz files of the "
            f"data set into a folder and name it in MIXBENCH_DATA"
        )

    def verify(self, source: str) -> None:
        for name in CONTENTS:
            _contents(Path(source), name)

    def read(self, source: str) -> Arrays:
        arrays = [parse_idx(_contents(Path(source), name)) for name in CONTENTS]
        images, labels, test_images, test_labels = arrays
        return Arrays(
            CLASSES,
            images[:, None],
            labels.astype(np.int64),
            test_images[:, None],
            test_labels.astype(np.int64),
        )


DATASET = _FashionMNIST()


def parse_idx(data: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes: two zeros, type 8, the number of sides, each side."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"not an IDX file of bytes: starts with {data[:4]!r}")
    sides = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sides.astype(int))


def _folders() -> list[Path]:
    root = data_folder()
    below = [root, root / "fashion-mnist", root / "FashionMNIST" / "raw"]
    # What a user names comes before the system's; what was once fetched comes after it.
    named = os.environ.get("MIXBENCH_DATA")
    return [*below, SYSTEM_FOLDER] if named else [SYSTEM_FOLDER, *below]


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None


def _contents(folder: Path, name: str) -> bytes:
    """One of the four files, unpacked; UserError unless it is what was published."""
    path = _file(folder, name)
    if path is None:
        raise UserError(f"fashion_mnist: {folder} has no {name}.gz")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"fashion_mnist: cannot read {path} ({error.strerror})") from None
    expected = CONTENTS[name]
    try:
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, OSError, zlib.error):
        problem = f"does not unpack: its md5 is {_md5(raw)}, expected {PUBLISHED[name]}"
    else:
        if _md5(data) == expected:
            return data
        problem = f"md5 of its contents is {_md5(data)}, expected {expected}"
    raise UserError(f"fashion_mnist: {path} is corrupt, {problem}; {_discard(path)}")


def _discard(path: Path) -> str:
    """Remove a corrupt file if we fetched it; returns what to do now."""
    fetched = data_folder() / "fashion-mnist"
    if path.parent == fetched and not os.environ.get("MIXBENCH_DATA"):
        path.unlink(missing_ok=True)
        return "it has been removed, the next run fetches it again"
    return "replace it, or remove it to have it looked for elsewhere"


def _verified(folder: Path) -> Path:
    """The fetched folder; Unavailable if one of its files is corrupt."""
    for name in CONTENTS:
        try:
            _contents(folder, name)
        except UserError as error:
            cause = str(error).removeprefix("fashion_mnist: ").split(";")[0]
            cause = cause.replace(f"{folder}{os.sep}", "the fetched ")
            raise Unavailable(f"{cause} (removed)") from None
    return folder


def _download(work: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        with answer_timeout():
            FashionMNIST(str(work), download=True)
    except Exception as error:  # whatever a network can do
        raw = work / "FashionMNIST" / "raw"
        for name, expected in PUBLISHED.items():
            path = raw / f"{name}.gz"
            if path.is_file() and (md5 := _md5(path.read_bytes())) != expected:
                raise Unavailable(
                    f"the downloaded {path.name} was corrupt, its md5 is {md5}, expected "
                    f"{expected} (removed)"
                ) from None
        raise Unavailable(f"the download failed ({last_line(error)})") from None
    return work / "FashionMNIST" / "raw"


def _unpack_package(work: Path) -> Path:
    return unpack(PACKAGE, work) / SYSTEM_FOLDER.relative_to("/")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
