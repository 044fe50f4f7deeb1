"""Say why the file system refuses a path, whose it is, and what to do about it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

REFUSALS = (errno.EACCES, errno.EPERM)


class NotWritable(PermissionError):
    """The path itself is what this user can't write to."""


def is_refusal(error: BaseException) -> bool:
    """Does the error mean that this user lacks a right to a file?"""
    return isinstance(error, OSError) and error.errno in REFUSALS


def is_write_refusal(error: BaseException) -> bool:
    """Does the error mean that this user can't write there, or that nobody can?"""
    return is_refusal(error) or (isinstance(error, OSError) and error.errno == errno.EROFS)


def check_writable(*paths: Path) -> None:
    """Raise PermissionError for the first path that exists and that this user can't write to.

    OSError (EROFS) where nobody can, because the file system is read-only.
    """
    for path in paths:
        if path.exists() and not _may(path, os.W_OK):
            _check_file_system(path, path)
            raise NotWritable(errno.EACCES, os.strerror(errno.EACCES), str(path))


def check_folder(path: Path) -> None:
    """Raise as `check_writable` where this user can't write to the folder, or can't make it."""
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not _may(there, os.W_OK):
        _check_file_system(there, path)
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def _check_file_system(there: Path, path: Path) -> None:
    # Rights are no matter there, and no chmod helps.
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))


def describe(error: OSError, default: Path | None = None) -> str:
    """Describe a refusal in a line: the path, whose it is, and what to do.

    default: the path where the error has none.
    """
    reason = error.strerror or os.strerror(errno.EACCES)
    name = error.filename if isinstance(error.filename, str) else default
    if name is None:
        return reason
    path = Path(name).absolute()
    if error.errno == errno.EROFS:
        return f"{reason}: {path}"
    place = path if isinstance(error, NotWritable) else _cause(path)
    return f"{reason}: {path}; {_advice(place, path)}"


def _advice(place: Path, path: Path) -> str:
    """Name what stands in the way, its owner, and what to ask for."""
    info = place.stat()
    owner, group = _user(info.st_uid), _group(info.st_gid)
    what = "it" if place == path else str(place)
    whose = f"{what} belongs to {owner}, group {group} ({stat.filemode(info.st_mode)})"
    is_folder = stat.S_ISDIR(info.st_mode)
    if info.st_uid == os.geteuid():
        return f"{whose}: chmod u+rw{'x' if is_folder else ''} {place}"
    if info.st_gid in (os.getegid(), *os.getgroups()):
        change = f"chmod -R g+rwX {place}" if is_folder else f"chmod g+rw {place}"
        return f"{whose}: ask {owner} for `{change}`, and to work with `umask 002`"
    return f"{whose}: ask {owner} for access"


def _cause(path: Path) -> Path:
    """Find the folder that can't be entered, or what can't be read or written to."""
    for folder in reversed(path.parents):
        if folder.is_dir() and not os.access(folder, os.X_OK):
            return folder
    if not path.exists():
        return next((folder for folder in path.parents if folder.is_dir()), path)
    if path.is_dir() and not _may(path, os.W_OK):
        return path
    # What is written aside and renamed needs the folder's rights alone.
    if os.access(path, os.R_OK) and not _may(path.parent, os.W_OK):
        return path.parent
    return path


def _may(path: Path, mode: int) -> bool:
    return os.access(path, mode | os.X_OK if path.is_dir() else mode)


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
