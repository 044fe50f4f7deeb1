"""Emoji as Twitter and Google draw them, from two packages of npm, kept as one file.

The packages (MIT) are by Cal Henderson; Twitter's drawings are CC-BY-4.0, Google's Apache-2.0.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from abc import abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.download import Unavailable, data_folder, work_folder
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.data.select import rank_in_class
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write

HANDS = ("twitter", "google")
VERSION = "16.0.0"
FILE = f"emoji-{VERSION}.npz"
TEST_FRACTION = 0.2
FLAGS = "Flags"
# Swatches of skin and hair, which are no pictures.
_LEFT_OUT = "Component"
_COUNT = 1_906
# sha256 of the drawings and names.
CONTENTS = "f4e37c6cd0772ae3b2f27359329335179da2572a91beadf6939b23a2f30a0fce"
_SECONDS = 300


@dataclass(frozen=True)
class Emoji:
    """Drawings (N,64,64,4) uint8 by hand, names and categories of N emoji."""

    drawings: dict[str, NDArray[np.uint8]]
    names: tuple[str, ...]
    categories: tuple[str, ...]

    def on_white(self, hand: str) -> NDArray[np.uint8]:
        """Return the drawings of a hand without transparency: (N,3,64,64) uint8."""
        drawn = self.drawings[hand].astype(np.uint32)
        alpha = drawn[..., 3:]
        # Whole numbers, rounded: the same on every machine.
        mixed = (drawn[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255
        return np.ascontiguousarray(mixed.astype(np.uint8).transpose(0, 3, 1, 2))


class EmojiDataset(NamedDataset):
    """Pairs of emoji. `split_seed` says which fifth tests, in each replicate other emoji."""

    name: str

    @abstractmethod
    def pairs(self, emoji: Emoji) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Return the images (N,3,64,64) uint8 and what belongs to each."""

    def find(self) -> str | None:
        path = data_folder() / FILE
        return str(path) if path.is_file() else None

    def fetch(self) -> str:
        """Take the drawings from the packages, with npm; nothing appears before it is verified."""
        target = data_folder() / FILE
        try:
            with work_folder() as work:
                packed = _packed(*(_package(hand, work) for hand in HANDS))
                _verified(packed, f"the packages of version {VERSION}")
                atomic_write(target, packed)
        except Unavailable as error:
            raise UserError(
                f"{self.name}: not on this machine and not to be had: {error}. Install npm "
                f"(Debian, Ubuntu: apt-get install npm), or put {FILE} into a folder and name it "
                "in MIXBENCH_DATA"
            ) from None
        except OSError as error:
            raise UserError(
                f"{self.name}: cannot write to {target.parent} ({error.strerror or error})"
            ) from None
        return str(target)

    def verify(self, source: str) -> None:
        self._emoji(source)

    def read(self, source: str) -> Arrays:
        """Read all pairs, divided by the first seed."""
        return self.read_configured(source, DatasetConfig(name=self.name))

    def read_configured(self, source: str, config: DatasetConfig) -> Arrays:
        """Read all pairs; no emoji is in the training and the test part."""
        images, others = self.pairs(self._emoji(source))
        same = np.zeros(len(images), dtype=np.int64)
        rank = rank_in_class(same, config.split_seed)
        tests = rank < round(TEST_FRACTION * len(images))
        return Arrays((), images[~tests], others[~tests], images[tests], others[tests])

    def _emoji(self, source: str) -> Emoji:
        try:
            return _verified(Path(source).read_bytes(), source)
        except (OSError, Unavailable) as error:
            raise UserError(
                f"{self.name}: {error}; remove the file to have it made again"
            ) from None


def _verified(packed: bytes, where: str) -> Emoji:
    """Unpack what `_packed` made; Unavailable where it is not what was published."""
    try:
        with np.load(io.BytesIO(packed), allow_pickle=False) as file:
            drawings = {hand: file[hand] for hand in HANDS}
            names, categories = file["names"], file["categories"]
    except (EOFError, KeyError, OSError, ValueError, zipfile.BadZipFile):
        raise Unavailable(f"{where} is no file of emoji") from None
    total = hashlib.sha256()
    for array in drawings.values():
        total.update(np.ascontiguousarray(array).data)
    total.update("\n".join([*names.tolist(), *categories.tolist()]).encode())
    if total.hexdigest() != CONTENTS:
        raise Unavailable(
            f"{where} holds other emoji than those published, sha256 {total.hexdigest()}"
        )
    return Emoji(drawings, tuple(names.tolist()), tuple(categories.tolist()))


def _package(hand: str, work: Path) -> Path:
    """Download the package of a hand into `work`."""
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable("this system has no npm")
    package = f"emoji-datasource-{hand}@{VERSION}"
    try:
        subprocess.run(
            [npm, "pack", "--silent", package],
            cwd=work,
            env={**os.environ, "npm_config_cache": str(work / "cache")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=True,
        )
        return next(work.glob(f"emoji-datasource-{hand}-*.tgz"))
    except subprocess.CalledProcessError as error:
        lines = str(error.stderr).strip().splitlines() or ["no reason"]
        raise Unavailable(f"npm pack {package} failed ({lines[-1]})") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm pack {package} took over {_SECONDS} seconds") from None
    except StopIteration:
        raise Unavailable(f"npm pack {package} brought no file") from None


def _packed(twitter: Path, google: Path) -> bytes:
    """Read the drawings that both hands have, in the order of their code points."""
    known = _listed(twitter)
    drawings = {
        hand: np.stack(_images(path, hand, [one["image"] for one in known]))
        for hand, path in zip(HANDS, (twitter, google), strict=True)
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        names=np.array([one["name"] or one["short_name"] for one in known]),
        categories=np.array([one["category"] for one in known]),
        **drawings,
    )
    return buffer.getvalue()


def _listed(package: Path) -> list[dict[str, Any]]:
    try:
        with tarfile.open(package) as files:
            content = files.extractfile("package/emoji.json")
            every = json.loads(content.read()) if content else []
        both = [one for one in every if all(one[f"has_img_{hand}"] for hand in HANDS)]
        known = [one for one in both if one["category"] != _LEFT_OUT]
    except (KeyError, OSError, TypeError, ValueError, tarfile.TarError):
        known = []
    if len(known) != _COUNT:
        raise Unavailable(f"{package.name} lists {len(known)} emoji, expected {_COUNT}")
    return sorted(known, key=lambda one: str(one["unified"]))


def _images(package: Path, hand: str, wanted: list[str]) -> list[NDArray[np.uint8]]:
    from PIL import Image

    folder = f"package/img/{hand}/64/"
    found: dict[str, NDArray[np.uint8]] = {}
    names = set(wanted)
    try:
        with tarfile.open(package) as files:
            for member in files:
                name = member.name.removeprefix(folder)
                content = files.extractfile(member) if name in names else None
                if content is not None:
                    image = Image.open(io.BytesIO(content.read())).convert("RGBA")
                    found[name] = np.asarray(
                        image.resize((64, 64)) if image.size != (64, 64) else image
                    )
        return [found[name] for name in wanted]
    except (KeyError, OSError, ValueError, tarfile.TarError) as error:
        raise Unavailable(f"{package.name} lacks drawings ({error})") from None
