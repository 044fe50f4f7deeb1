"""What every download shares: where it goes, a folder to work in, a limit on waiting."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SECONDS_WITHOUT_AN_ANSWER = 20


class Unavailable(Exception):
    """A way of fetching did not work; the message says why."""


def data_folder() -> Path:
    """Where fetched data sets are: $MIXBENCH_DATA, else ~/.cache/mixbench/data."""
    named = os.environ.get("MIXBENCH_DATA")
    if named:
        return Path(named).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "mixbench" / "data"


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """Give a temporary folder within the data folder, from where a complete file is renamed.

    A data folder that did not exist before and is empty after is removed with it. Raises OSError.
    """
    root = data_folder()
    created = [path for path in (root, *root.parents) if not path.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as work:
            yield Path(work)
    finally:
        with contextlib.suppress(OSError):
            for path in created:
                path.rmdir()


@contextlib.contextmanager
def answer_timeout() -> Iterator[None]:
    """Give up on a server that stays silent; by default Python would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_WITHOUT_AN_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def last_line(error: Exception) -> str:
    """The last line of an error, where torchvision has the cause, or the error's type."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
