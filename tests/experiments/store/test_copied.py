"""A copy of a sweep's folder is another sweep: nothing in it stops those of the original."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mixbench.experiments.manage import cancel
from mixbench.experiments.store import processes, workers
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.slurm import queue
from tests.support import running


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that stands for a worker, and can be stopped as one."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        yield started
        started.kill()


def test_a_copy_does_not_stop_the_workers_of_the_original(
    runs: Path, process: subprocess.Popen[bytes]
) -> None:
    folder = running.planned(running.spec("original"))
    body = {
        **processes.this_process(),
        "pid": process.pid,
        "process_start": processes.process_start(process.pid),
        "worker": "one",
        "folder": str(folder.path),
    }
    (folder.path / "workers").mkdir()
    atomic_write(folder.path / "workers" / "one.json", dump(body))
    (folder.path / "slurm").mkdir()
    queue.record(folder, queue.Submitted("7", 3, "a100", 3))
    copy = SweepFolder(runs / "copy")
    shutil.copytree(folder.path, copy.path)
    assert [worker.alive for worker in workers.workers(copy)] == [False]
    assert cancel.terminate(copy) == 0 and not queue.recorded(copy)
    assert process.poll() is None
    # Moved, it is the same sweep, and its workers are its own.
    folder.path.rename(runs / "moved")
    assert [array.job for array in queue.recorded(SweepFolder(runs / "moved"))] == ["7"]
    assert [worker.alive for worker in workers.workers(SweepFolder(runs / "moved"))] == [True]
    assert cancel.terminate(SweepFolder(runs / "moved")) == 1
    assert process.wait(timeout=300) != 0
