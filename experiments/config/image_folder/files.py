"""The image files below a folder: which suffixes, which links, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mixbench.experiments.config.image_folder import suffixes
from mixbench.experiments.config.member_file import member_of, told

_JUNK_FOLDERS = (
    "__macosx",
    "__pycache__",
    "@eadir",
    "#recycle",
    "$recycle.bin",
    "lost+found",
    "system volume information",
)
_SIGNATURES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"8BPS"),
    b"\0\0\0\x0cjP  \r\n\x87\n",
)
_BRANDS = (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")

LeftOut = tuple[Path, str]
"""A file, link or folder whose images are not used, and why."""


@dataclass
class Contents:
    """What is in a folder.

    Attributes:
        images: The image files, in a fixed order.
        left_out: What might be images, but is not used.
        notes: What else is worth a word.
        others: How many files of other kinds there are, by suffix.
    """

    images: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to the system or to a program, not to the data."""
    return name.startswith(".") or name.casefold() in _JUNK_FOLDERS


def contents(folder: Path, root: Path) -> Contents:
    """Find the images at any depth below `folder`, which is in the image folder `root`.

    Links to files and folders are followed. Each folder is read once, at its own place if it is
    below `folder`; links back to a folder that they are in are not followed.
    """
    found = Contents()
    folders, links = _walk(folder, found)
    seen = {_identity(path) for path in folders} if links else set()
    for link in links:  # grows by the links below them
        if leads_back(link, root):
            found.notes.append(f"the link {shown(link, root)} leads back to a folder that it is in")
        elif _identity(link) not in seen:
            folders, more = _walk(link, found, seen)
            links += more
    return found


def _walk(
    top: Path, found: Contents, seen: set[tuple[int, int]] | None = None
) -> tuple[list[Path], list[Path]]:
    """Add what is below `top` to `found`; return the folders read, and the links to folders.

    seen: identities of folders that are not to be read again; those read are added.
    """
    folders: list[Path] = []
    links: list[Path] = []
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        if seen is not None:
            if _identity(folder) in seen:
                continue
            seen.add(_identity(folder))
        folders.append(folder)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.left_out.append((folder, f"a folder that can't be read: {error.strerror}"))
            continue
        below: list[Path] = []
        for entry in entries:
            kind = folder_kind(entry)
            if kind and is_hidden(entry.name):
                found.others["hidden"] += 1
            elif kind:
                (links if kind == "link" else below).append(folder / entry.name)
            else:
                add_file(folder / entry.name, entry, found)
        waiting += reversed(below)
    return folders, links


def folder_kind(entry: os.DirEntry[str]) -> str:
    """What an entry is: a "folder", a "link" to one, or "" for anything else."""
    try:
        if not entry.is_dir():
            return ""
    except OSError:  # a link to itself
        return ""
    return "link" if entry.is_symlink() else "folder"


def add_file(path: Path, entry: os.DirEntry[str], found: Contents) -> None:
    """Add a file to the images of `found`, to what is left out, or to the other files."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if is_hidden(entry.name):
        found.others["hidden"] += 1
        return
    if suffix in suffixes.NOT_IMAGES or entry.name in ("Thumbs.db", "desktop.ini"):
        found.others[suffix] += 1
        return
    problem = _no_file(path, entry)
    if problem:
        found.left_out.append((path, problem))
    elif suffix in suffixes.IMAGES:
        found.images.append(path)
    elif suffix in suffixes.OTHER_IMAGES:
        found.left_out.append((path, f"{suffix} files are not read"))
    elif not _looks_like_an_image(path):
        found.others[suffix or "no suffix"] += 1
    elif suffix in suffixes.COPIES or suffix.endswith("~"):
        found.left_out.append((path, f"{suffix} files are copies, or unfinished"))
    else:
        found.images.append(path)


def _no_file(path: Path, entry: os.DirEntry[str]) -> str:
    """Why a name is that of no file that can be opened; "" if it is."""
    try:
        if entry.is_file():
            return ""
        is_dangling = entry.is_symlink() and not path.exists()
    except OSError as error:
        return f"a link that can't be followed: {error.strerror}"
    return dangling(path) if is_dangling else "not a regular file"


def dangling(path: Path) -> str:
    """Say where a link leads that leads nowhere."""
    return f"a link that leads nowhere, to {os.readlink(path)}"


def _looks_like_an_image(path: Path) -> bool:
    """Whether a file without a suffix of images begins like one."""
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError:
        return False
    is_webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    is_bmp = head[:2] == b"BM" and head[6:10] == b"\0\0\0\0"
    is_iso = head[4:].startswith(_BRANDS)
    return head.startswith(_SIGNATURES) or is_webp or is_bmp or is_iso


def has_images(folder: Path, root: Path) -> bool:
    """Whether there is an image at any depth below a folder."""
    return bool(contents(folder, root).images)


def leads_back(link: Path, root: Path) -> bool:
    """Whether a link leads to a folder that it, or the image folder `root`, is in."""
    target = os.path.realpath(link)
    return any(
        os.path.commonpath([target, inside]) == target
        for inside in (os.path.realpath(link.parent), os.path.realpath(root))
    )


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def shown(path: Path | str, root: Path | None = None) -> str:
    """A path as text that can be printed on one line, from `root` on."""
    text, member = told(path), member_of(path)
    if member is not None and root is not None:
        return f"{shown(member.file, root)}: {shown(member.name)}"
    if root is not None and Path(path).is_relative_to(root):
        text = str(Path(path).relative_to(root))
    printable = text.encode("utf-8", "backslashreplace").decode()
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in printable
    )
