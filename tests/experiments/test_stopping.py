"""Told to stop: by a signal at any moment, by the sweep's mark, or by the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from mixbench.experiments import signals
from mixbench.experiments.signals import SIGNALS, Stop, Stopped
from mixbench.experiments.store.sweep_folder import SweepFolder

AT_WORK = """
import sys, time
from pathlib import Path
from mixbench.experiments.signals import Stop, Stopped
from mixbench.experiments.store.sweep_folder import SweepFolder
stop = Stop(SweepFolder(Path(sys.argv[1])).stop_reason)
stop.listen()
try:
    print("ready", flush=True)
    time.sleep(60)
except Exception as error:
    print("swallowed", error, flush=True)
except Stopped as stopped:
    print(stopped, flush=True)
    time.sleep(float(sys.argv[2]))
    print("in order", flush=True)
"""
GENTLE = """
import sys, time
from pathlib import Path
from mixbench.experiments.signals import Stop, Stopped
from mixbench.experiments.store.sweep_folder import SweepFolder
stop = Stop(SweepFolder(Path(sys.argv[1])).stop_reason)
stop.listen()
with stop.defer_signals():
    with stop.defer_signals():
        print("ready", flush=True)
        until = time.monotonic() + 300
        while not stop.asked() and time.monotonic() < until:
            time.sleep(0.01)
    print("saved", stop.asked(), flush=True)
try:
    stop.check()
except Stopped as stopped:
    print(stopped, flush=True)
"""
IGNORING = """
import sys, time
from pathlib import Path
from mixbench.experiments.signals import Stop
from mixbench.experiments.store.sweep_folder import SweepFolder
stop = Stop(SweepFolder(Path(sys.argv[1])).stop_reason)
stop.listen()
stop.ignore_signals()
print("ready", flush=True)
until = time.monotonic() + 300
while stop.reason is None and time.monotonic() < until:
    time.sleep(0.01)
print("to its end", stop.reason, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path)


def clocked(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have time pass for `Stop` when the number in the list is raised."""
    now = [1000.0]
    monkeypatch.setattr(signals, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_stops_at_once(folder: SweepFolder, number: int) -> None:
    process = python(AT_WORK, folder.path, 0)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=300)
    assert said == f"{signal.Signals(number).name}\nin order\n" and process.returncode == 0


def test_a_second_signal_does_not_interrupt_the_tidying_up(folder: SweepFolder) -> None:
    """SLURM warns with one, and sends SIGTERM to all processes when the time is up."""
    process = python(AT_WORK, folder.path, 0.5)
    assert process.stdout is not None
    os.kill(process.pid, signal.SIGUSR2)
    assert process.stdout.readline() == "SIGUSR2\n"
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        os.kill(process.pid, number)
    said, _ = process.communicate(timeout=300)
    assert said == "in order\n" and process.returncode == 0


@pytest.mark.parametrize("number", SIGNALS)
def test_gently_it_is_only_noted(folder: SweepFolder, number: int) -> None:
    process = python(GENTLE, folder.path)
    os.kill(process.pid, number)
    said, _ = process.communicate(timeout=300)
    assert said == f"saved True\n{signal.Signals(number).name}\n" and process.returncode == 0


def test_a_signal_while_the_folder_is_looked_at(folder: SweepFolder) -> None:
    class Signalling(SweepFolder):
        def stop_reason(self) -> str | None:
            os.kill(os.getpid(), signal.SIGUSR2)
            return super().stop_reason()

    before = signal.getsignal(signal.SIGUSR2)
    stop = Stop(Signalling(folder.path).stop_reason)
    try:
        signal.signal(signal.SIGUSR2, stop._on_signal)
        with stop.defer_signals():
            assert stop.asked() and stop.asked()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert stop.reason == "SIGUSR2"


def test_who_is_through_is_not_stopped(folder: SweepFolder) -> None:
    process = python(IGNORING, folder.path)
    os.kill(process.pid, signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert said == "to its end SIGTERM\n" and process.returncode == 0


def test_no_except_clause_for_errors_catches_it() -> None:
    assert not issubclass(Stopped, Exception)


def test_the_mark_of_the_sweep(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clocked(monkeypatch)
    stop = Stop(folder.stop_reason)
    assert not stop.asked()
    folder.ask_to_stop("mixbench cancel")
    clock[0] += signals.POLL_SECONDS - 0.1
    assert not stop.asked(), "looked at not long ago: a step must cost nothing"
    clock[0] += 0.2
    assert stop.asked() and stop.reason == "mixbench cancel"
    with pytest.raises(Stopped, match="mixbench cancel"):
        stop.check()
    folder.allow()
    # One that was told so stops, whatever is said after it.
    assert stop.asked()
    assert not Stop(folder.stop_reason).asked(), "and the next one may work"


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_no_time_at_all(folder: SweepFolder, seconds: float) -> None:
    stop = Stop(folder.stop_reason, seconds)
    with pytest.raises(Stopped, match="its time is up"):
        stop.check()


def test_the_end_of_its_time(folder: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = clocked(monkeypatch)
    stop = Stop(folder.stop_reason, 60.0)
    clock[0] += 59.0
    assert not stop.asked()
    clock[0] += 2.0
    assert stop.asked() and stop.reason == "its time is up"
