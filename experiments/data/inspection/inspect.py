"""Inspect an image folder: what a sweep would read, and what is odd about it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from mixbench.experiments.config.datasets import FOLDER, has_files
from mixbench.experiments.config.image_folder.files import shown
from mixbench.experiments.config.schema import DatasetConfig
from mixbench.experiments.data.folder_listing import Listing, check_readable, listing_of, used_files
from mixbench.experiments.data.inspection.facts import Facts, examine
from mixbench.experiments.errors import UserError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Picture:
    """An image file that a sweep would use."""

    path: Path
    split: str
    label: str
    facts: Facts


@dataclass(frozen=True)
class Inspection:
    """What a sweep would read from a folder.

    Attributes:
        listing: The files, and what is left out of them.
        pictures: Those that can be read.
        skipped: (file from the folder on, reason) of what is not used.
    """

    listing: Listing
    pictures: tuple[Picture, ...]
    skipped: tuple[tuple[str, str], ...]

    @cached_property
    def splits(self) -> dict[str, int]:
        """The number of images of each split."""
        counts = Counter(picture.split for picture in self.pictures)
        return {split: counts[split] for split in SPLITS}

    @cached_property
    def classes(self) -> dict[str, int]:
        """The number of images of each class, in all splits together."""
        counts = Counter(picture.label for picture in self.pictures)
        return {label: counts[label] for label in self.listing.classes}

    @cached_property
    def by_class(self) -> dict[str, dict[str, int]]:
        """The number of images of each class in each split."""
        counts = Counter((picture.label, picture.split) for picture in self.pictures)
        return {
            label: {split: counts[label, split] for split in SPLITS}
            for label in self.listing.classes
        }

    @cached_property
    def same(self) -> list[list[Picture]]:
        """Groups of images with the same pixels."""
        groups: dict[str, list[Picture]] = defaultdict(list)
        for picture in self.pictures:
            groups[picture.facts.content].append(picture)
        return [group for group in groups.values() if len(group) > 1]

    def name(self, picture: Picture) -> str:
        """A picture's file, from the folder on."""
        return shown(picture.path, self.listing.root)


def inspect(folder: str, tell: Callable[[int, int], None] | None = None) -> Inspection:
    """Read a folder, or a list such as `csv:FILE`, as a sweep with default settings would.

    UserError where that is refused.

    tell: hears how many images are done, and of how many.
    """
    name = folder if has_files(folder) else f"{FOLDER}:{folder}"
    config = DatasetConfig(name=name)
    listing = listing_of(config.name)
    files = used_files(config, listing)
    paths = [path for split in SPLITS for path in files[split][0]]
    total = len(paths)
    facts = dict(
        zip(
            paths,
            examine(paths, None if tell is None else lambda done: tell(done, total)),
            strict=True,
        )
    )
    check_readable(files, listing, lambda path: facts[path].problem or None)
    pictures = [
        Picture(path, split, listing.classes[label], facts[path])
        for split in SPLITS
        for path, label in zip(files[split][0], files[split][1].tolist(), strict=True)
        if not facts[path].problem
    ]
    if not any(picture.split == "validation" for picture in pictures):
        raise UserError(f"{listing.kind}: no image of the validation split can be read")
    unread = [(str(path), facts[path].problem) for path in paths if facts[path].problem]
    skipped = sorted(
        (shown(path, listing.root), reason)
        for path, reason in chain(listing.left_out.items(), unread)
    )
    return Inspection(listing, tuple(pictures), tuple(skipped))
