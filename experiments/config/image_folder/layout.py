"""How an image folder is laid out: checked, never guessed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mixbench.experiments.config.image_folder import names
from mixbench.experiments.config.image_folder.files import LeftOut, contents, has_images, shown
from mixbench.experiments.config.image_folder.level import Level, read, refused
from mixbench.experiments.config.image_folder.names import folded, listed, normal, split_kind
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

UNDIVIDED = "all"
"""The split of a folder without splits."""

_DEPTH = 3


@dataclass
class Layout:
    """What was found in an image folder.

    Attributes:
        root: The folder as it was given.
        base: The folder of the splits, or of the classes: `root` or one below it.
        classes: The names of the classes, in order.
        splits: {"train": ..., "validation": ..., "test": ...} as far as they are there, or
            {"all": ...}: the folder of each class, None where a split has none of a class.
        folders: The names of the folders of the splits; empty for an undivided folder.
        left_out: What is not used, and why.
        notes: What is worth a word.
    """

    root: Path
    base: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Path | None]]
    folders: dict[str, str] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def layout(root: Path) -> Layout:
    """Find the splits and classes of an image folder.

    Raises UserError for a layout that is not one of the known ones, with what was seen.
    """
    level = _descend(read(root, root))
    level.check_links()
    kinds = {name: split_kind(name) for name in level.folders}
    train = [name for name, kind in kinds.items() if kind == "train"]
    held_out = {name: kind for name, kind in kinds.items() if kind not in (None, "train")}
    if train and (held_out or _is_only_split(level, train)):
        return _divided(level, train, held_out)
    if len(held_out) > 1 and len(held_out) == len(level.folders):
        raise refused(root, f"{_of(level)} has {level.seen()}, but no folder for training")
    paths = _class_folders(level)
    found = Layout(root, level.path, tuple(paths), {UNDIVIDED: list(paths.values())})
    _add_beside(found, level)
    _say_where(found)
    return found


def _descend(level: Level) -> Level:
    """Go down where the whole data set is in one folder, such as `dataset/train`."""
    found = inner = level
    for _ in range(_DEPTH):
        if len(inner.folders) != 1 or inner.beside.images:
            break
        (name,) = inner.folders
        if split_kind(name) == "train":
            break
        above, inner = inner, inner.level(name)
        if any(split_kind(below) == "train" for below in inner.folders):
            return inner
        if found is above and folded(name) in names.CONTAINERS and inner.folders:
            found = inner
    return found


def _is_only_split(level: Level, train: list[str]) -> bool:
    """Whether `train`, with no test or validation folder beside it, is a split and not a class."""
    others = [name for name in level.folders if name not in train]
    if not others or all(folded(name) in names.UNLABELLED for name in others):
        return True
    inner = level.level(train[0])
    if inner.beside.images or not inner.folders:
        return False
    raise refused(
        level.root,
        f"{_of(level)} has the folders {listed(level.names)}: whether {shown(train[0])} is a class "
        f"or holds the training images can't be told",
    )


def _divided(level: Level, train: list[str], held_out: Mapping[str, str | None]) -> Layout:
    """Read a folder with `train` and maybe more; `held_out`: the kinds of the other splits."""
    folders = {"train": _only(level, "training", train), **_held_out(level, held_out)}
    inner = level.level(folders["train"])
    if not inner.folders:
        raise refused(
            level.root,
            f"{_of(inner)} has {inner.seen()}: what is in an image is known from its folder alone",
        )
    by_name = _class_folders(inner)
    found = Layout(level.root, level.path, tuple(by_name), {"train": [*by_name.values()]})
    found.folders["train"] = folders["train"]
    _add_beside(found, inner)
    for split in ("validation", "test"):
        if split in folders:
            _add_split(found, split, level, folders[split])
    for name, path in level.folders.items():
        if name not in folders.values() and has_images(path, level.root):
            found.left_out.append((path, "a folder beside the splits, and none of them"))
    _add_beside(found, level)
    _say_where(found)
    return found


def _held_out(level: Level, kinds: Mapping[str, str | None]) -> dict[str, str]:
    """The folders of test and validation images, where there are any."""
    folders = {}
    either = [name for name, kind in kinds.items() if kind == "either"]
    for split in ("test", "validation"):
        of_kind = [name for name, kind in kinds.items() if kind == split]
        if of_kind or either:
            folders[split] = _only(level, split, of_kind or either)
            either = either if of_kind else []
    if either:
        raise refused(
            level.root,
            f"{_of(level)} has the folders {listed(level.names)}: what {shown(either[0])} is for "
            f"can't be told",
        )
    return folders


def _only(level: Level, purpose: str, found: list[str]) -> str:
    if len(found) > 1:
        raise refused(
            level.root,
            f"{_of(level)} has {len(found)} folders for {purpose}, {listed(map(shown, found))}",
        )
    return found[0]


def _add_split(found: Layout, split: str, parent: Level, name: str) -> None:
    """Add the class folders of test or validation images; without labels they are left out."""
    level = parent.level(name)
    level.check_links()
    exact = {normal(one): one for one in level.folders}
    loose = {folded(one): one for one in level.folders}
    by_class: list[Path | None] = []
    used = set()
    for label in found.classes:
        own = exact.get(label)
        if own is None and sum(folded(other) == folded(label) for other in found.classes) == 1:
            own = loose.get(folded(label))
            if own is not None:
                found.notes.append(
                    f"the class {shown(label)!r} is called {shown(own)!r} in {shown(name)}"
                )
        by_class.append(None if own is None else level.folders[own])
        used.add(own)
    extra = [shown(one) for one in level.folders if one not in used]
    missing = [
        shown(label) for label, path in zip(found.classes, by_class, strict=True) if path is None
    ]
    if len(missing) == len(found.classes) and len(level.folders) < 2:
        images = len(contents(level.path, level.root).images)
        why = f"{plural(images, 'image')} in no class folder, so without labels"
        found.left_out.append((level.path, why))
        return
    # Of a class that is missing in the test images nothing would be measured.
    if extra or (missing and split == "test"):
        problems = [f"no {listed(missing)}"] * bool(missing and split == "test")
        problems += [f"{listed(extra)} too many"] * bool(extra)
        raise UserError(
            f"imagefolder: {shown(level.path)} has other class folders than "
            f"{shown(parent.path / found.folders['train'])}: {'; '.join(problems)}"
        )
    found.splits[split] = by_class
    found.folders[split] = name
    _add_beside(found, level)


def _add_beside(found: Layout, level: Level) -> None:
    found.left_out += level.stray
    found.notes += level.beside.notes


def _say_where(found: Layout) -> None:
    if found.base != found.root:
        found.notes.insert(0, f"the data are in {shown(found.base, found.root)}")


def _class_folders(level: Level) -> dict[str, Path]:
    """The class folders of a level by name; UserError for folders that can't be classes."""
    level.check_links()
    if len(level.folders) < 2:
        hint, images = "", 0
        for name, path in level.folders.items():
            images, below = len(contents(path, level.root).images), level.level(name)
            hint = f": {shown(name)}"
            if len(below.folders) > 1:
                hint += (
                    f" (if {listed(below.names)} are the classes, name "
                    f"imagefolder:{shown(below.path)})"
                )
        beside = len(level.beside.images)
        if beside:
            hint += f", and {plural(beside, 'image')} beside them"
        raise refused(
            level.root,
            f"{_of(level)} has {len(level.folders)} folders with {images} images{hint}",
            "a folder of images for each of at least two classes",
        )
    problem = names.why_not_classes(list(level.folders))
    if problem:
        raise refused(level.root, f"the folders {listed(level.places())} {problem}")
    _check_same_subfolders(level)
    by_name: dict[str, Path] = {}
    for name, path in level.folders.items():
        if normal(name) in by_name:
            raise refused(
                level.root,
                f"{_of(level)} has two folders {shown(normal(name))!r}, written with different "
                f"Unicode characters ({by_name[normal(name)].name!a}, {name!a})",
                "one folder for each class",
            )
        by_name[normal(name)] = path
    return by_name


def _check_same_subfolders(level: Level) -> None:
    """Raise UserError where all "classes" hold the same folders: then those are the classes."""
    inner: list[Level] = []
    for name in level.folders:
        inner.append(level.level(name))
        if not inner[-1].folders:
            return
    for _ in range(_DEPTH):
        below = [{folded(name) for name in one.folders} for one in inner]
        common, every = set.intersection(*below), set.union(*below)
        if not common:
            return
        same = [name for name in inner[0].folders if folded(name) in common]
        if len(same) == 1 and common <= names.CONTAINERS:
            # As in cat/images: what counts is in there.
            inner = [_only_common(one, common) for one in inner]
            continue
        same = [name for name in same if has_images(inner[0].folders[name], level.root)]
        # A part of the data may lack a class.
        most = len(every) > 1 and 2 * len(common) >= len(every)
        if len(same) > 1 or (same and most and not any(one.beside.images for one in inner)):
            raise refused(
                level.root,
                f"the folders {listed(level.places())} all hold the same folders, "
                f"{listed(map(shown, same))}, so they look like splits or parts, not classes",
            )
        return


def _only_common(level: Level, common: set[str]) -> Level:
    """The level below the one folder that all others have as well."""
    return level.level(next(name for name in level.folders if folded(name) in common))


def _of(level: Level) -> str:
    """What a message calls a level: the folder itself, or one below it."""
    return "it" if level.path == level.root else shown(level.path, level.root)


def split_folders(found: Layout) -> Iterator[tuple[str, list[Path | None]]]:
    """The splits in a fixed order, with the folder of each class."""
    for split in (UNDIVIDED, "train", "validation", "test"):
        if split in found.splits:
            yield split, found.splits[split]
