"""Who works on a run: numbered claims, made by exclusive creation, renewed by heartbeats.

A claim is the file `claims/NNNNNN.json` in the run folder, and the highest number holds the run.
Number n+1 may be created when n is released, when its process is known to be dead, or when it has
not changed for the length of a lease as seen by the one who waits (so the clocks of two hosts never
meet). Creation is a hard link to a complete file: atomic, also over NFS, with exactly one winner.
A holder that was overtaken sees the higher number when it next renews, and stops.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixbench.experiments.store import processes
from mixbench.experiments.store.files import parse_object
from mixbench.experiments.store.states import Outcome

LEASE_SECONDS = 120.0
RENEW_SECONDS = 1.0
PREPARING_SECONDS = 1800.0
"""How long a worker may prepare a run before it counts as hung."""
SKEW_SECONDS = 60.0
"""How far the clocks of two hosts may be apart."""


class ClaimLost(Exception):
    """Another worker holds the run now: stop, and write nothing more."""


@dataclass
class Watch:
    """What a waiting worker has seen of other workers' claims, by its own clock."""

    seen: dict[Path, tuple[str, float]] = field(default_factory=dict)
    looked: dict[Path, float] = field(default_factory=dict)
    renewed: dict[Path, float] = field(default_factory=dict)
    """When claims were last seen to change from one look to the next."""

    def unchanged_for(self, path: Path, content: str) -> float:
        """Return the seconds since this content was first seen at `path`."""
        now = time.monotonic()
        before = self.seen.get(path)
        if before is None or before[0] != content:
            self.seen[path] = (content, now)
            # A change since a look long ago does not show that its worker is still alive.
            if before is not None and now - self.looked[path] < LEASE_SECONDS / 4:
                self.renewed[path] = now
        self.looked[path] = now
        return now - self.seen[path][1]

    def somebody_works_on(self, run_folder: Path) -> bool:
        """Was a heartbeat of the run's current claim seen recently?"""
        folder = run_folder / "claims"
        number, _ = _latest(folder)
        renewed = self.renewed.get(_claim_path(folder, number))
        return renewed is not None and time.monotonic() - renewed < LEASE_SECONDS / 2


@dataclass
class Claim:
    """A run that this process holds."""

    path: Path
    number: int
    body: dict[str, Any]
    renewed: float = 0.0

    def renew(self, progress: dict[str, Any] | None = None, *, force: bool = False) -> None:
        """Send a heartbeat, at most once a second; ClaimLost if the run was taken over."""
        now = time.monotonic()
        if progress is not None:
            # Keep it even when it is not yet time to write: the next renewal may bring none. What
            # was saved in training stays saved while the network is measured.
            saved_step = self.body["progress"].get("saved")
            self.body["progress"] = (
                progress if saved_step is None else {"saved": saved_step, **progress}
            )
        if not force and now - self.renewed < RENEW_SECONDS:
            return
        if self.is_lost():
            raise ClaimLost(f"{self.run_key}: taken over by another worker")
        self.renewed = now
        self.body.update(beat=self.body["beat"] + 1, time=time.time())
        self._write()

    @property
    def run_key(self) -> str:
        """The key of the run."""
        return self.path.parent.parent.name

    def as_recorded(self) -> dict[str, Any]:
        """The claim's body with its number, as `last` and `numbered` give it."""
        return {**self.body, "number": self.number}

    def is_lost(self) -> bool:
        """Was the run taken over by another worker?"""
        return _claim_path(self.path.parent, self.number + 1).exists()

    @contextlib.contextmanager
    def keep_renewing(self) -> Iterator[None]:
        """Renew from a thread while code runs that can't renew: loading data, importing a library.

        Not for training, where a renewal must mean that the work goes on. ClaimLost at the end if
        the run was taken over.
        """
        done = threading.Event()

        def renew() -> None:
            limit = time.monotonic() + PREPARING_SECONDS
            while not done.wait(RENEW_SECONDS) and time.monotonic() < limit:
                with contextlib.suppress(ClaimLost, OSError):
                    self.renew({"stage": "preparing"})

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
        self.renew(force=True)

    def release(self, outcome: Outcome) -> None:
        """Let go of the run; `outcome` says how it ended."""
        self.body.update(released=outcome, time=time.time())
        self._write()

    def _write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        try:
            temporary.write_text(json.dumps(self.body))
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def acquire(
    run_folder: Path, worker: str, watch: Watch, *, from_stale: bool = False
) -> Claim | None:
    """Claim the run if it is free; None if somebody works on it, or was faster.

    from_stale: also from a worker elsewhere that by its clock has sent no heartbeat for 3 minutes.
    """
    folder = run_folder / "claims"
    number, content = _latest(folder)
    if number and not _is_free(_claim_path(folder, number), content, watch):
        if not (from_stale and is_stale(_parse(content))):
            return None
    if not number:
        # Without parents: a sweep that was moved must not be recreated in its old folder.
        run_folder.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
    body = {
        "worker": worker,
        **processes.this_process(),
        "job": processes.this_job(),
        "started": time.time(),
        "time": time.time(),
        "beat": 0,
        "progress": {},
    }
    path = _claim_path(folder, number + 1)
    temporary = folder / f".{uuid.uuid4().hex}"
    try:
        temporary.write_text(json.dumps(body))
        os.link(temporary, path)
    except FileExistsError:
        # A server may have made the link and lost its answer: two links mean that it is ours.
        if temporary.stat().st_nlink != 2:
            return None
    except FileNotFoundError:
        # Removed as no longer asked for, since we looked; but a sweep that is gone is an error.
        if not run_folder.parent.is_dir():
            raise
        return None
    finally:
        temporary.unlink(missing_ok=True)
    return Claim(path, number + 1, body)


def holder(run_folder: Path) -> dict[str, Any] | None:
    """Return the claim that holds the run, as far as this host can tell; None if none does."""
    body = last(run_folder)
    return None if body is None or "released" in body or is_stale(body) else body


def is_stale(body: dict[str, Any]) -> bool:
    """Is the worker of this claim dead, or has it sent no heartbeat for 3 minutes?

    As far as one look can tell: the time of a claim is by the clock of its host.
    """
    if "released" in body:
        return False
    silent = time.time() - body.get("time", 0)
    return processes.is_dead(body) or silent > LEASE_SECONDS + SKEW_SECONDS


def close(run_folder: Path, number: int, outcome: Outcome) -> None:
    """Release the claim of a process that is known to be dead, on its behalf."""
    path = _claim_path(run_folder / "claims", number)
    body = _parse(_read(path))
    if "released" not in body:
        Claim(path, number, body).release(outcome)


def numbered(run_folder: Path, number: int) -> dict[str, Any] | None:
    """The claim of that number, with its `number`; None if there is none."""
    try:
        return {**_parse(_read(_claim_path(run_folder / "claims", number))), "number": number}
    except FileNotFoundError:
        return None


def last(run_folder: Path) -> dict[str, Any] | None:
    """The claim with the highest number, held or not, with its `number`; None if there is none."""
    number, content = _latest(run_folder / "claims")
    return {**_parse(content), "number": number} if number else None


def _is_free(path: Path, content: str, watch: Watch) -> bool:
    body = _parse(content)
    return (
        "released" in body
        or processes.is_dead(body)
        or watch.unchanged_for(path, content) > LEASE_SECONDS
    )


def _latest(folder: Path) -> tuple[int, str]:
    try:
        numbers = [int(name[:6]) for name in os.listdir(folder) if name[:6].isdigit()]
    except FileNotFoundError:
        return 0, ""
    if not numbers:
        return 0, ""
    number = max(numbers)
    return number, _read(_claim_path(folder, number))


def _read(path: Path) -> str:
    for _ in range(5):
        try:
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            # Over NFS: the file that was opened has just been replaced by its holder.
            if error.errno != errno.ESTALE:
                raise
    return path.read_text(encoding="utf-8", errors="replace")


def _claim_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.json"


def _parse(content: str) -> dict[str, Any]:
    return parse_object(content) or {}
