"""Fashion-MNIST (Xiao et al. 2017): found on this machine or fetched, and always checked."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.datasets import data_folder
from mixbench.experiments.data.download import impatience, reason, work_folder
from mixbench.experiments.errors import UserError

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

_SECONDS_FOR_A_PACKAGE = 600


class _Unavailable(Exception):
    """A way of fetching did not work, and why."""


def find() -> Path | None:
    """The first folder that holds the four files, packed or not; None when there is none."""
    for folder in _folders():
        if all(_file(folder, name) for name in CONTENTS):
            return folder
    return None


def read(
    folder: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Training images (60000,1,28,28), labels (60000,), test images and labels, all uint8.

    Raises UserError naming the file when one is not what was published.
    """
    arrays = [parse_idx(_contents(folder, name)) for name in CONTENTS]
    train_images, train_labels, test_images, test_labels = arrays
    return train_images[:, None], train_labels, test_images[:, None], test_labels


def check(folder: Path) -> None:
    """UserError naming the file unless all four are what was published."""
    for name in CONTENTS:
        _contents(folder, name)


def parse_idx(data: bytes) -> NDArray[np.uint8]:
    """The array in an IDX file of bytes: two zeros, type 8, the number of sides, each side."""
    if len(data) < 4 or data[:3] != b"\0\0\x08":
        raise ValueError(f"not an IDX file of bytes: starts with {data[:4]!r}")
    sides = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(sides.astype(int))


def fetch() -> Path:
    """Download the files, else unpack the system's package of them; needs no privileges.

    Nothing appears in the data folder before it is complete and checked. Raises UserError that
    says what was tried and what to do.
    """
    target = data_folder() / "fashion-mnist"
    reasons = []
    for way in (_download, _unpack_package):
        try:
            with work_folder() as work:
                folder = _checked(way, work)
                target.mkdir(exist_ok=True)
                for name in CONTENTS:
                    os.replace(folder / f"{name}.gz", target / f"{name}.gz")
            return target
        except _Unavailable as error:
            reasons.append(str(error))
        except OSError as error:
            reasons.append(f"cannot write to {target.parent} ({error.strerror or error})")
            break
    raise UserError(
        f"fashion_mnist: not on this machine and not to be had: {'; '.join(reasons)}. Install the "
        f"system's package {PACKAGE} (Debian, Ubuntu), or put the four .gz files of the data set "
        f"into a folder and name it in MIXBENCH_DATA"
    )


def _folders() -> list[Path]:
    kept = data_folder()
    below = [kept, kept / "fashion-mnist", kept / "FashionMNIST" / "raw"]
    # What a user names comes before the system's; what was once fetched comes after it.
    named = os.environ.get("MIXBENCH_DATA")
    return [*below, SYSTEM_FOLDER] if named else [SYSTEM_FOLDER, *below]


def _file(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    return None


def _contents(folder: Path, name: str) -> bytes:
    path = _file(folder, name)
    if path is None:
        raise UserError(f"fashion_mnist: {folder} has no {name}.gz")
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"fashion_mnist: cannot read {path} ({error.strerror})") from None
    found, expected = "", CONTENTS[name]
    try:
        data = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (EOFError, OSError, zlib.error):
        found = f"does not unpack: its md5 is {_md5(raw)}, expected {PUBLISHED[name]}"
    else:
        if _md5(data) == expected:
            return data
        found = f"md5 of its contents is {_md5(data)}, expected {expected}"
    raise UserError(f"fashion_mnist: {path} is corrupt, {found}; {_discard(path)}")


def _discard(path: Path) -> str:
    # Only what we fetched ourselves is ours to remove.
    ours = data_folder() / "fashion-mnist"
    if path.parent == ours and not os.environ.get("MIXBENCH_DATA"):
        path.unlink(missing_ok=True)
        return "it has been removed, the next run fetches it again"
    return "replace it, or remove it to have it looked for elsewhere"


def _checked(way: Callable[[Path], Path], work: Path) -> Path:
    """The folder that `way` filled, with every file checked; _Unavailable if one is corrupt."""
    folder = way(work)
    for name in CONTENTS:
        try:
            _contents(folder, name)
        except UserError as error:
            cause = str(error).removeprefix("fashion_mnist: ").split(";")[0]
            cause = cause.replace(f"{folder}{os.sep}", "the fetched ")
            raise _Unavailable(f"{cause} (removed)") from None
    return folder


def _download(work: Path) -> Path:
    from torchvision.datasets import FashionMNIST

    try:
        with impatience():
            FashionMNIST(str(work), download=True)
    except Exception as error:  # whatever a network can do
        raw = work / "FashionMNIST" / "raw"
        for name, expected in PUBLISHED.items():
            path = raw / f"{name}.gz"
            if path.is_file() and (found := _md5(path.read_bytes())) != expected:
                raise _Unavailable(
                    f"the downloaded {path.name} was corrupt, its md5 is {found}, expected "
                    f"{expected} (removed)"
                ) from None
        raise _Unavailable(f"the download failed ({reason(error)})") from None
    return work / "FashionMNIST" / "raw"


def _unpack_package(work: Path) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise _Unavailable("this system has no apt-get and dpkg-deb to unpack the package with")
    lists, cache = work / "lists", work / "cache"
    (lists / "partial").mkdir(parents=True)
    (cache / "archives" / "partial").mkdir(parents=True)
    private = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={cache}"]
    try:
        try:
            _command(["apt-get", "-q", "download", PACKAGE], work)
        except _Unavailable:
            # Fresh systems and containers have no package lists, and root may keep them locked.
            _command(["apt-get", "-q", *private, "update"], work)
            _command(["apt-get", "-q", *private, "download", PACKAGE], work)
        package = next(work.glob(f"{PACKAGE}_*.deb"))
        _command(["dpkg-deb", "-x", package.name, "unpacked"], work)
    except StopIteration:
        raise _Unavailable(f"apt-get brought no package {PACKAGE}") from None
    return work / "unpacked" / SYSTEM_FOLDER.relative_to("/")


def _command(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS_FOR_A_PACKAGE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unavailable(f"{' '.join(command[:1])} did not work ({error})") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        raise _Unavailable(f"{command[0]} {command[-1]} failed ({(said or ['no reason'])[-1]})")


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
