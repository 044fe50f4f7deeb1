"""Faults that a worker is given before its work begins; all of it runs in the worker's process."""

from __future__ import annotations

import builtins
import errno
import io
import os
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixbench.experiments.store import claims, processes
from mixbench.experiments.training import checkpoints
from mixbench.experiments.worker import claim_loop

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def brisk(lease_seconds: float = 120.0, renew_seconds: float = 1.0) -> None:
    """Little waiting between looks, and other times for claims."""
    claims.LEASE_SECONDS = lease_seconds
    claims.RENEW_SECONDS = renew_seconds
    claim_loop.WAIT_SECONDS = 0.05


def save_every_step() -> None:
    """A checkpoint before every step."""
    checkpoints.CHECKPOINT_SECONDS, checkpoints.CHECKPOINT_SHARE = 0.0, 1e9


def die_in_each_run(step: int, place: str) -> None:
    """Kill the process after this step of a run, once for each run; `place` remembers which."""
    renew = claims.Claim.renew

    def renewed(claim: claims.Claim, progress: Any = None, *, force: bool = False) -> None:
        renew(claim, progress, force=force)
        mark = Path(place) / claim.run_key
        if progress and progress.get("step") == step and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    claims.Claim.renew = renewed  # type: ignore[method-assign]


def slow(seconds: float) -> None:
    """Every step of the training takes that much longer."""
    _at_steps(lambda _: time.sleep(seconds))


def stop_at(step: int) -> None:
    """The process is stopped after a step, as by Ctrl-Z, until somebody wakes it."""
    _at_steps(lambda now: os.kill(os.getpid(), signal.SIGSTOP) if now == step else None)


def elsewhere(clock: float) -> None:
    """Another machine, as far as anyone can tell, whose clock is wrong by so many seconds."""
    true_time = time.time
    time.time = lambda: true_time() + clock
    name = f"elsewhere {os.getpid()}"
    processes.this_host = lambda: name  # type: ignore[assignment]


def memory(megabytes: int) -> None:
    """The process may take so much memory more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def full(place: str, number: int, once: bool, count: str) -> None:
    """The disk below `place` is full at the `number`-th change of a file there (from 1).

    It stays full, or has room again at once. What is written at that moment is cut off in its
    midst. `count` is a file elsewhere that tells how many changes there were.
    """
    tally = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    passed = [0]

    def is_below(path: Any) -> bool:
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        return os.path.abspath(os.fspath(path)).startswith(f"{place}/")

    def is_full(path: Any) -> bool:
        if not is_below(path):
            return False
        passed[0] += 1
        os.write(tally, b".")
        return passed[0] == number or (passed[0] > number and not once)

    def refuse(path: Any) -> None:
        name = None if isinstance(path, int) else os.fspath(path)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)

    def wrap(name: str) -> None:
        plain = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            # Of a rename or link the new name: it needs room in a directory.
            target = arguments[1] if name in ("replace", "rename", "link") else arguments[0]
            if name == "open" and not arguments[1] & WRITING:
                return plain(*arguments, **options)
            if is_full(target):
                refuse(target)
            return plain(*arguments, **options)

        setattr(os, name, wrapped)

    for name in ("open", "replace", "rename", "link", "mkdir", "fsync"):
        wrap(name)
    plain_open = io.open

    class File:
        """A file whose writes may fail, in their midst."""

        def __init__(self, file: Any, path: Any) -> None:
            self._file, self._path = file, path

        def __enter__(self) -> File:
            return self

        def __exit__(self, *error: object) -> None:
            self._file.close()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

        def write(self, content: bytes | str) -> int:
            if is_full(self._path):
                self._file.write(content[: len(content) // 2])
                self._file.flush()
                refuse(self._file.fileno())
            return int(self._file.write(content))

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+") or not is_below(file):
            return plain_open(file, mode, *arguments, **options)
        path = os.readlink(f"/proc/self/fd/{file}") if isinstance(file, int) else os.fspath(file)
        if not isinstance(file, int) and is_full(path):
            refuse(path)
        return File(plain_open(file, mode, *arguments, **options), path)

    io.open = builtins.open = opened


def _at_steps(call: Callable[[int], Any]) -> None:
    renew = claims.Claim.renew

    def renewed(claim: claims.Claim, progress: Any = None, *, force: bool = False) -> None:
        renew(claim, progress, force=force)
        if progress and "step" in progress:
            call(progress["step"])

    claims.Claim.renew = renewed  # type: ignore[method-assign]
