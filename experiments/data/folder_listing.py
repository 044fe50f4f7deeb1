"""Which image files a folder has, and which of them a configuration takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixbench.experiments.config import datasets, image_folder, picture_list
from mixbench.experiments.config.image_folder.files import Contents, shown
from mixbench.experiments.config.image_folder.layout import UNDIVIDED
from mixbench.experiments.config.picture_list import PictureList
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.open_image import open_image, why_unreadable
from mixbench.experiments.data.pixel_range import survey
from mixbench.experiments.data.select import (
    Indices,
    choose,
    configured_indices,
    configured_training_indices,
    folds_of,
)
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

TEST_FRACTION = 0.2

Files = tuple[list[Path], NDArray[np.int64]]
"""The paths and labels of images."""


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    `train`, `test`: paths and labels of the training part and of the test part; `undivided`: of
    both, where the folder has no test part of its own; `validation`: of
    the folder's own validation images, if it has such. `left_out`: what might be images, but is
    not used, with the reason; `notes`: what else is worth a word. `base` holds the splits, or the
    classes: it is `root` or a folder below it. `source` is what was named: the folder, or a list of
    images with its `kind`, which says what is in the splits `named`.
    """

    source: Path
    root: Path
    base: Path
    classes: tuple[str, ...]
    train: Files
    validation: Files | None
    test: Files
    undivided: Files | None
    folders: dict[str, str]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    others: Counter[str]
    kind: str = datasets.FOLDER
    named: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the data set."""
        return f"{self.kind}:{self.source}"

    @property
    def files(self) -> list[Path]:
        """The image files of all parts."""
        parts = (self.train, self.validation, self.test)
        return [path for part in parts if part is not None for path in part[0]]


def listing_of(name: str) -> Listing:
    """List the images of a data set of files, such as `imagefolder:/path`; as `scan`."""
    path = datasets.folder_path(name)
    return _of_list(picture_list.open_list(name)) if path is None else scan(path)


def _of_list(found: PictureList) -> Listing:
    number_of = {label: number for number, label in enumerate(found.classes)}
    files: dict[str, Files] = {}
    for split, pictures in found.splits.items():
        labels = np.array([number_of[one.label] for one in pictures], dtype=np.int64)
        files[split] = ([one.path for one in pictures], labels)
    train = files.get("train") or files[UNDIVIDED]
    undivided = None if "test" in files else train
    if undivided is not None:
        counts = np.bincount(train[1], minlength=len(found.classes))
        if counts.min() < 2:
            fewest = found.classes[int(counts.argmin())]
            raise UserError(
                f"{found.kind}: {shown(found.source)}: class {fewest!r} has one image, expected at "
                "least 2, to train and to test on"
            )
        train, files["test"] = _without_test(train, len(found.classes))
    return Listing(
        found.source,
        found.root,
        found.root,
        tuple(map(shown, found.classes)),
        train,
        files.get("validation"),
        files["test"],
        undivided,
        {},
        dict(found.left_out),
        found.notes,
        found.others,
        found.kind,
        tuple(split for split in found.splits if split != UNDIVIDED),
    )


def scan(path: str) -> Listing:
    """List the images of a folder.

    Without a test folder, a stratified fifth is the test part, always the same.

    Raises UserError for a layout that is none of the known ones, or a class without enough images.
    """
    found = image_folder.open_folder(str(Path(path).expanduser().resolve()))
    files: dict[str, Files] = {}
    left_out, notes, others = list(found.left_out), list(found.notes), Counter[str]()
    for split, by_class in image_folder.splits_of(found):
        files[split] = _files(by_class)
        for inside in by_class:
            left_out += inside.left_out
            notes += inside.notes
            others += inside.others
    train = files.get("train") or files[UNDIVIDED]
    undivided = None if "test" in files else train
    if undivided is not None:
        train, files["test"] = _without_test(train, len(found.classes))
    return Listing(
        found.root,
        found.root,
        found.base,
        tuple(map(shown, found.classes)),
        train,
        files.get("validation"),
        files["test"],
        undivided,
        found.folders,
        {str(path): why for path, why in left_out},
        tuple(notes),
        others,
    )


def _files(by_class: list[Contents]) -> Files:
    counts = [len(inside.images) for inside in by_class]
    paths = [path for inside in by_class for path in inside.images]
    return paths, np.repeat(np.arange(len(counts), dtype=np.int64), counts)


def _without_test(files: Files, classes: int) -> tuple[Files, Files]:
    """Take a stratified fifth off, at least an image of each class, to test on."""
    _, labels = files
    test = choose(labels, max(round(TEST_FRACTION * len(labels)), classes), seed=0)
    train = np.setdiff1d(np.arange(len(labels)), test)
    return _subset(files, train), _subset(files, test)


def check(config: DatasetConfig) -> None:
    """Raise UserError where a configuration takes too few images, or none of a class is readable.

    Also for a range of pixels that all have 8 bits. Decodes one image of each class.
    """
    listing = listing_of(config.name)
    check_readable(used_files(config, listing), listing)
    if config.pixel_range is not None:
        survey(listing.files, config.pixel_range)


def why_not_read(path: Path) -> str | None:
    """Why an image can't be read; None if it can."""
    try:
        with open_image(path) as image:
            image.draft(None, (64, 64))
            image.load()
    except Exception as error:  # a broken file can raise anything
        return why_unreadable(path, error)
    return None


def check_readable(
    files: Mapping[str, Files],
    listing: Listing,
    why: Callable[[Path], str | None] = why_not_read,
) -> None:
    """Raise UserError where no image of a class can be read to train or to test on."""
    for split in ("train", "test"):
        paths, labels = files[split]
        ends = np.cumsum(np.bincount(labels, minlength=len(listing.classes)))
        order = [paths[index] for index in np.argsort(labels, kind="stable")]
        by_class = [order[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        with ThreadPoolExecutor() as pool:
            problems = list(pool.map(partial(_why_none_readable, why=why), by_class))
        if all(problem is not None for problem in problems):
            raise UserError(f"{listing.kind}: no image of the {split} split can be read")
        for name, of_class, problem in zip(listing.classes, by_class, problems, strict=True):
            if problem:
                raise UserError(
                    f"{listing.kind}: {shown(listing.source)}: none of the {len(of_class)} {split} "
                    f"images of class {name!r} can be read ({shown(of_class[0], listing.root)}: "
                    f"{problem}); expected at least one"
                )


def _why_none_readable(paths: list[Path], why: Callable[[Path], str | None]) -> str | None:
    """Why the first of the images can't be read; None if any can, "" if there are none."""
    first = ""
    for path in paths:
        reason = why(path)
        if reason is None:
            return None
        first = first or reason
    return first


def _subset(files: Files, indices: Indices) -> Files:
    paths, labels = files
    return [paths[index] for index in indices], labels[indices]


def used_files(config: DatasetConfig, listing: Listing) -> dict[str, Files]:
    """The files of each split that a configuration takes; UserError where there are too few."""
    rest, test = listing.train, listing.test
    if config.folds is not None:
        rest, test = _in_folds(config, config.folds, listing)
    if listing.validation is None:
        train, validation = configured_indices(config, rest[1])
        parts = {"train": train, "validation": validation}
        files = {split: _subset(rest, indices) for split, indices in parts.items()}
    else:
        train = configured_training_indices(config, rest[1])
        files = {"train": _subset(rest, train), "validation": listing.validation}
    return {**files, "test": test}


def _in_folds(config: DatasetConfig, folds: int, listing: Listing) -> tuple[Files, Files]:
    """Return the images that don't test in this replicate, and those that do."""
    if listing.undivided is None:
        raise UserError(f"dataset.folds: {config.name} has test images of its own")
    labels = listing.undivided[1]
    counts = np.bincount(labels, minlength=len(listing.classes))
    if counts.min() < folds:
        fewest = int(counts.argmin())
        raise UserError(
            f"dataset.folds: got {folds}, but class {listing.classes[fewest]!r} has "
            f"{plural(int(counts[fewest]), 'image')}; expected at most {counts[fewest]} folds, so "
            "that each has an image of every class"
        )
    tests = folds_of(labels, folds, config.split_seed // folds) == config.fold
    (test,), (rest,) = np.nonzero(tests), np.nonzero(~tests)
    return _subset(listing.undivided, rest), _subset(listing.undivided, test)
