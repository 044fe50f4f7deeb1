"""Ctrl-C and SIGTERM end a block, also where Python drops the exception."""

from __future__ import annotations

import os
import signal
import sys
import threading

import pytest

from mixbench.experiments.signals import interruptible

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", BOTH)
def test_it_ends_the_block(number: int) -> None:
    before = [signal.getsignal(one) for one in BOTH]
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(number)
    assert [signal.getsignal(one) for one in BOTH] == before


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """The exceptions of which Python says "Exception ignored in ..."."""
    found: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: found.append(dropped.exc_type))
    return found


@pytest.mark.parametrize("number", BOTH)
def test_one_that_meets_a_finaliser_is_not_lost(
    number: int, reported: list[type[BaseException]]
) -> None:
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)

    with interruptible() as interrupts:
        interrupts.check()
        Dying()  # Python drops it, and goes on
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    # Nobody is told that it was ignored: it was not.
    assert reported == []


def test_what_else_python_drops_is_reported(reported: list[type[BaseException]]) -> None:
    class Failing:
        def __init__(self, error: type[BaseException]) -> None:
            self.error = error

        def __del__(self) -> None:
            raise self.error

    before = sys.unraisablehook
    with interruptible():
        Failing(ValueError)
        Failing(KeyboardInterrupt)  # no signal came
    assert reported == [ValueError, KeyboardInterrupt]
    assert sys.unraisablehook is before


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as interrupts:
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_has_no_signals() -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with interruptible() as interrupts:
                interrupts.check()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not errors
