"""SIGTERM taken as Ctrl-C, where something is to be put in order before the end."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator


class Interrupts:
    """Whether a signal came that was to end the block."""

    def __init__(self) -> None:
        self.told = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came: Python drops one that meets a finaliser."""
        if self.told:
            raise KeyboardInterrupt

    def on_signal(self, *_: object) -> None:
        self.told = True
        raise KeyboardInterrupt

    def is_own(self, dropped: sys.UnraisableHookArgs) -> bool:
        """Is what Python dropped an exception of `on_signal`? Then `check` raises it again."""
        return self.told and issubclass(dropped.exc_type, KeyboardInterrupt)


@contextlib.contextmanager
def interruptible() -> Iterator[Interrupts]:
    """SIGTERM ends the block as Ctrl-C does, so that nothing is left behind.

    A loop in it is to call `check` at every turn. SIGINT stays ignored where it is.
    """
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupts.on_signal)}
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, interrupts.on_signal)
    report = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        # "Exception ignored in ..." is no news to who pressed Ctrl-C, and not true.
        if not interrupts.is_own(dropped):
            report(dropped)

    sys.unraisablehook = hook
    try:
        yield interrupts
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = report
