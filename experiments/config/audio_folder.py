"""The user's own clips of sound: which files, classes and splits.

    audio/*.wav with meta/esc50.csv         ESC-50: filename, fold and category of each clip
    WORD/*.wav with validation_list.txt     Speech Commands: and testing_list.txt, PATHs below
        and testing_list.txt                it, one a line; folders that begin with _ are no words
    CLASS/*.wav                             a folder for each class: every fifth clip tests
    train/CLASS/*.wav, test/CLASS/*.wav     with clips to test on, and perhaps val/CLASS/*.wav

With ESC-50's layout the last fold tests, or in each replicate another one (`dataset.folds`).
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mixbench.experiments.errors import UserError

KIND = "audiofolder"
SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf")
META = "meta/esc50.csv"
COLUMNS = ("filename", "fold", "category")
TESTING, VALIDATION = "testing_list.txt", "validation_list.txt"
SPLITS = ("train", "val", "test")
SHORT, LONG = (48, 64), (48, 320)
"""Mel bands, and moments, 64 a second: of a word, and of ESC-50's five seconds."""


@dataclass(frozen=True)
class AudioFolder:
    """What is in a folder.

    Attributes:
        root: The folder.
        classes: Their names, in order.
        files: Paths below `root`, and `labels` the class of each.
        parts: The split of each ("train", "val" or "test"), or its fold (from "0" on).
        folds: How many folds there are; None where splits are fixed.
        size: The usual picture of a clip, mel bands and moments.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    parts: tuple[str, ...]
    folds: int | None = None
    size: tuple[int, int] = SHORT

    def numbers(self, split: str, fold: int | None = None) -> list[int]:
        """Return which files a split has; with folds, `fold` tests (None: the last one)."""
        if self.folds is None:
            return [n for n, part in enumerate(self.parts) if part == split]
        tests = str(self.folds - 1 if fold is None else fold)
        want = {"train": False, "test": True}.get(split)
        return [n for n, part in enumerate(self.parts) if (part == tests) is want]

    @property
    def has_validation(self) -> bool:
        """Whether some clips are there to validate on."""
        return "val" in self.parts


@cache
def open_audio_folder(path: str) -> AudioFolder:
    """List a folder; no clip is decoded.

    Raises UserError for a missing folder, file or column, and fewer than two classes or clips.
    """
    root = Path(path).expanduser()
    if not path or not root.is_dir():
        raise UserError(
            f"{KIND}: {path!r} is not a folder; expected a folder of clips for each class, ESC-50 "
            f"({META}) or Speech Commands ({TESTING})"
        )
    if (root / META).is_file():
        found = _esc50(root)
    elif (root / TESTING).is_file():
        found = _speech_commands(root)
    elif (root / "train").is_dir():
        found = _divided(root)
    else:
        found = _undivided(root)
    _check(found)
    return found


@cache
def digest(path: str) -> str:
    """16 hexadecimal digits that identify the clips by names, sizes, classes and splits."""
    folder = open_audio_folder(path)
    total = hashlib.sha256("\0".join(folder.classes).encode())
    for name, label, part in zip(folder.files, folder.labels, folder.parts, strict=True):
        size = (folder.root / name).stat().st_size
        total.update(b"\n%s\0%d\0%d\0%s" % (os.fsencode(name), size, label, part.encode()))
    return total.hexdigest()[:16]


def _esc50(root: Path) -> AudioFolder:
    where = root / META
    try:
        with where.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise UserError(
                    f"{KIND}: {where} has no column {missing[0]}; expected {', '.join(COLUMNS)}"
                )
            rows = sorted(([row[name] or "" for name in COLUMNS] for row in reader), key=str)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{KIND}: cannot read {where} ({error})") from None
    lacking = next((name for name, *_ in rows if not (root / "audio" / name).is_file()), None)
    if lacking is not None:
        raise UserError(f"{KIND}: {root} has no audio/{lacking}, which {META} lists")
    folds = sorted({fold for _, fold, _ in rows})
    if len(folds) < 2:
        raise UserError(f"{KIND}: {where} has {len(folds)} folds, expected at least 2")
    return _listed(
        root,
        [(f"audio/{name}", category, str(folds.index(fold))) for name, fold, category in rows],
        folds=len(folds),
        size=LONG,
    )


def _speech_commands(root: Path) -> AudioFolder:
    tests, validates = _read_list(root, TESTING), _read_list(root, VALIDATION)
    both = sorted(tests & validates)
    if both:
        raise UserError(f"{KIND}: {both[0]} is both in {TESTING} and {VALIDATION} of {root}")
    clips = _clips_of_classes(root)
    unknown = sorted((tests | validates) - {name for name, _ in clips})
    if unknown:
        source = TESTING if unknown[0] in tests else VALIDATION
        raise UserError(f"{KIND}: {root} has no {unknown[0]}, which {source} lists")
    part_of = dict.fromkeys(tests, "test") | dict.fromkeys(validates, "val")
    return _listed(root, [(name, word, part_of.get(name, "train")) for name, word in clips])


def _read_list(root: Path, name: str) -> set[str]:
    try:
        lines = (root / name).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{KIND}: cannot read {root / name} ({error})") from None
    return {line.strip() for line in lines if line.strip()}


def _divided(root: Path) -> AudioFolder:
    clips = [
        (f"{split}/{name}", label, split)
        for split in SPLITS
        if (root / split).is_dir()
        for name, label in _clips_of_classes(root / split)
    ]
    trained = {label for _, label, split in clips if split == "train"}
    odd = sorted({(label, split) for _, label, split in clips if label not in trained})
    if odd:
        raise UserError(
            f"{KIND}: {root} has the class {odd[0][0]!r} in {odd[0][1]}/, not in train/"
        )
    if "test" not in {split for *_, split in clips}:
        train = [clip for clip in clips if clip[2] == "train"]
        clips = [*_fifth_tests([clip[:2] for clip in train]), *clips[len(train) :]]
    return _listed(root, clips)


def _undivided(root: Path) -> AudioFolder:
    return _listed(root, _fifth_tests(_clips_of_classes(root)))


def _fifth_tests(clips: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Let every fifth clip of a class test, in the order of their names."""
    parts, seen = [], dict.fromkeys((label for _, label in clips), 0)
    for name, label in clips:
        parts.append((name, label, "test" if seen[label] % 5 == 1 else "train"))
        seen[label] += 1
    return parts


def _clips_of_classes(root: Path) -> list[tuple[str, str]]:
    """The clips below each class's folder, and its name; folders like _background_noise_ not."""
    return [
        (path.relative_to(root).as_posix(), folder.name)
        for folder in sorted(root.iterdir())
        if folder.is_dir() and folder.name[0] not in "._"
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()
    ]


def _listed(
    root: Path,
    clips: Iterable[tuple[str, str, str]],
    *,
    folds: int | None = None,
    size: tuple[int, int] = SHORT,
) -> AudioFolder:
    rows = list(clips)
    classes = tuple(sorted({label for _, label, _ in rows}))
    number = {label: index for index, label in enumerate(classes)}
    labels = tuple(number[label] for _, label, _ in rows)
    files, parts = tuple(row[0] for row in rows), tuple(row[2] for row in rows)
    return AudioFolder(root, classes, files, labels, parts, folds, size)


def _check(found: AudioFolder) -> None:
    if len(found.classes) < 2:
        raise UserError(
            f"{KIND}: {found.root} has {len(found.classes)} classes with clips "
            f"({', '.join(SUFFIXES)}), expected at least 2"
        )
    for split in ("train", "test"):
        numbers = found.numbers(split)
        if split == "test" and not numbers:
            raise UserError(f"{KIND}: {found.root} has no clips to test on")
        there = {found.labels[number] for number in numbers}
        if split == "train" and len(there) < len(found.classes):
            lacking = next(c for n, c in enumerate(found.classes) if n not in there)
            raise UserError(
                f"{KIND}: {found.root} has no clip of class {lacking!r} to train on, expected some"
            )
