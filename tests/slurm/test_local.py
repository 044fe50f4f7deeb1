"""Workers on this machine: where they are put, and what becomes of those that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from experiments import claims
from experiments.claims import Watch
from experiments.errors import UserError
from experiments.store import SweepFolder
from slurm import local
from slurm.local import LocalWorkers, Slot
from tests.experiments import running

HOLD = (
    "import sys; from pathlib import Path; from experiments import claims\n"
    "claims.acquire(Path(sys.argv[1]), 'held', claims.Watch()); print('held', flush=True)\n"
    "sys.stdin.readline()"
)
DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True); time.sleep(60)"
)


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    return running.planned(running.spec("one"))


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes started from here find instead of torch: an installation that is broken."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def python(code: str, *arguments: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline()
    return process


def until_none(pool: LocalWorkers) -> None:
    running.wait_until(lambda: pool.poll() == 0, "all workers ended", 60)


def test_one_worker_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    assert local.slots(None, 100, "cpu") == [Slot(None, 1)] * 8
    assert local.slots(3, 100, "cpu") == [Slot(None, 2)] * 3
    # As many threads each however few runs are left: sums must not come in another order.
    assert local.slots(None, 2, "cpu") == [Slot(None, 1)] * 2
    assert local.slots(20, 100, "cpu") == [Slot(None, 1)] * 20
    assert local.slots(2, 1, "cpu") == [Slot(None, 4)]


def test_one_worker_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, 5")
    assert local.gpus() == ["2", "5"]
    monkeypatch.setattr(local, "torch_sees_gpus", lambda: True)
    assert local.slots(None, 100) == [Slot("2", 4), Slot("5", 4)]
    # More workers than GPUs share them in turn.
    assert [slot.gpu for slot in local.slots(5, 100)] == ["2", "5", "2", "5", "2"]
    assert local.slots(None, 1) == [Slot("2", 4)]
    assert local.slots(None, 100, "cpu") == [Slot(None, 1)] * 8


def test_gpus_that_torch_cannot_use_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # Named, but on a machine without them (or behind a torch that was built without CUDA).
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert local.gpus() == ["0", "1"]
    assert {slot.gpu for slot in local.slots(None, 100)} == {None}
    with pytest.raises(UserError, match="--device cuda: no GPU that torch can use"):
        local.slots(None, 100, "cuda")


@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus_are_not_used(monkeypatch: pytest.MonkeyPatch, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert local.gpus() == []
    assert all(slot.gpu is None for slot in local.slots(None, 100))
    with pytest.raises(UserError, match="--device cuda: no GPU"):
        local.slots(None, 100, "cuda")


@pytest.mark.parametrize("workers", [0, -3])
def test_fewer_than_one_worker(workers: int) -> None:
    with pytest.raises(UserError, match=f"--workers: got {workers}, expected at least 1"):
        local.slots(workers, 10)


def test_cores_are_those_of_this_process() -> None:
    allowed = os.sched_getaffinity(0)
    assert 1 <= local.cores() <= len(allowed)
    one = min(allowed)
    os.sched_setaffinity(0, {one})
    try:
        assert local.cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_slots_in_words() -> None:
    assert Slot("3", 4).describe() == "GPU 3"
    assert [Slot(None, count).describe() for count in (1, 2)] == ["1 CPU thread", "2 CPU threads"]


def test_a_worker_that_cannot_start_is_not_tried_for_ever(
    sweep: SweepFolder, broken_torch: None
) -> None:
    pool = LocalWorkers(sweep)
    pool.start(Slot(None, 1))
    until_none(pool)
    assert pool.started == 1
    assert pool.unusable and "libcudart.so: cannot open" in pool.unusable
    assert set(sweep.states().values()) == {"waiting"}


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGSEGV, "SIGSEGV")]
)
def test_a_dead_worker_takes_its_run_and_is_replaced(
    sweep: SweepFolder, broken_torch: None, tmp_path: Path, number: int, reason: str
) -> None:
    first, second, *_ = sweep.plan()
    process = python(HOLD, second.folder.path)
    log = tmp_path / "worker.log"
    log.write_text("much said\nand the last words\n")
    pool = LocalWorkers(sweep, {process.pid: (process, Slot(None, 1), log)})
    assert pool.poll() == 1 and pool.started == 0
    os.kill(process.pid, number)
    process.wait(30)
    assert pool.poll() == 1 and pool.started == 1, "another one takes its place"
    failure = second.folder.failure()
    assert failure and failure["error"] == f"the worker died: signal {reason}"
    assert "and the last words" in failure["traceback"] and failure["attempt"] == 1
    (row,) = second.folder.attempts()
    assert (row["attempt"], row["worker"], row["outcome"]) == (1, "held", "died")
    assert first.folder.state() == "waiting"
    until_none(pool)


def test_a_dead_worker_takes_no_run_that_is_not_its_own(
    sweep: SweepFolder, broken_torch: None, tmp_path: Path
) -> None:
    done, elsewhere, released, other = (run.folder for run in sweep.plan())
    process = python("print(1, flush=True); input()")
    for run in (done, elsewhere, released, other):
        claim = claims.acquire(run.path, "w", Watch())
        assert claim
        if run is not other:
            claim.body["pid"] = process.pid
        if run is elsewhere:
            # Another machine has a process of the same number.
            claim.body["host"] = "elsewhere"
        claim.release("stopped") if run is released else claim.renew(force=True)
    (done.path / "result.json").write_text('{"metrics": {}}')
    pool = LocalWorkers(sweep, {process.pid: (process, Slot(None, 1), tmp_path / "log")})
    (tmp_path / "log").write_text("")
    process.kill()
    process.wait(30)
    assert pool.poll() == 0
    assert pool.unusable and "it printed nothing" in pool.unusable
    assert [run.state() for run in (done, elsewhere, released, other)] == [
        "done", "running", "waiting", "running",
    ]  # fmt: skip


@pytest.mark.parametrize("status", [0, local.STOPPED])
def test_a_worker_that_is_through_is_not_replaced(
    sweep: SweepFolder, tmp_path: Path, status: int
) -> None:
    process = subprocess.Popen([sys.executable, "-c", f"exit({status})"])
    pool = LocalWorkers(sweep, {process.pid: (process, Slot(None, 1), tmp_path / "log")})
    process.wait(30)
    assert pool.poll() == 0 and pool.unusable is None and pool.started == 0


def test_stopping_does_not_wait_for_ever(sweep: SweepFolder, tmp_path: Path) -> None:
    processes = [python(DEAF), python("import time; print(1, flush=True); time.sleep(60)")]
    pool = LocalWorkers(
        sweep, {process.pid: (process, Slot(None, 1), tmp_path / "log") for process in processes}
    )
    pool.stop(patience=0.5)
    assert [process.returncode for process in processes] == [-signal.SIGKILL, -signal.SIGTERM]
    assert pool.poll() == 0


def test_a_worker_has_its_gpu_and_its_threads(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(
        "import os, sys\n"
        "said = [os.environ[name] for name in ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS')]\n"
        "raise ImportError(' '.join([*said, *sys.argv[2:]]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for slot, expected in (
        (Slot("3", 5), "3 5 --device cuda:0 --threads 5"),
        (Slot(None, 2), "2 --device cpu --threads 2"),
    ):
        pool = LocalWorkers(sweep)
        pool.start(slot)
        until_none(pool)
        assert pool.unusable and expected in pool.unusable
