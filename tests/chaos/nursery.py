"""Starts real worker processes without torch's import for each of them.

One process imports all that a worker needs, does no work of its own, and forks a child per worker;
the child runs `mixbench.experiments.worker.__main__.main()`. A test that kills hundreds of them can
afford it.

    python -m tests.chaos.nursery        reads one request a line (JSON), answers with pids and ends
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

Setup = list[tuple[str, dict[str, Any]]]
"""What a child calls before it works: ("module:function", its arguments)."""


class Child:
    """A worker process. `status` is as in `subprocess.Popen.returncode`, None while it lives."""

    def __init__(self, nursery: Nursery, pid: int, output: Path) -> None:
        self.pid = pid
        self.output = output
        self.status: int | None = None
        self._nursery = nursery

    def send(self, number: int) -> None:
        """Send it a signal; nothing happens if it is gone, even if its number was given anew."""
        self._nursery.ask(do="signal", pid=self.pid, number=number)

    def wait(self, seconds: float = 300.0) -> int:
        """Its exit status, or minus the signal that ended it."""
        limit = time.monotonic() + seconds
        while self.status is None:
            assert time.monotonic() < limit, f"process {self.pid} goes on after {seconds:.0f} s"
            assert self._nursery.alive, "the nursery died"
            time.sleep(0.005)
        return self.status

    def said(self) -> str:
        """What it printed."""
        return self.output.read_text()


class Nursery:
    """The process that forks, seen from outside. A context: at its end all children are gone."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=Path(__file__).parents[2],
        )
        self._born: queue.Queue[int] = queue.Queue()
        self._children: dict[int, Child] = {}
        self._ended: dict[int, int] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Nursery:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(300)

    @property
    def alive(self) -> bool:
        """Can it still fork?"""
        return self._process.poll() is None

    def start(self, *arguments: str, setup: Setup, output: Path) -> Child:
        """A worker with these arguments, on one thread; what it prints goes to `output`."""
        self.ask(do="fork", arguments=arguments, setup=setup, output=str(output))
        pid = self._born.get(timeout=300)
        child = Child(self, pid, output)
        with self._lock:
            self._children[pid] = child
            # It may have died before it got here.
            child.status = self._ended.pop(pid, None)
        return child

    def ask(self, **request: Any) -> None:
        """Send the nursery a request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            pid = told["pid"]
            if told["what"] == "born":
                self._born.put(pid)
                continue
            with self._lock:
                # A process number that is given anew belongs to another child.
                child = self._children.pop(pid, None)
                if child is None:
                    self._ended[pid] = told["status"]
                else:
                    child.status = told["status"]


def _warm_up() -> None:
    """Import what a worker would; nothing is computed here, for threads don't survive a fork."""
    import scipy.special  # noqa: F401
    import torch
    from PIL import Image

    from mixbench import augmentations
    from mixbench.experiments.config import resolve  # noqa: F401
    from mixbench.experiments.store import processes, provenance
    from mixbench.experiments.worker import execute, launch_ranks  # noqa: F401

    Image.init()
    augmentations.available()
    torch.set_num_threads(1)
    provenance.commit()
    processes.this_host()
    # Or the first garbage collection of every child would copy all of it.
    gc.collect()
    gc.freeze()


def _serve() -> None:
    _warm_up()
    children: set[int] = set()
    reading, waking = os.pipe()
    os.set_blocking(waking, False)
    os.set_blocking(reading, False)
    signal.signal(signal.SIGCHLD, _noted)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    pending = b""
    while True:
        ready, _, _ = select.select([0, reading], [], [])
        if reading in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                break
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if request["do"] == "fork":
                    pid = os.fork()
                    if pid == 0:
                        _live(request)
                    children.add(pid)
                    _tell(what="born", pid=pid)
                elif request["pid"] in children:
                    # Not yet collected, so the number is still this child's.
                    os.kill(request["pid"], request["number"])
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                _tell(what="ended", pid=pid, status=os.waitstatus_to_exitcode(status))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """A child ended: `select` is to return."""


def _tell(**message: Any) -> None:
    os.write(1, (json.dumps(message) + "\n").encode())


def _live(request: dict[str, Any]) -> None:
    """The child's life: from here on it is a worker as any other."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        sys.argv = ["mixbench.experiments.worker", *request["arguments"]]
        from mixbench.experiments.worker import __main__ as worker

        for name, arguments in request["setup"]:
            module, _, function = name.partition(":")
            getattr(importlib.import_module(module), function)(**arguments)
        status = worker.main()
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else 2
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
