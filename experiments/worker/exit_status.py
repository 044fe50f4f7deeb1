"""The exit statuses of worker processes, and how their pool reads them."""

from __future__ import annotations

import errno
from pathlib import Path

STOPPED = 3
"""It was told to stop."""
POISONED = 4
"""Its device is unusable in this process; a new one can go on."""
NO_STORE = 5
"""The sweep's folder can't be written to, which a new process would find as well."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_disk_full(error: BaseException) -> bool:
    """Is the disk full or read-only, whatever the process does?"""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def is_unwritable(error: OSError) -> bool:
    """Can this process not write to the store?"""
    return is_disk_full(error) or error.errno == errno.EACCES


def describe(error: OSError, folder: Path) -> str:
    """Such as "No space left on device: /runs/demo/runs/1a2b"."""
    return f"{error.strerror}: {error.filename or folder}"
