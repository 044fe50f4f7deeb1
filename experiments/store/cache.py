"""The cache of pictures: where it is, and how one process at a time makes what is missing."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mixbench.experiments.store.sweep_folder import root

log = logging.getLogger(__name__)

LEFT_FREE = 2**28
"""Bytes of the disk that the cache leaves to others."""
POLL_SECONDS = 0.1


def folder() -> Path:
    """Where the cache is: `pictures` in $MIXBENCH_CACHE, else in `.cache` beside the sweeps."""
    named = os.environ.get("MIXBENCH_CACHE")
    return (Path(named).expanduser() if named else root() / ".cache") / "pictures"


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock on a file, which the system releases when a process ends, however it ends."""
    waited = False
    while True:
        with path.open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    log.info("waiting for another process that reads the same pictures")
                waited = True
                time.sleep(POLL_SECONDS)
                continue
            # The holder before may have removed the file: then this is a lock on nothing.
            if not _is_same(path, file.fileno()):
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_same(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except FileNotFoundError:
        return False
