"""Read and write the JSON files of the store: a reader sees a whole file or none."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import uuid
from pathlib import Path
from typing import Any

SCHEMA = 1
"""The version of the files of sweep and run folders."""


def atomic_write(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees all of it or nothing."""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        # Not by `tempfile`, whose files are private and stay so: the umask, and the folder's group
        # and default ACL, say who may use what lies in it.
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise


def folder_aside(path: Path) -> Path:
    """Make a hidden folder beside `path`, to be filled and renamed to it; return its path.

    Its group, setgid bit and rights are those of any folder that is made there.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        aside.mkdir()
    except OSError as error:
        error.filename = str(path)
        raise
    return aside


def write_once(path: Path, content: bytes | str) -> bool:
    """Write a whole file unless there is one of that name, even over NFS; was it written?"""
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        atomic_write(aside, content)
        os.link(aside, path)
    except FileExistsError:
        # A server may have made the link and lost its answer: two links mean that it is ours.
        return aside.stat().st_nlink == 2
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        aside.unlink(missing_ok=True)
    return True


def no_folder(path: Path) -> str:
    """Say why `path` is no folder and can't be made one; "" if it is or can be, by its looks."""
    for place in (path, *path.parents):
        try:
            is_link = stat.S_ISLNK(place.lstat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return f"{str(place)!r}: {error.strerror}"
        if place.is_dir():
            return ""
        if is_link and not place.exists():
            return (
                f"{str(place)!r} is a link to {os.readlink(place)!r}, which leads nowhere (a disk "
                "that is not mounted?)"
            )
        return f"{str(place)!r} is not a folder"
    return ""


def dump(value: Any) -> str:
    """JSON as it is stored: keys in order, floats in full, NaN refused.

    Numbers of NumPy and torch are written as Python's.
    """
    return json.dumps(value, indent=1, allow_nan=False, default=_as_python) + "\n"


def _as_python(value: Any) -> Any:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError(f"{type(value).__name__} can't be written as JSON, expected a number")


def parse_object(text: str) -> dict[str, Any] | None:
    """The JSON object that a text holds; None if it holds anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def parse_lines(text: str) -> list[dict[str, Any]]:
    """The JSON objects of a text, one per line; other lines are left out.

    Only the last line of a file can be torn, by a kill in mid-write: it counts as not yet written.
    """
    rows = (parse_object(line) for line in text.split("\n") if line)
    return [row for row in rows if row is not None]


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file, or something else in it."""
    try:
        return parse_object(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
        return None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects in a file, one per line; none if there is no such file."""
    try:
        return parse_lines(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
