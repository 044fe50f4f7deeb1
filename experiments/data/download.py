"""What every way of fetching shares: a place to work in that leaves no trace, and patience."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mixbench.experiments.config.datasets import data_folder

_SECONDS_WITHOUT_AN_ANSWER = 20


@contextlib.contextmanager
def work_folder() -> Iterator[Path]:
    """A temporary folder within the data folder, from where a finished file moves by a rename.

    A data folder that did not exist before and is empty after is removed with it. Raises OSError.
    """
    root = data_folder()
    made = [path for path in (root, *root.parents) if not path.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as work:
            yield Path(work)
    finally:
        with contextlib.suppress(OSError):
            for path in made:
                path.rmdir()


@contextlib.contextmanager
def impatience() -> Iterator[None]:
    """Give up on a server that stays silent; by default Python would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_WITHOUT_AN_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def reason(error: Exception) -> str:
    """The last line of an error, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
