"""One process at a time: a lock file that outlives no process of its own host.

The file is a hard link to a complete one, so it appears at once, with its holder's name in it, and
for exactly one of several who try. A lock whose holder is dead is taken over; that is itself done
under a lock, so that nobody removes the fresh lock of a faster process.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import processes, rights
from mixbench.experiments.store.files import parse_object

POLL_SECONDS = 0.05


@contextlib.contextmanager
def exclusive(path: Path, what: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` while the block runs.

    what: what its holder does, for the message, such as "projecting the sweep 'demo'".
    wait: seconds to wait for another holder. UserError, naming the holder, when it is still there.
    """
    content = _take(path, what, time.monotonic() + wait)
    try:
        yield
    finally:
        if _read(path) == content:
            path.unlink(missing_ok=True)


def _take(path: Path, what: str, deadline: float) -> str:
    content = json.dumps(
        {
            **processes.this_process(),
            "time": time.time(),
            "token": uuid.uuid4().hex,
        }
    )
    while not _create(path, content):
        held = _read(path)
        if held is None:
            continue
        if processes.is_dead(_parse(held)):
            _remove_dead(path, held, what, deadline)
        elif time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        else:
            raise UserError(_refusal(path, _parse(held), what))
    return content


def _create(path: Path, content: str) -> bool:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(content)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if rights.is_refusal(error):
            error.filename = str(path)
            raise UserError(rights.describe(error, path)) from None
        raise UserError(f"{path}: {error.strerror}; the folder must be writable") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _remove_dead(path: Path, held: str, what: str, deadline: float) -> None:
    with exclusive(
        path.with_name(f"{path.name}.dead"), what, max(0.0, deadline - time.monotonic())
    ):
        # Whoever was here first may have removed it and made a new one.
        if _read(path) == held:
            path.unlink()


def _parse(content: str) -> dict[str, Any]:
    return parse_object(content) or {}


def _refusal(path: Path, body: dict[str, Any], what: str) -> str:
    host = str(body.get("host", "an unknown host")).split(" ")[0]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(body.get("time", 0)))
    return (
        f"another process is {what}: process {body.get('pid', '?')} on {host} since {since}; "
        f"wait for it, or, if it is gone, remove {path}"
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
