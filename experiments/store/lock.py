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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.errors import UserError
from mixbench.experiments.store import processes, rights
from mixbench.experiments.store.claims import SKEW_SECONDS
from mixbench.experiments.store.files import atomic_write, parse_object

POLL_SECONDS = 0.05
RENEW_SECONDS = 5.0


@dataclass
class Lock:
    """A lock that this process holds."""

    path: Path
    body: dict[str, Any]

    def renew(self) -> None:
        """Show, at most every few seconds, that the holder is still at work: see `lease`."""
        if time.time() - self.body["time"] > RENEW_SECONDS and self.is_held():
            self.body["time"] = time.time()
            atomic_write(self.path, json.dumps(self.body))

    def is_held(self) -> bool:
        """Is the lock still this one's? After a long silence another process may have it."""
        return bool(_parse(_read(self.path) or "").get("token") == self.body["token"])


@contextlib.contextmanager
def exclusive(
    path: Path,
    what: str,
    wait: float = 0.0,
    *,
    waits_for: str | None = None,
    lease: float | None = None,
) -> Iterator[Lock]:
    """Hold the lock file `path` while the block runs.

    what: what its holder does, for the message, such as "projecting the sweep 'demo'".
    wait: seconds to wait for another holder. UserError, naming the holder, when it is still there.
    waits_for: wait only for a holder that does this; refuse at once beside any other.
    lease: take the lock over, too, from a holder that has not renewed it for so many seconds (it
    may be on another machine, where nobody can see whether it lives).
    """
    attempt = _Attempt(path, what, time.monotonic() + wait, waits_for, lease)
    lock = attempt.take()
    try:
        yield lock
    finally:
        if lock.is_held():
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Attempt:
    path: Path
    what: str
    deadline: float
    waits_for: str | None
    lease: float | None

    def take(self) -> Lock:
        body = {
            **processes.this_process(),
            "what": self.what,
            "time": time.time(),
            "token": uuid.uuid4().hex,
        }
        while not _create(self.path, json.dumps(body)):
            held = _read(self.path)
            if held is None:
                continue
            holder = _parse(held)
            if self._is_gone(holder):
                self._remove(held)
            elif time.monotonic() < self.deadline and self._may_wait(holder):
                time.sleep(POLL_SECONDS)
            else:
                raise UserError(_refusal(self.path, holder, self.what))
        return Lock(self.path, body)

    def _is_gone(self, holder: dict[str, Any]) -> bool:
        if processes.is_dead(holder):
            return True
        silent = time.time() - holder.get("time", 0.0)
        return self.lease is not None and silent > self.lease + SKEW_SECONDS

    def _may_wait(self, holder: dict[str, Any]) -> bool:
        return self.waits_for is None or holder.get("what") == self.waits_for

    def _remove(self, held: str) -> None:
        patience = max(0.0, self.deadline - time.monotonic())
        with exclusive(self.path.with_name(f"{self.path.name}.dead"), self.what, patience):
            # Whoever was here first may have removed it and made a new one.
            if _read(self.path) == held:
                self.path.unlink()


def _create(path: Path, content: str) -> bool:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_text(content)
        os.link(temporary, path)
    except FileExistsError:
        # A server may have made the link and lost its answer: two links mean that it is ours.
        return temporary.stat().st_nlink == 2
    except OSError as error:
        if rights.is_refusal(error):
            error.filename = str(path)
            raise UserError(rights.describe(error, path)) from None
        raise UserError(f"{path}: {error.strerror}; the folder must be writable") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def _parse(content: str) -> dict[str, Any]:
    return parse_object(content) or {}


def _refusal(path: Path, body: dict[str, Any], what: str) -> str:
    host = str(body.get("host", "an unknown host")).split(" ")[0]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(body.get("time", 0)))
    return (
        f"another process is {body.get('what', what)}: process {body.get('pid', '?')} on {host} "
        f"since {since}; wait for it, or, if it is gone, remove {path}"
    )


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None
