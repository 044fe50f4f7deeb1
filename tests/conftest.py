"""What every test runs under: one thread, no telemetry, in CI no skip for want of a program."""

from __future__ import annotations

import gc
import os
import signal
import sys

# A job that a shell starts in the background ignores Ctrl-C, and so would every process that the
# tests start and send one.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before torch is imported, here and in the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Workers with two threads: with other tests on all cores, who spins while it waits takes the time
# of the one it waits for. Of a run of a second, it was more than the work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Some hundred processes would compile the code again, and those of pytest-xdist all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

import contextlib
import importlib
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import leaks

sys.dont_write_bytecode = False

# How long an example takes is the machine's business.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def _sweeps_go_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test may touch the user's own sweeps or tracking server."""
    if "MIXBENCH_RUNS" not in os.environ:
        monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.getbasetemp() / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


LONGEST_FIRST = (
    "slurm/test_on_slurm",
    "slurm/test_pool",
    "chaos/",
    "experiments/tracking/",
    "slurm/",
    "golden/",
    "experiments/cli/",
    "experiments/worker/",
    "experiments/training/",
    "augmentations/contract/",
    "augmentations/pixels/",
    "augmentations/test_compile",
    "test_",
    "experiments/",
)


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist would begin with the files that have the most tests, not with the longest.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files, so that no process is left alone with one at the end."""

    def place(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        starts = [number for number, start in enumerate(LONGEST_FIRST) if name.startswith(start)]
        return starts[0] if starts else len(LONGEST_FIRST)

    items.sort(key=place)


def _import_a_share(named: list[str]) -> None:
    """Import a share of the tests first, each process of pytest-xdist another one.

    To rewrite the assertions of a file takes longer than to import it. What one process has
    rewritten is on disk for the others; in the same order, all of them would rewrite all files at
    the same time. What can't be imported is told of by the collection.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return
    count, number = int(os.environ["PYTEST_XDIST_WORKER_COUNT"]), int(worker.removeprefix("gw"))
    places = {Path(name.partition("::")[0]).resolve() for name in named}
    tests = Path(__file__).resolve().parent
    files = [path for path in sorted(tests.rglob("test_*.py")) if places & {path, *path.parents}]
    for path in files[number::count]:
        name = ".".join(path.relative_to(tests.parent).with_suffix("").parts)
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, Any, Any]:
    """Look for no garbage meanwhile, nor ever in what is made: it takes a third of the time."""
    gc.disable()
    try:
        _import_a_share(session.config.args)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


class LeftBehind(UserWarning):
    """A file of tests has changed what the next one in its process finds."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """Remember what a file of tests finds, for it to leave the same behind."""
    if leaks.FOUND.file != item.path:
        leaks.FOUND = leaks.Found(item.path, leaks.state())
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(
    item: pytest.Item, nextitem: pytest.Item | None
) -> Generator[None, Any, Any]:
    """After the last test of a file, warn if it left something changed for the next one."""
    result = yield
    if nextitem is None or nextitem.path != item.path:
        changed = leaks.changes(leaks.FOUND.state, leaks.state())
        if changed:
            warnings.warn(f"left behind: {'; '.join(changed)}", LeftBehind, stacklevel=1)
    return result


NOT_INSTALLED = ("cuda", "gpu", "no right to mount", "more than three cores")
"""What skips speak of that a machine has or has not: no package brings it."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Where MIXBENCH_ALLOW_SKIP=gpu, a skip is a failure but for what can't be installed."""
    report = yield
    if report.skipped and os.environ.get("MIXBENCH_ALLOW_SKIP") == "gpu":
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not hasattr(report, "wasxfail") and not any(w in reason.lower() for w in NOT_INSTALLED):
            report.outcome = "failed"
            report.longrepr = f"skipped where nothing may be: {reason}"
    return report
