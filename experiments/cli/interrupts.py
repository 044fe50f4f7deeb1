"""Ctrl-C while a verb imports what it needs: the error that comes of it may be any, or none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def not_dropped() -> Iterator[None]:
    """Send Ctrl-C once more where Python drops it in a callback, such as an import's."""
    before = sys.unraisablehook

    def hook(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            before(dropped)
            return
        import _thread
        import threading

        # Not from here, where it would be dropped too.
        threading.Timer(0.01, _thread.interrupt_main).start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def is_interrupt(error: BaseException | None) -> bool:
    """Is the error Ctrl-C, or did that cause it?"""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
