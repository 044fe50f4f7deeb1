"""The exit statuses of worker processes, and how their pool reads them."""

from __future__ import annotations

import errno
from pathlib import Path

from mixbench.experiments.store import rights

STOPPED = 3
"""It was told to stop."""
POISONED = 4
"""The device is unusable in this process; a new process can continue."""
NO_STORE = 5
"""The sweep's folder can't be written to, by a new process either."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_disk_full(error: BaseException) -> bool:
    """Does the error mean that the disk is full or read-only?"""
    return isinstance(error, OSError) and error.errno in DISK_FULL


def is_unwritable(error: OSError) -> bool:
    """Does the error mean that the store can't be written to?"""
    return is_disk_full(error) or rights.is_refusal(error)


def describe(error: OSError, folder: Path) -> str:
    """Describe the error, such as "No space left on device: /runs/demo/runs/1a2b"."""
    if rights.is_refusal(error):
        return rights.describe(error, folder)
    return f"{error.strerror}: {error.filename or folder}"
