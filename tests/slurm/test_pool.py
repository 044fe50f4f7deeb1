"""What becomes of workers that die, hang or cannot work: at most one attempt goes with each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store import claims, processes
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.experiments.worker.exit_status import NO_STORE, POISONED, STOPPED
from mixbench.slurm import pool as pools
from mixbench.slurm.local import Slot
from mixbench.slurm.pool import Pool
from mixbench.slurm.processes import Process
from tests.support import disks, running

ONE = Slot(None, 1)

HOLD = """
import sys
from pathlib import Path
from mixbench.experiments.store import claims, processes
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker.worker import Worker
folder, number, name = SweepFolder(Path(sys.argv[1])), int(sys.argv[2]), sys.argv[3]
worker = Worker(folder, "cpu", name)
worker._write_presence(claims.acquire(folder.plan()[number].folder.path, name, claims.Watch()))
print("held", flush=True)
sys.exit(int(sys.stdin.readline()))
"""
"""A worker that holds a run and does nothing; it ends with the status that it is told."""

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True); time.sleep(600)"
)

MISBEHAVING = """

_execute = execute


def execute(config, folder, device, claim, *rest):
    import os
    import signal
    import time

    which = config.augmentation["name"], config.seed
    print(f"attempt {claim.number} at {which[0]} {which[1]}", flush=True)
    if which == ("none", 0):
        os.kill(os.getpid(), signal.SIGSEGV)
    if which == ("cutmix", 0) and claim.number == 1:
        print("memory is corrupt", flush=True)
        os._exit(7)
    if which == ("none", 1) and claim.number == 1:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (folder.path / "hangs").touch()
        time.sleep(600)
    _execute(config, folder, device, claim, *rest)
"""
"""Runs as they are met: one that crashes in C, one that ends its process, one that hangs."""


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs of mine"))
    return running.planned(running.spec("one"))


@pytest.fixture
def broken_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What processes started from here find instead of torch: an installation that is broken."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def python(code: str, *arguments: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdout.readline()
    return process


def adopt(
    pool: Pool, process: subprocess.Popen[bytes], name: str, log: str = ""
) -> subprocess.Popen[bytes]:
    """Have the pool look after a process that it did not start."""
    path = pool.folder.path / "workers" / f"{name}.log"
    path.parent.mkdir(exist_ok=True)
    path.write_text(log)
    pool.running.append(Process(process, ONE, name, path))
    return process


def holding(pool: Pool, number: int, name: str = "held", log: str = "") -> subprocess.Popen[bytes]:
    """A worker of the pool's that holds the plan's run of that number."""
    return adopt(pool, python(HOLD, pool.folder.path, number, name), name, log)


def end(process: subprocess.Popen[bytes], status: int) -> None:
    if status < 0:
        os.kill(process.pid, -status)
    else:
        assert process.stdin is not None
        process.stdin.write(f"{status}\n".encode())
        process.stdin.close()
    # Not collected: that is the pool's to do.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def until_none(pool: Pool) -> None:
    running.wait_until(lambda: pool.poll() == 0, "all workers ended")


def outcomes(folder: RunFolder) -> list[tuple[int, str, str | None]]:
    return [(row["attempt"], row["outcome"], row["error"]) for row in folder.attempts()]


@pytest.fixture(scope="module")
def survived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A sweep whose runs crash, end their process and hang, to its end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp("survived")))
        folder = running.planned(running.spec("survived"))
        code = snapshot.take(folder)
        with (code / "mixbench/experiments/worker/execute.py").open("a") as file:
            file.write(MISBEHAVING)
        pool = Pool(folder, code, retries=1)
        runs = [planned.folder for planned in folder.plan()]

        def look() -> bool:
            # A short patience only with the one that hangs, when the others are through: on a busy
            # machine they may be silent for long.
            held = [run for run in runs if run.state() == "running"]
            hang = [run.path / "hangs" for run in held if (run.last_claim() or {})["number"] == 1]
            short = len(held) == 1 and all(mark.exists() for mark in hang) and hang
            pool.hang_seconds = 1.0 if short else 600.0
            return pool.poll() == 0

        started = []
        start = pool.start

        def counted(slot: Slot) -> None:
            start(slot)
            started.append(pool.running[-1])

        patch.setattr(pool, "start", counted)
        try:
            for _ in range(2):
                pool.start(ONE)
            running.wait_until(look, "all workers ended")
        finally:
            pool.stop(0.0)
        yield {"folder": folder, "pool": pool, "started": started}


def run_of(survived: dict[str, Any], name: str, seed: int) -> RunFolder:
    for planned in survived["folder"].plan():
        if (planned.config["augmentation"]["name"], planned.config["seed"]) == (name, seed):
            return planned.folder
    raise KeyError(name)


def test_a_sweep_survives_what_its_runs_do_to_workers(survived: dict[str, Any]) -> None:
    states = survived["folder"].states()
    assert sorted(states.values()) == ["done", "done", "done", "failed"]
    assert survived["pool"].unusable is None
    # Two at first, and one for each of the deaths.
    ends = [end for planned in survived["folder"].plan() for end in outcomes(planned.folder)]
    deaths = [how for _, how, _ in ends if how in ("died", "hung")]
    assert len(survived["started"]) == 2 + len(deaths)


def test_a_crash_in_c_costs_attempts_until_the_run_is_given_up(survived: dict[str, Any]) -> None:
    run = run_of(survived, "none", 0)
    reason = "the worker died: signal SIGSEGV"
    # Two without a new checkpoint in between: on a slow machine the first may have saved one.
    ends = outcomes(run)
    assert ends == [(number, "died", reason) for number in range(1, len(ends) + 1)]
    assert len(ends) in (2, 3)
    failure = run.failure()
    assert failure
    assert failure["error"] in [f"{reason} ({count} attempts got no further)" for count in (2, 3)]
    assert failure["attempt"] == len(ends)
    assert f"attempt {len(ends)} at none 0" in failure["traceback"], "what the worker said last"


def test_a_run_that_ended_its_process_is_done_at_the_next_attempt(survived: dict[str, Any]) -> None:
    run = run_of(survived, "cutmix", 0)
    assert outcomes(run) == [
        (1, "died", "the worker died: exit status 7"),
        (2, "done", None),
    ]
    assert run.failure() is None and run.result() is not None


def test_a_run_that_hung_is_done_at_the_next_attempt(survived: dict[str, Any]) -> None:
    run = run_of(survived, "none", 1)
    assert outcomes(run) == [
        (1, "hung", "no heartbeat for 1 s: killed"),
        (2, "done", None),
    ]
    hung = json.loads((run.path / "claims" / "000001.json").read_text())
    assert hung["released"] == "hung"
    assert processes.process_start(hung["pid"]) is None, "it was killed, deaf to SIGTERM as it was"


def test_nobody_else_lost_an_attempt(survived: dict[str, Any]) -> None:
    assert outcomes(run_of(survived, "cutmix", 1)) == [(1, "done", None)]


def test_workers_run_the_code_that_they_are_given(survived: dict[str, Any]) -> None:
    logs = "".join(worker.log.read_text() for worker in survived["started"])
    # What these print is in the copy alone.
    assert logs.count("attempt 1 at") == 4


def test_a_worker_that_cannot_start_is_not_tried_for_ever(
    sweep: SweepFolder, broken_torch: None
) -> None:
    pool = Pool(sweep)
    pool.start(ONE)
    (worker,) = pool.running
    until_none(pool)
    assert pool.unusable and "libcudart.so: cannot open" in pool.unusable
    assert str(worker.log) in pool.unusable and pool.started == 1
    assert set(sweep.states().values()) == {"waiting"} and not sweep.begun()


def test_without_all_libraries_no_run_is_begun(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each would only fail, one after the other, until the whole sweep is given up."""
    (tmp_path / "PIL.py").write_text("raise ImportError('libjpeg.so: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pool = Pool(sweep)
    pool.start(ONE)
    until_none(pool)
    assert pool.unusable and "libjpeg.so: cannot open" in pool.unusable
    assert not sweep.begun() and pool.started == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (-signal.SIGKILL, "signal SIGKILL (lack of memory?)"),
        (-signal.SIGBUS, "signal SIGBUS"),
        (1, "exit status 1"),
    ],
)
def test_a_dead_worker_costs_an_attempt_and_is_replaced(
    sweep: SweepFolder, broken_torch: None, status: int, words: str
) -> None:
    first, second, *_ = sweep.plan()
    pool = Pool(sweep)
    process = holding(pool, 1, log="much said\nand the last words\n")
    assert pool.poll() == 1 and pool.started == 0
    end(process, status)
    assert pool.poll() == 1 and pool.started == 1, "another one takes its place"
    assert second.folder.failure() is None, "it is tried again"
    (row,) = second.folder.attempts()
    assert (row["attempt"], row["worker"], row["outcome"]) == (1, "held", "died")
    assert row["error"] == f"the worker died: {words}"
    last = second.folder.last_claim()
    assert last and last["released"] == "died", "free at once, from other machines too"
    assert [run.folder.state() for run in (first, second)] == ["waiting", "waiting"]
    until_none(pool)


def test_the_last_attempt_gives_the_run_up_with_the_reason(
    sweep: SweepFolder, broken_torch: None
) -> None:
    run = sweep.plan()[0].folder
    for number in (1, 2):
        pool = Pool(sweep, retries=1)
        end(holding(pool, 0, f"w{number}", "the last words\n"), -signal.SIGSEGV)
        pool.poll()
        assert run.state() == ("waiting" if number == 1 else "failed")
        pool.stop(0.0)
    failure = run.failure()
    assert failure and failure["traceback"] == "the last words\n"
    assert failure["error"] == "the worker died: signal SIGSEGV (2 attempts got no further)"


def test_the_signal_is_kept_though_another_worker_was_faster(
    sweep: SweepFolder, broken_torch: None
) -> None:
    """One that looks for work right after the death takes the run before the pool has looked."""
    run = sweep.plan()[0].folder
    pool = Pool(sweep)
    end(holding(pool, 0), -signal.SIGSEGV)
    successor = claims.acquire(run.path, "successor", Watch())
    assert successor and successor.number == 2
    run.add_attempt({"attempt": 1, "outcome": "died", "error": "no heartbeat", "saved": 0})
    assert pool.poll() == 1, "it is replaced"
    assert outcomes(run) == [(1, "died", "the worker died: signal SIGSEGV")]
    held = run.claim()
    assert held and held["worker"] == "successor", "and has its run"
    until_none(pool)


def test_a_hung_worker_is_killed_though_another_one_took_its_run(
    sweep: SweepFolder, broken_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are shorter than the patience with hung workers, so it is the usual case."""
    monkeypatch.setattr(claims, "LEASE_SECONDS", 0.1)
    run = sweep.plan()[0].folder
    pool = Pool(sweep, hang_seconds=0.6)
    process = holding(pool, 0)
    os.kill(process.pid, signal.SIGSTOP)
    watch = Watch()
    assert claims.acquire(run.path, "successor", watch) is None and pool.poll() == 1
    time.sleep(0.2)
    successor = claims.acquire(run.path, "successor", watch)
    assert successor and process.poll() is None

    def ended() -> bool:
        pool.poll()
        successor.renew(force=True)
        return process.poll() is not None

    running.wait_until(ended, "the hung worker is killed")
    assert outcomes(run) == [(1, "hung", "no heartbeat for 1 s: killed")]
    assert run.state() == "running" and pool.started == 1
    until_none(pool)


def test_who_shows_signs_of_life_or_holds_nothing_is_not_hung(
    sweep: SweepFolder, broken_torch: None
) -> None:
    pool = Pool(sweep, hang_seconds=0.4)
    idle = adopt(pool, python("import time; print(1, flush=True); time.sleep(60)"), "idle")
    busy = holding(pool, 0)
    claim = sweep.plan()[0].folder.path / "claims" / "000001.json"
    limit = time.monotonic() + 1.5
    while time.monotonic() < limit:
        body = json.loads(claim.read_text())
        claim.write_text(json.dumps({**body, "beat": body["beat"] + 1}))
        assert pool.poll() == 2
        time.sleep(0.05)
    assert idle.poll() is None and busy.poll() is None
    pool.stop(0.0)


def test_the_children_of_a_hung_worker_end_with_it(sweep: SweepFolder) -> None:
    code = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    started = processes.process_start(child)
    assert started
    pool = Pool(sweep)
    adopt(pool, process, "w")
    pool.stop(patience=0.1)
    assert process.returncode == -signal.SIGKILL
    running.wait_until(lambda: processes.process_start(child) != started, "its child ended")


def test_idle_deaths_are_replaced_but_not_for_ever(
    sweep: SweepFolder, broken_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pools, "IDLE_DEATHS", 3)
    pool = Pool(sweep)
    for number in range(1, 5):
        name = f"idle{number}"
        process = adopt(pool, python("print(1, flush=True); exit(int(input()))"), name)
        pool._worker_file(name).write_text(json.dumps({"run_key": None, "claim": None}))
        end(process, -signal.SIGTERM if number % 2 else 1)
        alive = pool.poll()
        assert (alive, pool.started) == ((1, number) if number < 4 else (0, 3))
        pool.stop(0.0)
    assert pool.unusable
    # A worker that died with a run had work: others can too.
    pool = Pool(sweep)
    pool._idle_deaths = 3
    end(holding(pool, 0), -signal.SIGKILL)
    assert pool.poll() == 1 and pool._idle_deaths == 0
    pool.stop(0.0)


def test_one_that_is_killed_while_it_starts_is_replaced(
    sweep: SweepFolder, broken_torch: None
) -> None:
    """By the kernel, for want of memory, when many start at once."""
    pool = Pool(sweep)
    end(adopt(pool, python("print(1, flush=True); input()"), "new"), -signal.SIGKILL)
    assert pool.poll() == 1 and pool.unusable is None
    until_none(pool)


def test_a_dead_worker_takes_no_run_that_is_not_its_own(
    sweep: SweepFolder, broken_torch: None
) -> None:
    done, released, others, _ = (run.folder for run in sweep.plan())
    pool = Pool(sweep)
    names = ("done", "released", "others")
    processes = [holding(pool, number, name) for number, name in enumerate(names)]
    (done.path / "result.json").write_text('{"metrics": {}}')
    claims.close(released.path, 1, "stopped")
    body = json.loads((others.path / "claims" / "000001.json").read_text())
    other = {**body, "worker": "another", "host": "elsewhere"}
    (others.path / "claims" / "000001.json").write_text(json.dumps(other))
    for process in processes:
        end(process, -signal.SIGKILL)
    pool.poll()
    assert [run.state() for run in (done, released, others)] == ["done", "waiting", "running"]
    assert [run.attempts() for run in (done, released, others)] == [[], [], []]
    until_none(pool)


@pytest.mark.parametrize("status", [0, STOPPED])
def test_a_worker_that_is_through_is_not_replaced(sweep: SweepFolder, status: int) -> None:
    pool = Pool(sweep)
    end(adopt(pool, python("print(1, flush=True); exit(int(input()))"), "w"), status)
    assert pool.poll() == 0 and pool.unusable is None and pool.started == 0


def test_one_whose_device_is_poisoned_is_replaced(sweep: SweepFolder, broken_torch: None) -> None:
    pool = Pool(sweep)
    end(adopt(pool, python("print(1, flush=True); exit(int(input()))"), "w"), POISONED)
    assert pool.poll() == 1 and pool.unusable is None
    until_none(pool)


def test_one_that_can_write_nothing_is_not_replaced(sweep: SweepFolder) -> None:
    pool = Pool(sweep)
    process = python("print(1, flush=True); exit(int(input()))")
    end(adopt(pool, process, "w", "No space left on device: /runs\n"), NO_STORE)
    pool._worker_file("w").write_text(json.dumps({"run_key": None, "claim": None}))
    assert pool.poll() == 0 and pool.started == 0
    assert pool.unusable and "No space left on device: /runs" in pool.unusable


def test_a_sweep_folder_that_was_moved_ends_the_pool_in_words(
    sweep: SweepFolder, broken_torch: None, tmp_path: Path
) -> None:
    pool = Pool(sweep)
    process = holding(pool, 0)
    sweep.path.rename(tmp_path / "elsewhere")
    end(process, -signal.SIGKILL)
    assert pool.poll() == 0
    assert pool.unusable and str(sweep.path) in pool.unusable
    assert not sweep.path.exists(), "it is not begun anew at its old place"


def test_stopping_has_patience_but_not_for_ever(sweep: SweepFolder) -> None:
    pool = Pool(sweep)
    slow = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.3), sys.exit(3)))\n"
        "print(1, flush=True); time.sleep(60)"
    )
    codes = (slow, "import time; print(1, flush=True); time.sleep(600)")
    patient = [adopt(pool, python(code), str(place)) for place, code in enumerate(codes)]
    pool.stop(patience=300)
    assert [process.returncode for process in patient] == [STOPPED, -signal.SIGTERM]
    deaf = adopt(pool, python(DEAF), "deaf")
    pool.stop(patience=0.2)
    assert deaf.returncode == -signal.SIGKILL
    assert pool.poll() == 0 and pool.unusable is None
    pool.stop()


@pytest.fixture
def telling_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of torch: something that tells how the worker was started."""
    (tmp_path / "torch.py").write_text(
        "import os, sys\n"
        "names = ('CUDA_VISIBLE_DEVICES', 'OMP_NUM_THREADS', 'PYTHONPATH')\n"
        "raise ImportError(repr([*[os.environ.get(name) for name in names], *sys.argv[1:]]))"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def told(pool: Pool, slot: Slot) -> list[str]:
    pool.start(slot)
    (worker,) = pool.running
    until_none(pool)
    assert worker.log
    said = worker.log.read_text().strip().splitlines()[-1]
    assert worker.name in said
    return json.loads(said.removeprefix("ImportError: ").replace("'", '"').replace("None", "null"))


def test_a_worker_has_its_gpu_its_threads_and_its_code(
    sweep: SweepFolder, telling_torch: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slot, visible, device in (
        (Slot("3", 5), "3", "cuda:0"),
        (Slot("0,1", 2), "0,1", "cuda:0"),
        (Slot(None, 2), "", "cpu"),
    ):
        said = told(Pool(sweep), slot)
        assert said[:3] == [visible, str(slot.threads), str(tmp_path)]
        # A path with spaces in it is one argument.
        assert said[3] == str(sweep.path) and " " in said[3]
        assert said[4:8] == ["--device", device, "--threads", str(slot.threads)]
        assert said[10:] == ["--retries", "2"]
    # On a CPU what the user has hidden stays so.
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert told(Pool(sweep), ONE)[0] == "7"


def test_a_worker_is_told_how_long_and_how_often(
    sweep: SweepFolder, telling_torch: None, tmp_path: Path
) -> None:
    code = snapshot.take(sweep)
    pool = Pool(sweep, code, retries=5, exit_when_idle=True, deadline=1000.0)
    said = told(pool, ONE)
    # The copy comes first, before what the user's own PYTHONPATH has.
    assert said[2] == f"{code}{os.pathsep}{tmp_path}"
    assert said[10:-1] == ["--retries", "5", "--exit-when-idle", "--deadline"]
    assert 900 < float(said[-1]) <= 1000
    # One that takes another's place has what is left of the time.
    assert pool._deadline
    pool._deadline -= 600
    assert 300 < float(told(pool, ONE)[-1]) <= 400


def test_a_deadline_of_no_seconds_begins_nothing(sweep: SweepFolder) -> None:
    pool = Pool(sweep, deadline=0.0)
    pool.start(ONE)
    until_none(pool)
    assert pool.unusable is None and pool.started == 1 and not sweep.begun()


def test_what_an_earlier_worker_of_that_name_said_is_not_this_ones(
    sweep: SweepFolder, broken_torch: None
) -> None:
    """After a restart of the machine or a container, process numbers come again."""
    pool = Pool(sweep)
    name = f"{os.uname().nodename}-{os.getpid()}-1"
    run = sweep.plan()[0]
    claim = claims.acquire(run.folder.path, name, Watch())
    assert claim
    pool._worker_file(name).parent.mkdir()
    pool._worker_file(name).write_text(json.dumps({"run_key": run.run_key, "claim": 1}))
    pool.start(ONE)
    until_none(pool)
    assert pool.unusable and pool.started == 1
    assert run.folder.attempts() == [] and run.folder.state() == "running"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB, where this process may mount one."""
    with disks.mounted(tmp_path / "disk", "256k") as disk:
        yield disk


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filling").open("wb") as file:
        while True:
            file.write(bytes(4096))
            file.flush()


def test_a_full_disk_ends_the_pool_in_words(
    sweep: SweepFolder, broken_torch: None, small_disk: Path
) -> None:
    shutil.copytree(sweep.path, small_disk / "one")
    pool = Pool(SweepFolder(small_disk / "one"))
    process = holding(pool, 0)
    fill(small_disk)
    end(process, -signal.SIGKILL)
    assert pool.poll() == 0
    assert pool.unusable and "No space left on device" in pool.unusable


def test_workers_that_can_not_even_say_so(
    sweep: SweepFolder, broken_torch: None, small_disk: Path
) -> None:
    """Their logs are on the disk that is full: that they are empty tells nothing."""
    shutil.copytree(sweep.path, small_disk / "one")
    pool = Pool(SweepFolder(small_disk / "one"))
    fill(small_disk)
    pool.start(ONE)
    until_none(pool)
    (log,) = (small_disk / "one" / "workers").glob("*.log")
    assert log.read_bytes() == b""
    assert pool.unusable == f"a worker could not work: No space left on device ({log})"
