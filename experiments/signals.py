"""Signals: end a block on SIGTERM as on Ctrl-C, stop a worker in good order, name exit statuses."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

POLL_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)
"""What stops a worker. SLURM warns with one of the user signals, and ends a job with SIGTERM."""


class Interrupts:
    """Remembers whether a signal came that is to end the block."""

    def __init__(self) -> None:
        self.received = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: Python drops one raised in a finaliser."""
        if self.received:
            raise KeyboardInterrupt

    def on_signal(self, *_: object) -> None:
        """Note the signal and raise KeyboardInterrupt."""
        self.received = True
        raise KeyboardInterrupt

    def raised(self, dropped: sys.UnraisableHookArgs) -> bool:
        """Is `dropped` what `on_signal` raised? Then `check` raises it once more."""
        return self.received and issubclass(dropped.exc_type, KeyboardInterrupt)


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupts]:
    """End the block on SIGTERM as on Ctrl-C, so that its clean-up runs.

    Loops in the block must call `check` at every turn. SIGINT stays ignored where it is.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    handlers_before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupts.on_signal)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        handlers_before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupts.on_signal)
    hook_before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        # Don't print "Exception ignored in ...": `check` raises it.
        if not interrupts.raised(dropped):
            hook_before(dropped)

    sys.unraisablehook = hook
    try:
        yield interrupts
    finally:
        for number, handler in handlers_before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook_before


class Stopped(BaseException):
    """The worker was told to stop. Not an `Exception`: nothing on the way may swallow it."""


class Stop:
    """Knows whether a worker must stop, and why: a signal, `read_reason`, or the end of its time.

    read_reason: why to stop, None while nobody asks for it, such as `SweepFolder.stop_reason`.
    deadline: seconds from now. A signal raises `Stopped` at once, wherever the process is, but
    within `defer_signals`.
    """

    def __init__(
        self, read_reason: Callable[[], str | None], deadline: float | None = None
    ) -> None:
        # Separate, and each set once: a signal may come in the middle of `asked`.
        self._signal: str | None = None
        self._asked_for: str | None = None
        self._read_reason = read_reason
        self._ends = None if deadline is None else time.monotonic() + deadline
        self._polled = -POLL_SECONDS
        self._deferring = 0

    @property
    def reason(self) -> str | None:
        """Why the work must stop; None while it need not."""
        return self._signal or self._asked_for

    def listen(self) -> None:
        """Handle the process's signals from now on."""
        for number in SIGNALS:
            signal.signal(number, self._on_signal)

    def asked(self) -> bool:
        """Must the work stop? Reads the reason at most once a second."""
        now = time.monotonic()
        if self.reason is None and now - self._polled >= POLL_SECONDS:
            self._polled = now
            if self._ends is not None and now >= self._ends:
                self._asked_for = "its time is up"
            else:
                self._asked_for = self._read_reason()
        return self.reason is not None

    def check(self) -> None:
        """Raise Stopped if the work must stop."""
        if self.asked():
            raise Stopped(self.reason)

    @contextlib.contextmanager
    def defer_signals(self) -> Iterator[None]:
        """Defer signals in this block; poll `asked()` in it or afterwards."""
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1

    def ignore_signals(self) -> None:
        """Ignore signals from now on: there is nothing left to stop."""
        self._deferring += 1

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        is_first = self.reason is None
        if is_first:
            self._signal = signal.Signals(number).name
        # A second signal must not interrupt the clean-up that the first one started.
        if is_first and not self._deferring:
            raise Stopped(self.reason)


def describe_exit(status: int) -> str:
    """How a process ended, such as "exit status 1" or "signal SIGTERM".

    status: as `subprocess` gives it, negative for a signal.
    """
    if status >= 0:
        return f"exit status {status}"
    name = signal.Signals(-status).name
    # Not "out of memory": errors that say so end an attempt with that outcome; here it is a guess.
    return f"signal {name}" + (" (lack of memory?)" if name == "SIGKILL" else "")
