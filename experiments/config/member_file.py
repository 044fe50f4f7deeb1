"""Pictures inside of a larger file, such as a tar, by paths that say where they lie.

`/data/train.tar/@1536+4523/cat/1.jpg` is the picture `cat/1.jpg`, 4523 bytes from byte 1536 on of
`/data/train.tar`. Such a path is passed on like that of any picture; what opens it or asks for its
size comes here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FORM = re.compile(r"(?P<file>.+?)/@(?P<offset>\d+)\+(?P<size>\d+)/(?P<name>.+)", re.DOTALL)


@dataclass(frozen=True)
class Member:
    """A picture in a file: where it begins, its bytes and its name."""

    file: Path
    offset: int
    size: int
    name: str


def member_path(member: Member) -> Path:
    """Return the path of a picture in a file."""
    return Path(f"{member.file}/@{member.offset}+{member.size}/{member.name}")


def member_of(path: Path | str) -> Member | None:
    """Return the picture in a file that a path is of; None for a file of its own.

    Examples:
        >>> member_of("/data/train.tar/@1536+4523/cat/1.jpg").name
        'cat/1.jpg'
        >>> member_of("/data/cat/1.jpg")
    """
    found = _FORM.fullmatch(str(path)) if "/@" in str(path) else None
    if found is None:
        return None
    return Member(Path(found["file"]), int(found["offset"]), int(found["size"]), found["name"])


def told(path: Path | str) -> str:
    """Return a path in words: `train.tar: cat/1.jpg` for a picture in a file."""
    member = member_of(path)
    return str(path) if member is None else f"{member.file}: {member.name}"


def content(member: Member) -> bytes:
    """Read the bytes of a picture in a file; OSError where they are not all there."""
    with member.file.open("rb") as file:
        file.seek(member.offset)
        found = file.read(member.size)
    if len(found) != member.size:
        raise OSError(0, f"{member.file.name} has ended before it")
    return found


def size_and_time(path: Path) -> tuple[int, int]:
    """Return the bytes of a picture, and when its file was changed; OSError where it is gone."""
    member = member_of(path)
    info = (path if member is None else member.file).stat()
    return (info.st_size if member is None else member.size), info.st_mtime_ns


def name_below(path: Path, root: Path) -> str:
    """Return the name of a picture from `root` on, or in the file that it lies in."""
    member = member_of(path)
    if member is not None:
        return member.name
    try:
        return str(path.relative_to(root))
    except ValueError:  # a list may name any file
        return str(path)
