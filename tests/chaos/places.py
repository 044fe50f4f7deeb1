"""The places where a worker is killed, and what it tells about itself until then.

All of it runs in the worker's own process, before its work begins: the calls that touch the disk
are wrapped, and at the chosen one the process sends itself SIGKILL.
"""

from __future__ import annotations

import io
import json
import os
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixbench.experiments.store import claims
from mixbench.experiments.training import checkpoints
from mixbench.experiments.worker import claim_loop

CHECKPOINT = r"/\.checkpoint\.new$"
CLAIM = r"/claims/\d{6}\.json$"


@dataclass(frozen=True)
class Place:
    """One place: before, after or in the middle of an operation on a file.

    file: what its path ends with, as a pattern (of a rename or a link: the new name). hits: how
    often a worker may pass before it is killed there. released: of claims, the last write or all
    but the last.
    """

    operation: str
    when: str
    file: str
    hits: int = 1
    released: bool | None = None


PLACES = {
    "claim: half of its file written": Place("write", "half", r"/claims/\.[0-9a-f]{32}$", 2),
    "claim: before the link": Place("link", "before", CLAIM, 2),
    "claim: linked, nobody told": Place("link", "after", CLAIM, 2),
    "presence: half written": Place("write", "half", r"/workers/\.[^/]+$", 3),
    "presence: before the rename": Place("replace", "before", r"/workers/[^/]+\.json$", 3),
    "preparing: config.json before the rename": Place("replace", "before", r"/config\.json$", 2),
    "preparing: data and network made": Place("call", "after", "load_run", 2),
    "preparing: mixed.png half written": Place("write", "half", r"/\.mixed\.png\.[^/]+$", 2),
    "renewal: half written": Place("write", "half", r"/claims/\.\d{6}\.json\.[^/]+$", 12),
    "renewal: before the rename": Place("replace", "before", CLAIM, 12, released=False),
    "renewal: after the rename": Place("replace", "after", CLAIM, 12, released=False),
    "metrics: half a row": Place("write", "half", r"/metrics\.jsonl$", 3),
    "checkpoint: half written": Place("write", "half", r"/\.\.checkpoint\.new\.[^/]+$", 12),
    "checkpoint: before the first rename": Place("replace", "after", CHECKPOINT, 12),
    "checkpoint: between the renames": Place("replace", "after", r"/checkpoint\.previous\.pt$", 12),
    "checkpoint: after the renames": Place("replace", "after", r"/checkpoint\.pt$", 12),
    "trained, not yet measured": Place("call", "before", "task_of"),
    "predictions: half written": Place("write", "half", r"/\.predictions\.npz\.[^/]+$"),
    "predictions: before the rename": Place("replace", "before", r"/predictions\.npz$"),
    "result: half written": Place("write", "half", r"/\.\.result\.json\.[^/]+$"),
    "result: before the link": Place("link", "before", r"/result\.json$"),
    "result: linked, nobody told": Place("link", "after", r"/result\.json$"),
    "attempts: half a row": Place("write", "half", r"/attempts\.jsonl$", 2),
    "release: before the rename": Place("replace", "before", CLAIM, 1, released=True),
    "release: after the rename": Place("replace", "after", CLAIM, 1, released=True),
}


def eager(renew_seconds: float = 0.02) -> None:
    """A checkpoint before every step, a renewal at nearly every one, and little waiting."""
    checkpoints.CHECKPOINT_SECONDS, checkpoints.CHECKPOINT_SHARE = 0.0, 1e9
    claims.RENEW_SECONDS = renew_seconds
    claim_loop.WAIT_SECONDS = 0.05


def tell(events: str, name: str) -> None:
    """Write down every claim, heartbeat and release of this worker, with the host's clock."""
    say = _teller(events, name)
    acquire, renew, release = claims.acquire, claims.Claim.renew, claims.Claim.release

    def acquired(run_folder: Path, worker: str, watch: claims.Watch) -> claims.Claim | None:
        claim = acquire(run_folder, worker, watch)
        if claim is not None:
            say("claimed", run_folder.name, claim.number)
        return claim

    def renewed(claim: claims.Claim, progress: Any = None, *, force: bool = False) -> None:
        renew(claim, progress, force=force)
        # After it: whoever was overtaken says no more.
        say("works", claim.path.parent.parent.name, claim.number)

    def released(claim: claims.Claim, outcome: str) -> None:
        say(f"releases: {outcome}", claim.path.parent.parent.name, claim.number)
        release(claim, outcome)

    claims.acquire = acquired
    claims.Claim.renew = renewed  # type: ignore[method-assign]
    claims.Claim.release = released  # type: ignore[method-assign]


def die_at(events: str, name: str, place: str, hit: int) -> None:
    """Have this process kill itself when it comes to `place` for the `hit`-th time."""
    say = _teller(events, name)
    wanted = PLACES[place]
    left = [hit]

    def die() -> None:
        say(f"killed: {place}")
        os.kill(os.getpid(), signal.SIGKILL)

    def is_it(operation: str, path: Any, source: Any = None) -> bool:
        if operation != wanted.operation or not re.search(wanted.file, os.fspath(path)):
            return False
        if wanted.released is not None:
            released = '"released"' in Path(source).read_text()
            if released != wanted.released:
                return False
        left[0] -= 1
        return left[0] == 0

    if wanted.operation == "write":
        _wrap_open(lambda path: is_it("write", path), die)
    elif wanted.operation == "call":
        from mixbench.experiments.worker import execute

        _wrap(execute, wanted.file, lambda *_: is_it("call", wanted.file), wanted.when, die)
    else:
        _wrap(
            os,
            wanted.operation,
            lambda source, target: is_it(wanted.operation, target, source),
            wanted.when,
            die,
        )


def _teller(events: str, name: str) -> Callable[..., None]:
    log = os.open(events, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def say(what: str, run_key: str | None = None, claim: int | None = None) -> None:
        # One write of one short line: it is there whole or not at all.
        row = {"at": time.monotonic_ns(), "worker": name, "what": what, "run": run_key}
        os.write(log, (json.dumps({**row, "claim": claim}) + "\n").encode())

    return say


def _wrap(
    module: Any, name: str, is_it: Callable[..., bool], when: str, die: Callable[[], None]
) -> None:
    function = getattr(module, name)

    def wrapped(*arguments: Any, **options: Any) -> Any:
        chosen = is_it(*arguments)
        if chosen and when == "before":
            die()
        result = function(*arguments, **options)
        if chosen:
            die()
        return result

    setattr(module, name, wrapped)


def _wrap_open(is_it: Callable[[str], bool], die: Callable[[], None]) -> None:
    plain = io.open

    class HalfWritten:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> HalfWritten:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, content: bytes | str) -> None:
            self._file.write(content[: len(content) // 2])
            self._file.flush()
            die()

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        there = plain(file, mode, *arguments, **options)
        if not set(mode) & set("wa+x"):
            return there
        path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.fspath(file)
        # `metrics.jsonl` is also opened to be emptied or cut.
        writes = mode not in ("wb", "ab") or not str(path).endswith("metrics.jsonl")
        return HalfWritten(there) if writes and is_it(str(path)) else there

    io.open = opened
