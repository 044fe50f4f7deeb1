"""Faults of machines, disks and runs: none loses a result, none makes one that is not true."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store import claims
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.experiments.worker.exit_status import NO_STORE, STOPPED
from mixbench.slurm.local import Slot
from mixbench.slurm.pool import Pool
from tests.chaos.nursery import Child, Nursery, Setup
from tests.support import disks, running

FULL = os.strerror(errno.ENOSPC)
STEPS = 15
SAVES: Setup = [("tests.chaos.faults:save_every_step", {})]


def spec(seeds: int = 1, **training: Any) -> dict[str, Any]:
    """A sweep of one method: runs of fifteen steps, unless told otherwise."""
    return {
        "name": "faults",
        "fixed": {
            "dataset": {"name": "digits", "train_size": 300},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"epochs": 3, "batch_size": 64, "crop_padding": 1} | training,
            "evaluation": {"occlusion": {"images": 100, "fractions": [0.5]}},
        },
        "grid": {"augmentation": [{"name": "cutmix", "per_sample": True}]},
        "seeds": list(range(seeds)),
    }


class Lab:
    """Makes sweeps, each in a root of its own, and workers for them."""

    def __init__(self, nursery: Nursery, place: Path) -> None:
        self.nursery = nursery
        self.place = place
        self._count = 0
        self._whole: dict[str, Any] = {}

    def sweep(self, description: dict[str, Any]) -> SweepFolder:
        """A sweep that was not begun."""
        self._count += 1
        root = self.place / str(self._count)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIXBENCH_RUNS", str(root))
            return running.planned(description)

    def worker(
        self, folder: SweepFolder, name: str, *options: str, setup: Setup | None = None
    ) -> Child:
        """A worker that looks around often."""
        arguments = (str(folder.path), "--name", name, *options)
        brisk: Setup = [("tests.chaos.faults:brisk", {})]
        output = folder.path.parent / f"{name}.txt"
        return self.nursery.start(*arguments, setup=brisk + (setup or []), output=output)

    def whole(self, description: dict[str, Any]) -> dict[str, Any]:
        """What the sweep comes to when nothing goes wrong."""
        key = json.dumps(description)
        if key not in self._whole:
            folder = self.sweep(description)
            child = self.worker(folder, "calm")
            assert child.wait() == 0, child.said()
            self._whole[key] = running.outcome(folder)
        return self._whole[key]


@pytest.fixture(scope="module")
def lab(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """Sweeps of this module."""
    return Lab(nursery, tmp_path_factory.mktemp("lab"))


def only(folder: SweepFolder) -> RunFolder:
    (planned,) = folder.plan()
    return planned.folder


def outcomes(run: RunFolder) -> list[str]:
    return [row["outcome"] for row in run.attempts()]


def steps(run: RunFolder) -> int:
    return int(((run.last_claim() or {}).get("progress") or {}).get("step") or 0)


def files(place: Path) -> dict[str, tuple[int, int, int]]:
    """All files below, so that one can tell whether any was touched."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_file():
            about = path.stat()
            found[str(path.relative_to(place))] = (about.st_ino, about.st_mtime_ns, about.st_size)
    return found


# Disks.


@pytest.mark.parametrize("once", [False, True], ids=["for good", "for a moment"])
def test_a_disk_that_is_full_at_any_write(lab: Lab, tmp_path: Path, once: bool) -> None:
    """The n-th change of a file fails, for n up to the last that there is: never torn or lost."""
    description = spec(epochs=1, batch_size=90)
    description["fixed"]["evaluation"]["occlusion"]["images"] = 10
    whole = lab.whole(description)

    def attempt(number: int) -> tuple[int, SweepFolder, Child]:
        folder = lab.sweep(description)
        full = {
            "place": str(folder.path),
            "number": number,
            "once": once,
            "count": str(tmp_path / f"{number}"),
        }
        child = lab.worker(folder, "full", setup=[*SAVES, ("tests.chaos.faults:full", full)])
        return number, folder, child

    # One that fails for a moment is what one that fails for good begins with: every fourth will do,
    # beginning with the first or with the third.
    step, tried = 4, 2 * int(once)
    unharmed = False
    # Four at a time, until there are no more writes that could fail.
    while not unharmed:
        batch = [attempt(number) for number in range(tried + 1, tried + 1 + 4 * step, step)]
        again = []
        for number, folder, child in batch:
            tried += step
            status = child.wait()
            counted = tmp_path / f"{number}"
            unharmed = unharmed or counted.stat().st_size < number
            run = only(folder)
            said = child.said().splitlines()
            if status == 0:
                # It did without: a line of a log, a temporary file's last trace.
                assert said == [] and run.state() == "done", (number, said)
            else:
                assert status == NO_STORE, (number, said)
                assert len(said) == 1 and said[0].startswith(f"{FULL}: "), (number, said)
                assert str(folder.path) in said[0]
                assert run.state() != "failed" and run.failure() is None, number
            done = (run.path / "result.json").stat() if run.state() == "done" else None
            again.append((number, folder, done, lab.worker(folder, "after")))
        for number, folder, done, child in again:
            assert (child.wait(), child.said()) == (0, ""), number
            assert running.outcome(folder) == whole, number
            run = only(folder)
            assert outcomes(run).count("done") == 1, number
            if done is not None:
                now = (run.path / "result.json").stat()
                assert (now.st_ino, now.st_mtime_ns) == (done.st_ino, done.st_mtime_ns), number
    assert tried > 60, "as many writes as a run has at least"


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    with disks.mounted(tmp_path / "disk", "2200k") as place:
        yield place


@pytest.fixture
def one_core() -> Iterator[None]:
    """What is started from here has one core, and so one worker of one thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(place)], check=True)


def test_a_sweep_on_a_small_disk(
    lab: Lab, tmpfs: Path, tmp_path: Path, one_core: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself, on a disk that is full, has room again, and then may only be read."""
    description = spec()
    description["fixed"]["model"]["width"] = 48
    description["fixed"]["training"]["epochs"] = 1
    path = tmp_path / "faults.yaml"
    path.write_text(json.dumps(description))  # JSON is YAML
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmpfs))
    # What Python compiles of the copy of the code would fill the disk.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    command = ("sweep", str(path), "--device", "cpu", "--no-track", "--no-report")
    # So much room that the sweep begins, too little for its checkpoints.
    first = running.mixbench(*command)
    assert first.returncode == 1, (first.stdout, first.stderr)
    assert "Traceback" not in first.stdout + first.stderr
    assert FULL in first.stdout + first.stderr
    folder = SweepFolder(tmpfs / "faults")
    assert "done" not in folder.states().values(), "it did not fill the disk: the test is void"
    for planned in folder.plan():
        assert not (planned.folder.path / "result.json").exists()

    remount(tmpfs, "ro")
    before = files(tmpfs)
    readonly = running.mixbench(*command)
    assert readonly.returncode in (1, 2), (readonly.stdout, readonly.stderr)
    assert "Traceback" not in readonly.stdout + readonly.stderr
    assert os.strerror(errno.EROFS) in readonly.stdout + readonly.stderr
    assert len(readonly.stderr.splitlines()) == 1, readonly.stderr
    assert files(tmpfs) == before

    remount(tmpfs, "rw,size=100m")
    again = running.mixbench(*command)
    assert again.returncode == 0, (again.stdout, again.stderr)
    assert running.outcome(folder) == lab.whole(description)


# Workers that are not what they seem.


def test_one_who_slept_past_its_lease_stops_when_it_wakes(lab: Lab) -> None:
    folder = lab.sweep(spec())
    run = only(folder)
    lease = ("tests.chaos.faults:brisk", {"lease_seconds": 1.0, "renew_seconds": 0.1})
    sleeper = lab.worker(
        folder,
        "sleeper",
        setup=[lease, *SAVES, ("tests.chaos.faults:stop_at", {"step": 7})],
    )
    running.wait_until(lambda: asleep(sleeper.pid), "it sleeps")
    assert only(folder).state() == "running"
    other = lab.worker(folder, "other", setup=[lease])
    assert other.wait() == 0, other.said()
    assert run.state() == "done"
    before = files(folder.path / "runs")
    whole = running.outcome(folder)
    sleeper.send(signal.SIGCONT)
    assert sleeper.wait() == 0, "there is nothing left to do for it"
    assert sleeper.said() == ""
    after = files(folder.path / "runs")
    log = f"{run.run_key}/log.txt"
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    assert changed <= {log}, "it wrote into a run that is another's"
    assert running.outcome(folder) == whole == lab.whole(spec())
    assert [(row["worker"], row["outcome"]) for row in run.attempts()] == [
        ("sleeper", "died"),
        ("other", "done"),
    ]


def test_one_who_wakes_while_another_is_at_work_leaves_it_alone(lab: Lab) -> None:
    folder = lab.sweep(spec())
    run = only(folder)
    # The sleeper has the usual patience with others, so that it waits for the other one.
    sleeper = lab.worker(
        folder, "sleeper", setup=[*SAVES, ("tests.chaos.faults:stop_at", {"step": 12})]
    )
    running.wait_until(lambda: asleep(sleeper.pid), "it sleeps")
    lease = ("tests.chaos.faults:brisk", {"lease_seconds": 1.0, "renew_seconds": 0.1})
    slowly = ("tests.chaos.faults:slow", {"seconds": 1.0})
    other = lab.worker(folder, "other", setup=[lease, *SAVES, slowly])
    running.wait_until(lambda: steps(run) >= 13, "the other one is at work")
    sleeper.send(signal.SIGCONT)
    assert other.wait() == 0, other.said()
    assert sleeper.wait() == 0, sleeper.said()
    assert running.outcome(folder) == lab.whole(spec())
    assert [(row["worker"], row["outcome"]) for row in run.attempts()] == [
        ("sleeper", "died"),
        ("other", "done"),
    ]


def asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.mark.parametrize("clock", [60.0, -60.0], ids=["a minute ahead", "a minute behind"])
def test_clocks_a_minute_apart(lab: Lab, clock: float) -> None:
    """A claim of another machine is not taken while it is renewed, and not held for ever."""
    lease_seconds = 4.0
    folder = lab.sweep(spec())
    run = only(folder)
    lease = ("tests.chaos.faults:brisk", {"lease_seconds": lease_seconds, "renew_seconds": 0.1})
    far = lab.worker(
        folder,
        "far",
        setup=[
            ("tests.chaos.faults:elsewhere", {"clock": clock}),
            lease,
            *SAVES,
            ("tests.chaos.faults:slow", {"seconds": 0.5}),
        ],
    )
    # While it loads data on a busy machine, it may be silent for long.
    running.wait_until(lambda: steps(run) >= 1, "the far one is at work")
    near = lab.worker(folder, "near", setup=[lease])
    # Longer than a lease, while the one who waits looks on.
    running.wait_until(lambda: steps(run) >= 10, "the far one has worked for long")
    claim = run.last_claim()
    assert claim is not None and (claim["worker"], claim["number"]) == ("far", 1)
    assert abs(claim["time"] - time.time() - clock) < 10
    assert run.state() == "running", "so it is also shown"
    far.send(signal.SIGKILL)
    far.wait()
    assert near.wait() == 0, near.said()
    seen, taken = (claims.numbered(run.path, number) for number in (1, 2))
    assert seen is not None and taken is not None
    silent = taken["started"] - (seen["time"] - clock)
    assert silent > 0.9 * lease_seconds, "nobody can know that it is dead"
    assert [(row["worker"], row["outcome"]) for row in run.attempts()] == [
        ("far", "died"),
        ("near", "done"),
    ]
    assert running.outcome(folder) == lab.whole(spec())


# Runs that go wrong.

MISBEHAVING = """

_train = train


def train(network, dataset, config, device, folder, beat, *rest):
    import time

    def misbehave(progress, *, force=False):
        third = bool(progress) and progress.get("step") == 3
        beat(progress, force=force or third)
        if not third:
            return
        if config.seed == 0:
            time.sleep(600)
        if config.seed == 1:
            raise MemoryError("no room for another batch")
        if config.seed == 2:
            raise ValueError("labels of another data set")

    return _train(network, dataset, config, device, folder, misbehave, *rest)
"""
"""By its seed a run hangs in its third step, has no memory, raises, or is as it should be."""


def test_each_fault_costs_its_own_run(lab: Lab) -> None:
    description = spec(seeds=4)
    folder = lab.sweep(description)
    code = snapshot.take(folder)
    with (code / "mixbench/experiments/worker/execute.py").open("a") as file:
        file.write(MISBEHAVING)
    pool = Pool(folder, code, retries=1)
    by_seed = {planned.config["seed"]: planned.folder for planned in folder.plan()}

    def look() -> bool:
        # A short patience only with the one that hangs, when the others are through: on a busy
        # machine they may be silent for long.
        through = all(by_seed[seed].state() in ("done", "failed") for seed in (1, 2, 3))
        pool.hang_seconds = 1.0 if through and steps(by_seed[0]) == 3 else 600.0
        return pool.poll() == 0

    for _ in range(2):
        pool.start(Slot(None, 1))
    try:
        running.wait_until(look, "the end of the sweep")
    finally:
        pool.stop(0.0)
    assert pool.unusable is None
    assert {seed: outcomes(run) for seed, run in by_seed.items()} == {
        0: ["hung", "hung"],
        1: ["out of memory", "out of memory"],
        2: ["failed"],
        3: ["done"],
    }
    reasons = {
        0: "no heartbeat for 1 s: killed (2 attempts got no further)",
        1: "MemoryError: no room for another batch (2 attempts got no further)",
        2: "ValueError: labels of another data set",
    }
    for seed, reason in reasons.items():
        failure = by_seed[seed].failure()
        assert failure is not None and failure["error"] == reason
        assert by_seed[seed].state() == "failed" and by_seed[seed].result() is None
    for seed in (1, 2):
        assert "Traceback" in (by_seed[seed].failure() or {})["traceback"]


def test_a_run_that_needs_more_memory_than_there_is(lab: Lab) -> None:
    """A real limit; the run that fits is done all the same, by the same process."""
    description = spec(epochs=1, batch_size=256)
    description["grid"] = {"model.width": [768, 4]}
    folder = lab.sweep(description)
    limit = ("tests.chaos.faults:memory", {"megabytes": 200})
    child = lab.worker(folder, "cramped", "--retries", "1", setup=[limit])
    assert (child.wait(300), child.said()) == (0, "")
    large, small = (planned.folder for planned in folder.plan())
    assert (large.state(), small.state()) == ("failed", "done")
    assert outcomes(large) == ["out of memory"] * 2
    failure = large.failure()
    assert failure is not None and "memory" in failure["error"].lower()
    assert outcomes(small) == ["done"]


# Checkpoints.


def interrupted(lab: Lab) -> SweepFolder:
    """A sweep whose run was killed when it had two checkpoints and more."""
    folder = lab.sweep(spec())
    run = only(folder)
    child = lab.worker(folder, "first", setup=[*SAVES, ("tests.chaos.faults:stop_at", {"step": 8})])
    running.wait_until(lambda: asleep(child.pid), "it is in its midst")
    child.send(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert (run.path / "checkpoint.previous.pt").exists()
    return folder


@pytest.mark.parametrize("damaged", [1, 2], ids=["the newest", "both"])
def test_damaged_checkpoints(lab: Lab, damaged: int) -> None:
    folder = interrupted(lab)
    run = only(folder)
    for name in ("checkpoint.pt", "checkpoint.previous.pt")[:damaged]:
        content = bytearray((run.path / name).read_bytes())
        # More than the bytes between two tensors, which nobody reads.
        middle = slice(len(content) // 2, len(content) // 2 + 256)
        content[middle] = bytes(byte ^ 0xFF for byte in content[middle])
        (run.path / name).write_bytes(content)
    child = lab.worker(folder, "second")
    assert (child.wait(), child.said()) == (0, "")
    log = (run.path / "log.txt").read_text()
    assert log.count("is not readable") == damaged
    assert ("going back to the checkpoint before it" in log) == (damaged == 1)
    # The newest was written before the eighth step, when seven were done.
    assert ("going on from step 6" in log) == (damaged == 1)
    assert ("starting over" in log) == (damaged == 2)
    assert running.outcome(folder) == lab.whole(spec())


# Ends that were asked for.


def test_the_stop_mark_stops_and_keeps_away(lab: Lab) -> None:
    folder = lab.sweep(spec())
    run = only(folder)
    slowly = ("tests.chaos.faults:slow", {"seconds": 1.0})
    child = lab.worker(folder, "first", setup=[slowly])
    running.wait_until(lambda: steps(run) >= 2, "it is at work")
    folder.ask_to_stop("enough for today")
    assert (child.wait(), child.said()) == (STOPPED, "")
    assert outcomes(run) == ["stopped"] and run.state() == "waiting"
    (row,) = run.attempts()
    assert row["saved"] > 0, "it saved its state, though no checkpoint was due"
    claimed = files(run.path)
    late = lab.worker(folder, "late")
    assert (late.wait(), late.said()) == (STOPPED, "")
    assert files(run.path) == claimed, "nobody begins"
    folder.allow()
    child = lab.worker(folder, "second")
    assert (child.wait(), child.said()) == (0, "")
    assert f"going on from step {row['saved']}" in (run.path / "log.txt").read_text()
    assert running.outcome(folder) == lab.whole(spec())


def test_a_worker_whose_time_is_up_saves_and_lets_go(lab: Lab) -> None:
    """Each life is a little longer, so that one ends between steps however slow the machine is."""
    folder = lab.sweep(spec())
    run = only(folder)
    lives, seconds = 0, 2.5
    slowly = ("tests.chaos.faults:slow", {"seconds": 0.3})
    while run.state() != "done":
        lives += 1
        assert lives < 20, "it gets nowhere"
        child = lab.worker(folder, f"life{lives}", "--deadline", f"{seconds:.1f}", setup=[slowly])
        seconds *= 1.3
        assert child.wait() in (STOPPED, 0), child.said()
        assert child.said() == ""
        assert (run.last_claim() or {}).get("released") in ("stopped", "done")
    assert lives > 1 and outcomes(run) == ["stopped"] * (lives - 1) + ["done"]
    # A life that ends before its first step saves nothing.
    saved = [row["saved"] for row in run.attempts() if row["saved"]]
    assert saved and saved == sorted(saved), "each life goes on where the last one ended"
    assert running.outcome(folder) == lab.whole(spec())


def test_a_grown_sweep_that_would_be_another_changes_nothing(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = spec()
    folder = interrupted(lab)
    (run,) = folder.plan()
    stored = run.folder.path / "config.json"
    as_it_was = stored.read_text()
    stored.write_text(as_it_was.replace('"learning_rate": 0.', '"learning_rate": 3.'))
    monkeypatch.setenv("MIXBENCH_RUNS", str(folder.path.parent))
    before = files(folder.path.parent)
    changed = tmp_path / "faults.yaml"
    changed.write_text(json.dumps({**description, "seeds": [0, 1]}))
    done = running.mixbench("sweep", str(changed), "--device", "cpu")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert "training.learning_rate was 3." in line and "--name" in line
    assert files(folder.path.parent) == before
    stored.write_text(as_it_was)
    # As it was, it goes on.
    changed.write_text(json.dumps(description))
    child = lab.worker(folder, "second")
    assert (child.wait(), child.said()) == (0, "")
    assert running.outcome(folder) == lab.whole(description)


def test_the_skew_that_is_allowed_for() -> None:
    """What one look at a claim can tell: a minute more or less is no sign of death."""
    for clock in (-60.0, 60.0):
        body = {"time": time.time() + clock, "host": "elsewhere", "process_start": "1", "pid": 1}
        assert not claims.is_stale(body)
        late = claims.LEASE_SECONDS + claims.SKEW_SECONDS + 1
        assert claims.is_stale({**body, "time": time.time() - late})
