"""Data sets that torchvision downloads, verifies and reads: CIFAR-10, SVHN and the like."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.data.download import answer_timeout, data_folder, last_line, work_folder
from mixbench.experiments.data.named import Arrays, NamedDataset
from mixbench.experiments.errors import UserError


@dataclass(frozen=True)
class TorchvisionSet(NamedDataset):
    """One data set of torchvision, with colour images, and where it lies in the data folder.

    A set whose class in torchvision differs from CIFAR-10's overrides `load_split`, `arrays` or
    `checksums`.
    """

    name: str
    class_name: str
    """In `torchvision.datasets`."""
    entries: tuple[str, ...]
    """Its files and folders below the data folder."""
    archive: str | None = None
    """The file that is downloaded and unpacks into `entries`; None: they are themselves."""
    classes: tuple[str, ...] | None = None
    """The names of the classes; None: torchvision knows them."""

    def find(self) -> str | None:
        root = data_folder()
        return str(root) if all((root / entry).exists() for entry in self.entries) else None

    def fetch(self) -> str:
        """Unpack the archive that is in the data folder, else download; the folder it is then in.

        Nothing appears in the data folder before it is complete and verified.
        """
        root = data_folder()
        archive = root / self.archive if self.archive else None
        if archive and archive.is_file():
            # torchvision would download over an archive that it does not recognise.
            self._verify_file(archive, self.torchvision_class().tgz_md5)
        try:
            with work_folder() as work:
                if archive and archive.is_file():
                    (work / archive.name).symlink_to(archive.resolve())
                self._download(work)
                for entry in self.entries:
                    if not (root / entry).exists():
                        os.replace(work / entry, root / entry)
        except OSError as error:
            raise UserError(
                f"{self.name}: cannot write to {root} ({error.strerror or error}); name another "
                f"folder in MIXBENCH_DATA"
            ) from None
        return str(root)

    def verify(self, source: str) -> None:
        for path, md5 in self.checksums(Path(source)):
            self._verify_file(path, md5)

    def read(self, source: str) -> Arrays:
        try:
            train = self.load_split(source, "train", download=False)
            test = self.load_split(source, "test", download=False)
        except (RuntimeError, OSError) as error:
            self.verify(source)
            raise UserError(f"{self.name}: cannot be read from {source} ({error})") from None
        classes = self.classes or tuple(train.classes)
        return Arrays(classes, *self.arrays(train), *self.arrays(test))

    def torchvision_class(self) -> Any:
        """The class in torchvision, imported when it is asked for."""
        import torchvision.datasets

        return getattr(torchvision.datasets, self.class_name)

    def load_split(self, root: str, split: str, *, download: bool) -> Any:
        """The "train" or "test" split as torchvision reads it."""
        return self.torchvision_class()(root, train=split == "train", download=download)

    def arrays(self, split: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8 (N,3,H,W) and labels of a split."""
        images = np.ascontiguousarray(split.data.transpose(0, 3, 1, 2))
        return images, np.asarray(split.targets, dtype=np.int64)

    def checksums(self, root: Path) -> list[tuple[Path, str]]:
        """The files below `root`, with the md5 of each."""
        kind = self.torchvision_class()
        files = [*kind.train_list, *kind.test_list]
        if hasattr(kind, "meta"):
            files.append([kind.meta["filename"], kind.meta["md5"]])
        return [(root / kind.base_folder / file, md5) for file, md5 in files]

    def _download(self, work: Path) -> None:
        try:
            with answer_timeout():
                for split in ("train", "test"):
                    self.load_split(str(work), split, download=True)
        except Exception as error:  # whatever a network can do
            cause = last_line(error)
            if "corrupted" in cause:
                cause = "what came is not what was published, and has been removed"
            files = self.archive or " and ".join(self.entries)
            raise UserError(
                f"{self.name}: not in {data_folder()}, and the download failed ({cause}); put "
                f"{files} there, or name the folder that has it in MIXBENCH_DATA"
            ) from None

    def _verify_file(self, path: Path, expected: str) -> None:
        if not path.is_file():
            raise UserError(
                f"{self.name}: {path} is missing; remove {path.parent} to have it fetched again"
            )
        with path.open("rb") as file:
            md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if md5 != expected:
            raise UserError(
                f"{self.name}: {path} is corrupt, its md5 is {md5}, expected {expected}; remove it "
                f"to have it fetched again"
            )


@dataclass(frozen=True)
class SplitSet(TorchvisionSet):
    """A set whose class takes `split="train"` and whose images are (N,3,H,W) already."""

    def load_split(self, root: str, split: str, *, download: bool) -> Any:
        return self.torchvision_class()(root, split=split, download=download)

    def arrays(self, split: Any) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return np.ascontiguousarray(split.data), np.asarray(split.labels, dtype=np.int64)
