"""When a worker is to stop: a signal, the sweep's stop mark, or the end of its time."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from types import FrameType

from mixbench.experiments.store.sweep_folder import SweepFolder

LOOK_SECONDS = 1.0
# SLURM warns with one of the user signals, and ends a job with SIGTERM.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)


class Stopped(BaseException):
    """The worker was told to stop. Not an `Exception`: nothing on the way may swallow it."""


class Stop:
    """Knows whether the work is to stop, and why.

    deadline: seconds from now. A signal raises `Stopped` at once, wherever the process is; within
    `gently` it is only noted, for a loop that asks `asked` and first brings its work to safety.
    """

    def __init__(self, folder: SweepFolder, deadline: float | None = None) -> None:
        # Apart, and each set once: a signal may come in the middle of `asked`.
        self._signal: str | None = None
        self._found: str | None = None
        self._folder = folder
        self._ends = None if deadline is None else time.monotonic() + deadline
        self._looked = -LOOK_SECONDS
        self._gentle = 0

    @property
    def reason(self) -> str | None:
        """Why the work is to stop; None while it is not."""
        return self._signal or self._found

    def listen(self) -> None:
        """Handle the process's signals from now on."""
        for known in SIGNALS:
            signal.signal(known, self._on_signal)

    def asked(self) -> bool:
        """Is the work to stop? Looks at the folder at most once a second."""
        now = time.monotonic()
        if self.reason is None and now - self._looked >= LOOK_SECONDS:
            self._looked = now
            if self._ends is not None and now >= self._ends:
                self._found = "its time is up"
            else:
                self._found = self._folder.stop_reason()
        return self.reason is not None

    def check(self) -> None:
        """Raise Stopped if the work is to stop."""
        if self.asked():
            raise Stopped(self.reason)

    @contextlib.contextmanager
    def gently(self) -> Iterator[None]:
        """Within it a signal raises nothing; what follows is to ask."""
        self._gentle += 1
        try:
            yield
        finally:
            self._gentle -= 1

    def ignore(self) -> None:
        """From now on a signal raises nothing: there is nothing more to stop."""
        self._gentle += 1

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        first = self.reason is None
        if first:
            self._signal = signal.Signals(signum).name
        # A second signal must not interrupt what the first one set going.
        if first and not self._gentle:
            raise Stopped(self.reason)
