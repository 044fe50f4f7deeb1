"""Pictures with labels, as a table or a set of shards names them: checked, and in a fixed order."""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mixbench.experiments.config.image_folder.files import shown
from mixbench.experiments.config.image_folder.layout import UNDIVIDED
from mixbench.experiments.config.image_folder.names import listed, normal
from mixbench.experiments.config.member_file import size_and_time
from mixbench.experiments.errors import UserError
from mixbench.experiments.text import plural

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Picture:
    """A picture: its file, its name from the list on, its class and its split."""

    path: Path
    name: str
    label: str
    split: str = UNDIVIDED


@dataclass
class Found:
    """What a reader has seen.

    Attributes:
        pictures: Those that have a label.
        classes: Their names in order, where the source declares them; None: in the order of names.
        left_out: What is not used, and why.
        notes: What is worth a word.
        others: How many files of other kinds there are, by suffix.
    """

    pictures: list[Picture] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class PictureList:
    """Pictures by split, one class after the other, as those of a folder come.

    `splits` has {"all": ...} where nothing says which are to test on. `root` is the folder that
    names count from; `source` is what was named.
    """

    kind: str
    source: Path
    root: Path
    classes: tuple[str, ...]
    splits: dict[str, list[Picture]]
    left_out: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    others: Counter[str]

    @property
    def has_test(self) -> bool:
        """Whether some pictures are there to test on."""
        return "test" in self.splits

    def digest(self) -> str:
        """Return 16 hexadecimal digits of the names, sizes, classes and splits of its pictures."""
        total = hashlib.sha256()
        for split, pictures in self.splits.items():
            for one in pictures:
                names = b"\0".join(os.fsencode(text) for text in (split, one.label, one.name))
                total.update(b"%s\0%d\n" % (names, size_and_time(one.path)[0]))
        return total.hexdigest()[:16]

    def counts(self) -> tuple[int, int | None, int]:
        """Return how many pictures train, validate and test; about, where none says so."""
        train = len(self.splits.get(UNDIVIDED) or self.splits["train"])
        test = len(self.splits["test"]) if self.has_test else train - train * 4 // 5
        validation = self.splits.get("validation")
        return (
            train if self.has_test else train - test,
            None if validation is None else len(validation),
            test,
        )


def picture_list(kind: str, source: Path, root: Path, found: Found) -> PictureList:
    """Sort what was found; UserError where nothing can be learned from it."""
    by_split: dict[str, list[Picture]] = defaultdict(list)
    for one in found.pictures:
        by_split[one.split].append(one)
    train = by_split.get(UNDIVIDED) or by_split.get("train") or []
    classes = (
        tuple(sorted({one.label for one in train})) if found.classes is None else found.classes
    )
    problem = _no_pictures(found, by_split) or _no_classes(by_split, train, classes)
    if problem:
        raise UserError(f"{kind}: {shown(source)}: {problem}")
    numbers = {label: number for number, label in enumerate(classes)}

    def place(one: Picture) -> tuple[int, list[tuple[int, str]]]:
        return numbers[one.label], _order(one.name)

    return PictureList(
        kind,
        source,
        root,
        classes,
        {s: sorted(by_split[s], key=place) for s in (UNDIVIDED, *SPLITS) if s in by_split},
        tuple(found.left_out),
        tuple(found.notes),
        found.others,
    )


def class_name(text: str) -> str:
    """The name of a class as it is compared."""
    return normal(text.strip())


def _no_pictures(found: Found, by_split: Mapping[str, list[Picture]]) -> str:
    """Say why there is nothing to train on; "" if there is."""
    if not found.pictures:
        reasons = list(dict.fromkeys(why for _, why in found.left_out))
        because = f" ({len(found.left_out):,} left out: {listed(reasons, 3)})" if reasons else ""
        return f"no picture with a label{because}"
    named = listed(split for split in SPLITS if split in by_split)
    if UNDIVIDED in by_split and len(by_split) > 1:
        some = shown(by_split[UNDIVIDED][0].name)
        return f"{some} has no split, but others have ({named}); expected one for each, or none"
    if not (UNDIVIDED in by_split or "train" in by_split):
        return f"got pictures of {named} alone; expected some of train"
    return ""


def _no_classes(
    by_split: Mapping[str, list[Picture]], train: Sequence[Picture], classes: tuple[str, ...]
) -> str:
    """Say why the classes of the splits don't fit; "" if they do."""
    if len(classes) < 2:
        return f"got one class, {shown(classes[0])!r}; expected at least two"
    trained = {one.label for one in train}
    without = [label for label in classes if label not in trained]
    if without:
        return f"no picture to train on of {plural(len(without), 'class', 'classes')}: " + listed(
            map(shown, without)
        )
    for split in SPLITS[1:]:
        there = {one.label for one in by_split.get(split, [])}
        extra = sorted(there - trained)
        missing = [label for label in classes if label not in there]
        if extra:
            return f"{split} has classes that train has not: {listed(map(shown, extra))}"
        # Of a class that is missing in the test images nothing would be measured.
        if split == "test" and there and missing:
            return f"no picture to test on of {listed(map(shown, missing))}"
    return ""


def _order(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as a folder's files come: those of a folder before its folders."""
    *folders, file = name.split("/")
    return [*((1, one) for one in folders), (0, file)]
