"""The data sets, by name: what they are, without torch or pixels.

Each is a file in `mixbench.experiments.data.sets`; `mixbench.experiments.data.load` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mixbench.experiments.config import (
    audio_folder,
    box_folder,
    image_folder,
    mask_folder,
    own_data,
    pair_file,
    picture_list,
)
from mixbench.experiments.config.descriptions import read_descriptions
from mixbench.experiments.errors import UserError, unknown

SETS = "mixbench.experiments.data.sets"
FOLDER = "imagefolder"


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known of a data set before it is read."""

    name: str
    title: str
    channels: int
    size: int | tuple[int, int]
    """The side of its images in pixels, or height and width."""
    classes: int
    train: int
    test: int
    """How many images; of an image folder without a test part, about so many."""
    validation: int | None = None
    """How many images an image folder has to validate on; None: a part of the training images."""
    flip: bool
    crop_padding: int
    """The usual augmentation: mirrored images, and crops of images padded by so many pixels."""
    is_sound: bool = False
    """Whether its images are spectrograms of clips, for `dataset.sound`."""
    black_background: bool = False
    """Whether all that is not exactly black is the object."""
    targets: tuple[str, ...] = ("labels",)
    """What is known of each image, for `dataset.targets`; the first is the default. With
    regression alone, `classes` counts the numbers to predict; it is 0 with pairs alone."""
    second: str = ""
    """Of pairs, what belongs to an image: `image` or `text`."""
    source: str
    """Where it comes from, for `mixbench list`."""

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of its images."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    def validation_share(self, fraction: float, size: int | None = None) -> float:
        """The share of the images of a run to validate on, where `fraction` is asked for.

        None of them where a `size` is: other images validate, as far as there are any.
        """
        return fraction if self.validation is None and size is None else 0.0


@cache
def _sets() -> Mapping[str, DatasetInfo]:
    return read_descriptions(SETS, DatasetInfo)


def names() -> tuple[str, ...]:
    """The data sets that have a name; `imagefolder:/path` and other kinds come on top."""
    return tuple(_sets())


def info(name: str) -> DatasetInfo:
    """What is known of data set `name`; UserError for no such name, or no images."""
    if name in _sets():
        return _sets()[name]
    masks = masks_path(name)
    if masks is not None:
        return _mask_folder_info(masks)
    pairs = pairs_path(name)
    if pairs is not None:
        return _pair_file_info(pairs)
    if boxes_path(name) is not None:
        return _box_folder_info(str(boxes_path(name)))
    clips = clips_path(name)
    if clips is not None:
        return _audio_folder_info(clips)
    if picture_list.list_path(name) is not None:
        return _list_info(name)
    if is_own(name):
        return _own_info(name)
    path = folder_path(name)
    if path is None:
        every = [*names(), *own_data.entry_points(), *(f"{kind}:/path" for kind in _kinds())]
        raise unknown("dataset", name, [*every, "package.module:function"])
    return _folder_info(path)


def folder_path(name: str) -> str | None:
    """The path in `imagefolder:/path`; None for other names."""
    kind, colon, path = name.partition(":")
    return path if kind == FOLDER and colon else None


def masks_path(name: str) -> str | None:
    """The path in `maskfolder:/path`, images with masks; None for other names."""
    kind, colon, path = name.partition(":")
    return path if kind == mask_folder.KIND and colon else None


def pairs_path(name: str) -> str | None:
    """The path in `pairs:/path.csv`, images with texts; None for other names."""
    kind, colon, path = name.partition(":")
    return path if kind == pair_file.KIND and colon else None


def boxes_path(name: str) -> str | None:
    """The path in `boxfolder:/path`, images with boxes; None for other names."""
    kind, colon, path = name.partition(":")
    return path if kind == box_folder.KIND and colon else None


def clips_path(name: str) -> str | None:
    """The path in `audiofolder:/path`, clips of sound; None for other names."""
    kind, colon, path = name.partition(":")
    return path if kind == audio_folder.KIND and colon else None


def is_own(name: str) -> bool:
    """Return whether a data set comes from a function of the user's own."""
    is_other = name in _sets() or name.partition(":")[0] in _kinds()
    return not is_other and own_data.own_place(name) is not None


def current_source(name: str, planned: str | None) -> str | None:
    """Return what identifies a data set of the user's own, None for others.

    Raises UserError where a run was planned for other data.
    """
    if is_own(name):
        return own_data.current_source(name, planned)
    if planned is not None:
        raise UserError(f"dataset.source: is for data sets of your own, and not {name}")
    return None


def _kinds() -> tuple[str, ...]:
    """Return what stands before the colon in names of the user's own files."""
    kinds = (FOLDER, mask_folder.KIND, audio_folder.KIND, box_folder.KIND, pair_file.KIND)
    return (*kinds, *picture_list.KINDS)


def has_files(name: str) -> bool:
    """Return whether a data set is of the user's image files: a folder, a table, shards."""
    return folder_path(name) is not None or picture_list.list_path(name) is not None


def root_of_files(name: str) -> str | None:
    """Return the folder that the names of the user's image files count from; None for others."""
    listed = picture_list.list_path(name)
    return folder_path(name) if listed is None else str(picture_list.root_of(listed[1]))


def identity(name: str) -> str:
    """The name without where it is: a folder is identified by what is in it."""
    listed = picture_list.list_path(name)
    if listed is not None:
        return f"{listed[0]}:{_list_digest(name)}"
    masks = masks_path(name)
    if masks is not None:
        return f"{mask_folder.KIND}:{mask_folder.digest(masks)}"
    pairs = pairs_path(name)
    if pairs is not None:
        return f"{pair_file.KIND}:{pair_file.digest(pairs)}"
    boxes = boxes_path(name)
    if boxes is not None:
        return f"{box_folder.KIND}:{box_folder.digest(boxes)}"
    clips = clips_path(name)
    if clips is not None:
        return f"{audio_folder.KIND}:{audio_folder.digest(clips)}"
    path = folder_path(name)
    return name if path is None else f"{FOLDER}:{image_folder.digest(path)}"


def with_folds(name: str, folds: int | None) -> DatasetInfo:
    """Return what is known of a data set of which one image in `folds` tests.

    Raises UserError where it has test images of its own.
    """
    facts = info(name)
    if folds is None:
        return facts
    clips = clips_path(name)
    if clips is not None:
        return _in_folds_of_its_own(clips, folds, facts)
    if not has_files(name) or _has_test(name):
        raise UserError(
            f"dataset.folds: got {folds}, but {name} has test images of its own; folds are for "
            "image folders without a test folder (leave folds out, or put all images into one "
            "folder for each class), and for lists of images without splits"
        )
    total = facts.train + facts.test
    test = round(total / folds)
    return replace(facts, train=total - test, test=test)


def _has_test(name: str) -> bool:
    path = folder_path(name)
    if path is None:
        return picture_list.open_list(name).has_test
    return image_folder.has_test(path)


@cache
def _list_digest(name: str) -> str:
    return picture_list.open_list(name).digest()


@cache
def _list_info(name: str) -> DatasetInfo:
    pictures = picture_list.open_list(name)
    train, validation, test = pictures.counts()
    return DatasetInfo(
        name=f"{pictures.kind}:{pictures.source}",
        title=f"images in {pictures.source.name}",
        channels=3,
        size=224,
        classes=len(pictures.classes),
        train=train,
        test=test,
        validation=validation,
        flip=True,
        crop_padding=0,
        source=str(pictures.source),
    )


def _in_folds_of_its_own(path: str, folds: int, facts: DatasetInfo) -> DatasetInfo:
    own = audio_folder.open_audio_folder(path).folds
    if own != folds:
        expected = "none, as it has no folds" if own is None else f"{own}, the folds that it has"
        raise UserError(f"dataset.folds: got {folds}, expected {expected}, for {facts.name}")
    return facts


@cache
def _audio_folder_info(path: str) -> DatasetInfo:
    folder = audio_folder.open_audio_folder(path)
    return DatasetInfo(
        name=f"{audio_folder.KIND}:{folder.root.resolve()}",
        title=f"clips in {folder.root.name}, as log-mel spectrograms",
        channels=1,
        size=folder.size,
        classes=len(folder.classes),
        train=len(folder.numbers("train")),
        test=len(folder.numbers("test")),
        validation=len(folder.numbers("val")) if folder.has_validation else None,
        flip=False,
        crop_padding=0,
        is_sound=True,
        source=str(folder.root),
    )


@cache
def _own_info(name: str) -> DatasetInfo:
    facts = own_data.facts(name)
    channels, height, width = facts.shape
    return DatasetInfo(
        name=name,
        title=f"images of {name}",
        channels=channels,
        size=height if height == width else (height, width),
        classes=facts.classes,
        train=facts.counts["train"],
        test=facts.counts["test"],
        validation=facts.counts.get("validation"),
        flip=False,
        crop_padding=0,
        targets=(facts.targets,),
        source=own_data.own_place(name) or name,
    )


@cache
def _mask_folder_info(path: str) -> DatasetInfo:
    folder = mask_folder.open_mask_folder(path)
    return DatasetInfo(
        name=f"{mask_folder.KIND}:{folder.root.resolve()}",
        title=f"images with masks in {folder.root.name}",
        channels=3,
        size=128,
        classes=len(folder.classes),
        train=len(folder.train),
        test=len(folder.test),
        validation=None if folder.validation is None else len(folder.validation),
        flip=True,
        crop_padding=8,
        targets=("masks",),
        source=str(folder.root),
    )


@cache
def _pair_file_info(path: str) -> DatasetInfo:
    file = pair_file.open_pair_file(path)
    return DatasetInfo(
        name=f"{pair_file.KIND}:{file.path.resolve()}",
        title=f"images with texts in {file.path.name}",
        channels=3,
        size=64,
        classes=0,
        train=len(file.train),
        test=len(file.test),
        validation=None if file.validation is None else len(file.validation),
        flip=False,
        crop_padding=4,
        targets=("pairs",),
        second="text",
        source=str(file.path),
    )


@cache
def _box_folder_info(path: str) -> DatasetInfo:
    folder = box_folder.open_box_folder(path)
    named = Path(path).expanduser().resolve()
    return DatasetInfo(
        name=f"{box_folder.KIND}:{named}",
        title=f"images with boxes in {named.name}",
        channels=3,
        size=128,
        classes=len(folder.classes),
        train=len(folder.train),
        test=len(folder.test),
        validation=None if folder.validation is None else len(folder.validation),
        flip=True,
        crop_padding=8,
        targets=("boxes",),
        source=str(named),
    )


@cache
def _folder_info(path: str) -> DatasetInfo:
    counts = image_folder.count(path)
    return DatasetInfo(
        name=f"{FOLDER}:{counts.root.resolve()}",
        title=f"images in {counts.root.name}",
        channels=3,
        size=224,
        classes=counts.classes,
        train=counts.train,
        test=counts.test,
        validation=counts.validation,
        flip=True,
        crop_padding=0,
        source=str(counts.root),
    )
