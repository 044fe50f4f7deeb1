"""One level of an image folder: which folders, and what lies beside them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mixbench.experiments.config.image_folder import files
from mixbench.experiments.config.image_folder.files import Contents, LeftOut, shown
from mixbench.experiments.config.image_folder.names import listed
from mixbench.experiments.errors import UserError

EXPECTED = (
    "a folder of images for each class, or train/ with the class folders in it and test/, val/ or "
    "both beside it"
)


def refused(root: Path, what: str, expected: str = EXPECTED) -> UserError:
    """The error for a folder that can't be read as it is laid out."""
    return UserError(f"imagefolder: {shown(root)}: {what}; expected {expected}")


@dataclass
class Level:
    """A folder's folders, by name in order, and the files beside them."""

    path: Path
    root: Path
    folders: dict[str, Path] = field(default_factory=dict)
    beside: Contents = field(default_factory=Contents)

    @property
    def names(self) -> list[str]:
        """The folders' names, as they can be printed."""
        return [shown(name) for name in self.folders]

    def places(self) -> list[str]:
        """The folders from `root` on, as they can be printed."""
        return [shown(path, self.root) for path in self.folders.values()]

    @cached_property
    def stray(self) -> list[LeftOut]:
        """Images that lie beside the folders, and what else is left out there."""
        images = [(path, "lies beside the class folders") for path in self.beside.images]
        return [*images, *self.beside.left_out]

    def check_links(self) -> None:
        """Raise UserError for a link that leads nowhere and may have been a class or a split."""
        for path, reason in self.beside.left_out:
            if path.is_symlink() and not path.suffix:
                raise refused(
                    self.root,
                    f"{shown(path, self.root)} is {reason}, and what is missing can't be known",
                    "links that lead somewhere",
                )

    def level(self, name: str) -> Level:
        """The level below one of the folders."""
        return read(self.folders[name], self.root)

    def seen(self) -> str:
        """What is there, in words."""
        if self.folders:
            return (
                f"the folders {listed(self.names)}"
                if len(self.folders) > 1
                else (f"one folder, {self.names[0]}")
            )
        images = len(self.beside.images)
        return f"no folders, {images} images" if images else "no folders and no images"


def read(path: Path, root: Path) -> Level:
    """List a folder of the image folder `root`; links to folders count as folders.

    Raises UserError for a folder that can't be read.
    """
    level = Level(path, root)
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"imagefolder: {shown(path)} can't be read: {reason}") from None
    for entry in entries:
        place = path / entry.name
        kind = files.folder_kind(entry)
        if kind and files.is_hidden(entry.name):
            continue
        if kind == "link" and files.leads_back(place, root):
            level.beside.notes.append(
                f"the link {shown(place, root)} leads back to a folder that it is in"
            )
        elif kind:
            level.folders[entry.name] = place
        else:
            files.add_file(place, entry, level.beside)
    return level
