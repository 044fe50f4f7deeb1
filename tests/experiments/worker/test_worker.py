"""Workers on a real sweep: every run once, killed ones exactly continued, failures on record."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import metrics as scores
from mixbench.experiments.signals import SIGNALS, Stop, Stopped
from mixbench.experiments.store import attempts, claims
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.training.loop import Diverged
from mixbench.experiments.worker import __main__ as command
from mixbench.experiments.worker import claim_loop
from mixbench.experiments.worker import execute as run
from mixbench.experiments.worker.exit_status import NO_STORE, STOPPED
from mixbench.experiments.worker.worker import Worker
from tests.support import disks, running

EPOCHS = 24
LONG = {
    "fixed": {
        "dataset": {"name": "digits", "train_size": 300},
        "model": {"name": "small_cnn", "width": 4},
        "training": {"epochs": EPOCHS, "batch_size": 32, "crop_padding": 1},
        "evaluation": {"occlusion": {"images": 100, "fractions": [0.5]}},
    },
    "grid": {"augmentation": [{"name": "cutmix", "per_sample": True}]},
    "seeds": [0],
}


def test_each_run_was_done_once(trained: SweepFolder) -> None:
    assert set(trained.states().values()) == {"done"}
    for planned in trained.plan():
        attempts = planned.folder.attempts()
        assert [(row["attempt"], row["outcome"], row["error"]) for row in attempts] == [
            (1, "done", None)
        ]
        assert attempts[0]["worker"] == "tests"
        assert attempts[0]["started"] < attempts[0]["ended"]
        last = planned.folder.last_claim()
        assert last and last["released"] == "done"
        assert planned.folder.claim() is None and planned.folder.failure() is None


def test_what_a_run_leaves_behind(trained: SweepFolder) -> None:
    for planned in trained.plan():
        path = planned.folder.path
        assert {entry.name for entry in path.iterdir()} == {
            "attempts.jsonl",
            "checkpoint.pt",
            "claims",
            "config.json",
            "log.txt",
            "metrics.jsonl",
            "mixed.png",
            "predictions.npz",
            "result.json",
        }
        stored = json.loads((path / "config.json").read_text())
        assert stored == {
            "schema": 1,
            "run_key": planned.run_key,
            "cell_key": planned.cell_key,
            "config": planned.config,
        }
        rows = planned.folder.metrics()
        assert [row["epoch"] for row in rows] == [1, 2, 3]
        assert [row["step"] for row in rows] == [5, 10, 15]
        assert set(rows[0]) == {
            "epoch",
            "step",
            "time",
            "train/loss",
            "validation/accuracy",
            "validation/nll",
            "learning_rate",
            "mix/own_weight",
            "images_per_second",
        }
        assert "epoch 3/3" in (path / "log.txt").read_text()
        assert Image.open(path / "mixed.png").size == (952, 130)


def test_the_result_is_what_the_contract_says(trained: SweepFolder) -> None:
    for planned in trained.plan():
        result = planned.folder.result()
        assert result is not None
        assert (result["run_key"], result["cell_key"]) == (planned.run_key, planned.cell_key)
        assert (result["schema"], result["seed"]) == (1, planned.config["seed"])
        names = {
            "test/accuracy",
            "test/nll",
            "test/brier",
            "test/ece",
            "test/gap",
            "test/balanced_accuracy",
            "test/macro_f1",
            "train/accuracy",
            "train/nll",
            "validation/accuracy",
            "validation/nll",
            "best/epoch",
            "best/validation_accuracy",
            "mix/dose",
        }
        for shape in ("centre", "patches", "centre/noise", "patches/noise"):
            names |= {
                f"occlusion/{shape}/{part}"
                for part in ("0.25", "0.5", "area", "retention/0.25", "retention/0.5")
            }
        assert set(result["metrics"]) == names
        assert result["dataset"] | {"digest": "", "source": ""} == {
            "name": "digits",
            "train": 270,
            "validation": 30,
            "test": 359,
            "classes": list("0123456789"),
            "digest": "",
            "source": "",
            "skipped": [],
        }
        assert result["provenance"]["threads"] == 1
        assert result["provenance"]["device"].startswith("cpu: ")
        assert result["provenance"]["started"] < result["provenance"]["finished"]
        assert result["timing"]["train_seconds"] > 0


def test_the_numbers_follow_from_the_stored_logits(trained: SweepFolder) -> None:
    for planned in trained.plan():
        content = (planned.folder.path / "predictions.npz").read_bytes()
        stored = np.load(io.BytesIO(content))
        logits, labels = stored["logits"], stored["labels"]
        assert (logits.dtype, logits.shape) == (np.float32, (359, 10))
        assert (labels.dtype, labels.shape) == (np.int64, (359,))
        metrics, reliability = scores.measure(logits, labels, 15)
        result = planned.folder.result()
        assert result is not None
        for name, value in metrics.items():
            assert result["metrics"][f"test/{name}"] == value
        assert result["curves"]["reliability"] == reliability
        last = planned.folder.metrics()[-1]
        for name in ("accuracy", "nll"):
            validated = result["metrics"][f"validation/{name}"]
            assert last[f"validation/{name}"] == pytest.approx(validated, rel=1e-6)


def test_nothing_is_left_to_do(trained: SweepFolder) -> None:

    def files() -> dict[Path, int]:
        runs = (trained.path / "runs").rglob("*")
        return {path: path.stat().st_mtime_ns for path in runs if path.is_file()}

    before = files()
    assert running.work(trained, "second") == 0
    assert files() == before


def test_all_cells_of_a_seed_come_before_the_next_seed() -> None:
    keys = [("a", "a0"), ("a", "a1"), ("a", "a2"), ("b", "b0"), ("b", "b1"), ("c", "c0")]
    plan = [PlannedRun(run, cell, {}, RunFolder(Path(run))) for cell, run in keys]
    order = [planned.run_key for planned in claim_loop.by_seed(plan)]
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_runs_are_done_in_that_order(trained: SweepFolder) -> None:
    results = [planned.folder.result() for planned in trained.plan()]
    assert all(results)
    results.sort(key=lambda result: result["provenance"]["started"])  # type: ignore[index]
    assert [result["seed"] for result in results if result] == [0, 0, 1, 1]


def test_running_again_does_only_what_is_missing(trained: SweepFolder, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "trained")
    folder = SweepFolder(tmp_path / "trained")
    whole = running.outcome(trained)
    plan = folder.plan()
    shutil.rmtree(plan[1].folder.path)
    (plan[2].folder.path / "result.json").unlink()
    assert running.work(folder, "again") == 2
    assert running.outcome(folder) == whole
    assert [len(run.folder.attempts()) for run in folder.plan()] == [1, 1, 2, 1]


def test_a_run_that_somebody_holds_is_waited_for(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claim_loop, "WAIT_SECONDS", 0.05)
    folder = running.planned(running.spec("held"))
    held, *others = folder.plan()
    claim = claims.acquire(held.folder.path, "somebody", Watch())
    assert claim
    seen: list[Any] = []

    def let_go() -> None:
        running.wait_until(lambda: all(run.folder.result() for run in others), "the other runs")
        time.sleep(0.3)
        seen.extend([held.folder.state(), held.folder.attempts()])
        claim.release("stopped")

    thread = threading.Thread(target=let_go)
    thread.start()
    assert running.work(folder, "here") == 4
    thread.join()
    assert seen == ["running", []]
    last = held.folder.last_claim()
    assert last and (last["number"], last["worker"]) == (2, "here")


def test_one_who_is_overtaken_stops_and_writes_no_more(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr(claim_loop, "WAIT_SECONDS", 0.05)
    folder = running.planned(running.spec("overtaken", grid={"augmentation": ["none"]}, seeds=[0]))
    (planned,) = folder.plan()
    renew = claims.Claim.renew
    others: list[claims.Claim] = []

    def overtaken(self: claims.Claim, progress: Any = None, *, force: bool = False) -> None:
        if not others and progress and progress.get("epoch", 0) > 1.5:
            body = json.loads(self.path.read_text())
            self.path.write_text(json.dumps({**body, "process_start": "1"}))
            other = claims.acquire(planned.folder.path, "other", Watch())
            assert other
            others.append(other)
        renew(self, progress, force=force)

    seen: list[Any] = []

    def finish() -> None:
        running.wait_until(lambda: others, "another one takes over")
        time.sleep(0.5)
        seen.extend([planned.folder.result(), planned.folder.failure(), planned.folder.attempts()])
        seen.extend(
            [len(planned.folder.metrics()), len(list(planned.folder.path.glob("claims/*")))]
        )
        atomic_write(planned.folder.path / "result.json", '{"metrics": {"by": "other"}}')
        others[0].release("done")

    monkeypatch.setattr(claims.Claim, "renew", overtaken)
    thread = threading.Thread(target=finish)
    thread.start()
    assert running.work(folder, "here") == 0
    thread.join()
    assert seen == [None, None, [], 1, 2]
    assert planned.folder.result() == {"metrics": {"by": "other"}}


def test_runs_that_fail_are_recorded_and_the_sweep_goes_on(runs: Path) -> None:
    spec = running.spec(
        "failing",
        grid={"training.learning_rate": [1e30, 0.1]},
        # Its stem is three convolutions, so that there is none to shrink: found when it is built.
        include=[{"model": {"name": "timm/resnet18d", "small_stem": True}}],
        seeds=[0],
    )
    spec["fixed"]["training"]["nesterov"] = False
    folder = running.planned(spec)
    diverging, good, unfit = (planned.folder for planned in folder.plan())
    assert running.work(folder, "here") == 1
    assert [run.state() for run in (diverging, good, unfit)] == ["failed", "done", "failed"]
    for one, error in ((diverging, "Diverged: "), (unfit, "UserError: model.small_stem: ")):
        failure = one.failure()
        assert failure and failure["error"].startswith(error)
        assert "Traceback (most recent call last)" in failure["traceback"]
        assert failure["error"].split(":")[0] in failure["traceback"]
        assert failure["attempt"] == 1
        outcome = "diverged" if one is diverging else "failed"
        assert [row["outcome"] for row in one.attempts()] == [outcome]
        assert one.attempts()[0]["error"] == failure["error"]
        assert "Traceback" in (one.path / "log.txt").read_text()
        assert one.result() is None and one.claim() is None
    assert not (diverging.path / "predictions.npz").exists()

    assert running.work(folder, "here") == 0, "a failed run is not tried again by itself"
    assert retry_failed(folder) == 2
    assert running.work(folder, "here") == 0
    assert [row.get("attempt") for row in unfit.attempts()] == [1, None, 2]
    failure = unfit.failure()
    assert failure and failure["attempt"] == 2


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A long run by three workers: undisturbed, killed in its midst, and told to stop."""
    made: dict[str, Any] = {}
    for name in ("alone", "killed", "told"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIXBENCH_RUNS", str(tmp_path_factory.mktemp(name)))
            made[name] = running.planned({"name": "long", **LONG})
    assert running.work(made["alone"], "alone") == 1
    processes = {name: running.start_worker(made[name], name) for name in ("killed", "told")}
    for name, number in (("killed", signal.SIGKILL), ("told", signal.SIGTERM)):
        run = made[name].plan()[0].folder
        process = processes[name]
        running.wait_until(
            lambda run=run, process=process: len(run.metrics()) >= 4 or process.poll() is not None,
            "four epochs",
        )
        os.kill(process.pid, number)
        _, complaint = process.communicate(timeout=300)
        made[f"{name} status"] = process.returncode, complaint
        made[f"{name} epochs"] = len(run.metrics())
    return made


def test_a_killed_worker_leaves_a_run_that_anyone_may_take(interrupted: dict[str, Any]) -> None:
    assert interrupted["killed status"] == (-signal.SIGKILL, "")
    assert 4 <= interrupted["killed epochs"] < EPOCHS
    run = interrupted["killed"].plan()[0].folder
    if run.result() is None:
        assert run.state() == "waiting" and run.attempts() == []


def test_a_worker_told_to_stop_lets_go(interrupted: dict[str, Any]) -> None:
    assert interrupted["told status"] == (STOPPED, "")
    assert 4 <= interrupted["told epochs"] < EPOCHS
    run = interrupted["told"].plan()[0].folder
    (row, *_) = run.attempts()
    assert (row["outcome"], row["worker"]) == ("stopped", "told")
    # It saved its state at once, and gave away nothing.
    if row["error"] == "between two epochs":
        assert row["saved"] % 9 == 0 and row["saved"] >= 36
    elif row["error"].startswith("after epoch "):
        assert row["saved"] == 9 * int(row["error"].split()[2])
    else:
        step, epoch = (int(row["error"].split()[place]) for place in (2, -1))
        assert row["saved"] == step + 9 * (epoch - 1)
    first = json.loads((run.path / "claims" / "000001.json").read_text())
    assert first["released"] == "stopped"


@pytest.mark.parametrize("name", ["killed", "told"])
def test_going_on_gives_what_would_have_come(interrupted: dict[str, Any], name: str) -> None:
    folder = interrupted[name]
    assert running.work(folder, "second") == 1
    run = folder.plan()[0].folder
    last = run.last_claim()
    assert last and last["number"] == 2 and last["worker"] == "second"
    assert "going on from step" in (run.path / "log.txt").read_text()
    assert [row["epoch"] for row in run.metrics()] == list(range(1, EPOCHS + 1))
    assert running.outcome(folder) == running.outcome(interrupted["alone"])
    leftovers = [path.name for path in run.path.rglob(".*")]
    assert len(leftovers) <= (name == "killed"), "at most what the kill itself cut off"


def test_a_plan_that_no_longer_means_what_it_says_is_not_run(runs: Path) -> None:
    """Such as images that were added to a folder since: the key would name another run."""
    folder = running.planned(running.spec("edited", grid={"augmentation": ["none"]}, seeds=[0]))
    path = folder.path / "plan.jsonl"
    row = json.loads(path.read_text())
    row["config"]["training"]["epochs"] = 2
    path.write_text(json.dumps(row) + "\n")
    assert running.work(folder, "worker") == 0
    failure = folder.plan()[0].folder.failure()
    assert failure is not None and failure["error"].startswith("PlanMismatch: planned as ")
    assert folder.plan()[0].folder.result() is None


# What follows is about the worker alone: most of its runs are over before they begin to train.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claim_loop, "WAIT_SECONDS", 0.05)


@pytest.fixture
def undisturbed() -> Iterator[None]:
    """This process's handlers of signals, as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Runs end at once with a result; (run key, attempt) in the order of their beginning."""
    order: list[tuple[str, int]] = []

    def execute(config: Any, folder: RunFolder, device: Any, claim: Any, *rest: Any) -> None:
        order.append((config.run_key, claim.number))
        folder.finish({"metrics": {}})

    monkeypatch.setattr(run, "execute", execute)
    return order


def outcomes(folder: RunFolder) -> list[str]:
    return [row["outcome"] for row in folder.attempts()]


def failing(
    monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int], BaseException | None]
) -> None:
    """Have the runs fail with what `fails` says of a run's key and an attempt's number."""
    execute = run.execute

    def failed(config: Any, folder: RunFolder, device: Any, claim: Any, *rest: Any) -> None:
        execute(config, folder, device, claim, *rest)
        error = fails(config.run_key, claim.number)
        if error is not None:
            (folder.path / "result.json").unlink()
            raise error

    monkeypatch.setattr(run, "execute", failed)


def abandoned(planned: PlannedRun, name: str, **progress: Any) -> claims.Claim:
    """The claim of a worker that died without a word."""
    claim = claims.acquire(planned.folder.path, name, Watch())
    assert claim
    body = {**claim.body, "process_start": "1", "progress": progress}
    claim.path.write_text(json.dumps(body))
    return claim


def forked(folder: SweepFolder, *options: str) -> int:
    """A worker in a process of its own, which has torch already; its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            sys.argv = ["worker", str(folder.path), "--name", f"forked{os.getpid()}", *options]
            status = command.main()
        except SystemExit as ending:
            status = int(ending.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def status_of(pid: int, seconds: float = 600) -> int:
    found: list[int] = []

    def ended() -> bool:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            found.append(os.waitstatus_to_exitcode(status))
        return bool(done)

    try:
        running.wait_until(ended, "the worker ends", seconds)
    except AssertionError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return found[0]


def test_one_that_fails_comes_again_after_those_not_yet_tried(
    runs: Path, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = running.planned(running.spec("order"))
    keys = [planned.run_key for planned in claim_loop.by_seed(folder.plan())]
    failing(monkeypatch, lambda key, _: RuntimeError("CUDA error") if key == keys[1] else None)
    assert running.work(folder, "w") == 3
    assert told == [*((key, 1) for key in keys), (keys[1], 2), (keys[1], 3)]
    failed = folder.find(keys[1]).folder
    assert outcomes(failed) == ["failed"] * 3
    failure = failed.failure()
    assert failure and failure["error"] == "RuntimeError: CUDA error (3 attempts got no further)"
    assert "Traceback" in failure["traceback"]


@pytest.mark.parametrize(
    ("error", "outcome", "attempts"),
    [
        (OSError(5, "Input/output error"), "failed", 3),
        (MemoryError(), "out of memory", 3),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory", 3),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory", 3),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "failed", 3),
        (UserError("model.width: got 0"), "failed", 1),
        (Diverged("the training loss became nan"), "diverged", 1),
    ],
)
def test_what_may_be_the_machines_fault_is_tried_again(
    runs: Path,
    told: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    outcome: str,
    attempts: int,
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    failing(monkeypatch, lambda *_: error)
    assert running.work(folder, "w") == 0
    (planned,) = folder.plan()
    assert outcomes(planned.folder) == [outcome] * attempts
    assert planned.folder.state() == "failed"
    last = planned.folder.last_claim()
    assert last and (last["number"], last["released"]) == (attempts, outcome)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_is_not_the_runs_fault(
    runs: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Each run would fail like the first, until the whole sweep is given up."""
    folder = running.planned(running.spec("one"))
    failing(monkeypatch, lambda *_: OSError(number, os.strerror(number), "checkpoint.pt"))
    for _ in range(4):
        with pytest.raises(OSError, match=r"checkpoint\.pt"):
            running.work(folder, "w")
    first = folder.plan()[0].folder
    assert len(told) == 4 and folder.begun() == {first.run_key}
    assert outcomes(first) == ["stopped"] * 4 and first.state() == "waiting"
    assert first.attempts()[0]["error"] == f"{os.strerror(number)}: checkpoint.pt"


def test_runs_that_are_forgiven_while_a_worker_is_there_are_tried_again(
    runs: Path, told: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    folder = running.planned(running.spec("one"))
    keys = [planned.run_key for planned in claim_loop.by_seed(folder.plan())]
    failing(monkeypatch, lambda key, n: UserError("no") if (key, n) == (keys[0], 1) else None)
    held = folder.find(keys[3])
    claim = claims.acquire(held.folder.path, "somebody", Watch())
    assert claim

    def forgive() -> None:
        running.wait_until(lambda: folder.find(keys[2]).folder.result(), "the others are done")
        time.sleep(0.2)
        retry_failed(folder, {keys[0]})
        running.wait_until(lambda: folder.find(keys[0]).folder.result(), "it is tried again")
        claim.release("stopped")

    thread = threading.Thread(target=forgive)
    thread.start()
    assert running.work(folder, "w") == 4
    thread.join()
    assert told[-2:] == [(keys[0], 2), (keys[3], 2)]


@pytest.mark.parametrize("retries", [0, 1])
def test_how_often_is_the_users_choice(
    runs: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    failing(monkeypatch, lambda *_: OSError(5, "Input/output error"))
    Worker(folder, "cpu", "w", retries=retries).work()
    assert outcomes(folder.plan()[0].folder) == ["failed"] * (retries + 1)
    assert retry_failed(folder) == 1
    Worker(folder, "cpu", "w", retries=retries).work()
    assert outcomes(folder.plan()[0].folder).count("failed") == 2 * (retries + 1)


def test_a_run_that_ends_the_process_is_not_done(
    runs: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    failing(monkeypatch, lambda *_: SystemExit(1))
    with pytest.raises(SystemExit):
        running.work(folder, "w")
    (row,) = folder.plan()[0].folder.attempts()
    assert (row["outcome"], row["error"]) == ("failed", "it ended the process")
    assert folder.plan()[0].folder.state() == "waiting"


def test_who_died_without_a_word_is_put_on_record(runs: Path, told: list[tuple[str, int]]) -> None:
    folder = running.planned(running.spec("one"))
    first, second, third, _ = folder.plan()
    abandoned(first, "lost", saved=64)
    # This one's pool has seen how it died.
    abandoned(second, "seen", saved=0)
    second.folder.add_attempt({"attempt": 1, "outcome": "died", "error": "signal SIGSEGV"})
    for number in range(1, 4):
        abandoned(third, f"w{number}")
        if number < 3:
            third.folder.add_attempt({"attempt": number, "outcome": "died", "error": "E"})
    assert running.work(folder, "w") == 3
    lost, done = first.folder.attempts()
    assert (lost["outcome"], lost["worker"], lost["saved"]) == ("died", "lost", 64)
    assert lost["error"] == "no heartbeat from its worker lost"
    assert (done["outcome"], done["attempt"], done["error"]) == ("done", 2, None)
    assert [row["error"] for row in second.folder.attempts()] == ["signal SIGSEGV", None]
    # That was the last attempt of the third one: nobody tries it again.
    assert outcomes(third.folder) == ["died"] * 3 and third.folder.state() == "failed"
    assert (third.run_key, 4) not in told
    last = third.folder.last_claim()
    assert last and (last["number"], last["released"]) == (4, "given up")


def test_given_up_by_the_pool_at_the_very_moment_it_is_taken_over(
    runs: Path, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    (planned,) = folder.plan()
    abandoned(planned, "w0")
    acquire = claims.acquire

    def late(*arguments: Any) -> claims.Claim | None:
        claim = acquire(*arguments)
        if claim:
            # After the look at the state of the run, before that at its attempts.
            check = Stop.check

            def record(stop: Stop) -> None:
                monkeypatch.setattr(Stop, "check", check)
                dead = claims.numbered(planned.folder.path, 1)
                assert dead
                attempts.record(planned.folder, dead, "died", "signal SIGKILL", retries=0)

            monkeypatch.setattr(Stop, "check", record)
        return claim

    monkeypatch.setattr(claims, "acquire", late)
    assert Worker(folder, "cpu", "w", retries=0).work() == 0
    assert not told and planned.folder.state() == "failed"
    assert outcomes(planned.folder) == ["died"]


def test_leaving_what_is_in_good_hands(
    runs: Path, told: list[tuple[str, int]], impatient: None
) -> None:
    """A task of a cluster must not hold its allocation to wait for others."""
    folder = running.planned(running.spec("one"))
    held = folder.plan()[0]
    claim = claims.acquire(held.folder.path, "somebody", Watch())
    assert claim
    over = threading.Event()

    def renew() -> None:
        while not over.wait(0.02):
            claim.renew(force=True)

    thread = threading.Thread(target=renew)
    thread.start()
    began = time.monotonic()
    try:
        assert Worker(folder, "cpu", "w", exit_when_idle=True).work() == 3
        assert time.monotonic() - began < claims.LEASE_SECONDS
        assert held.folder.state() == "running"
    finally:
        over.set()
        thread.join()


def test_not_leaving_what_shows_no_sign_of_life(
    runs: Path, told: list[tuple[str, int]], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LEASE_SECONDS", 1.0)
    folder = running.planned(running.spec("one"))
    held = folder.plan()[0]
    claim = claims.acquire(held.folder.path, "far", Watch())
    assert claim
    claim.body["host"] = "elsewhere"
    claim.renew({"saved": 5}, force=True)
    assert Worker(folder, "cpu", "w", exit_when_idle=True).work() == 4
    assert outcomes(held.folder) == ["died", "done"] and held.folder.state() == "done"


def test_the_stop_mark_begins_nothing_and_is_not_an_attempt(runs: Path) -> None:
    folder = running.planned(running.spec("one"))
    folder.ask_to_stop("mixbench cancel")
    assert status_of(forked(folder)) == STOPPED
    assert folder.begun() == set() and not (folder.path / "workers").exists()


def test_the_stop_mark_in_the_middle_of_a_run(runs: Path, impatient: None) -> None:
    # Far longer than it takes to notice.
    spec = {**LONG, "fixed": LONG["fixed"] | {"training": {"epochs": 4000, "batch_size": 32}}}
    folder = running.planned({"name": "long", **spec})
    (planned,) = folder.plan()
    pid = forked(folder, "--threads", "1")
    running.wait_until(lambda: len(planned.folder.metrics()) >= 2, "two epochs")
    folder.ask_to_stop("mixbench cancel")
    assert status_of(pid) == STOPPED
    (row,) = planned.folder.attempts()
    assert row["outcome"] == "stopped"
    assert row["saved"] > 9 and planned.folder.state() == "waiting"
    last = planned.folder.last_claim()
    assert last and last["released"] == "stopped"


def test_a_deadline_ends_a_run_with_a_checkpoint(runs: Path) -> None:
    spec = {**LONG, "fixed": LONG["fixed"] | {"training": {"epochs": 4000, "batch_size": 32}}}
    folder = running.planned({"name": "long", **spec})
    (planned,) = folder.plan()
    # On a busy machine a short time may be over before the first step.
    for seconds in ("3", "30", "300"):
        assert status_of(forked(folder, "--threads", "1", "--deadline", seconds)) == STOPPED
        *_, row = planned.folder.attempts()
        assert row["outcome"] == "stopped"
        if row["saved"] > 0:
            break
    assert row["saved"] > 0
    tried = len(planned.folder.attempts())
    assert (planned.folder.path / "checkpoint.pt").is_file()
    # No time at all: nothing is claimed.
    assert status_of(forked(folder, "--deadline", "0")) == STOPPED
    assert len(planned.folder.attempts()) == tried
    last = planned.folder.last_claim()
    assert last and last["number"] == tried


@pytest.mark.parametrize("when", ["acquire", "_write_presence", "record", "release", "logging_to"])
def test_a_signal_between_claim_and_release_loses_nothing(
    runs: Path, told: list[Any], undisturbed: None, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    (planned,) = folder.plan()
    place = {
        "acquire": claims,
        "_write_presence": Worker,
        "record": attempts,
        "release": claims.Claim,
        "logging_to": run,
    }[when]
    function = getattr(place, when)

    def signalled(*arguments: Any, **options: Any) -> Any:
        claimed = (planned.folder.path / "claims").is_dir()
        result = function(*arguments, **options)
        if claimed or when == "acquire":
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    monkeypatch.setattr(place, when, signalled)
    stop = Stop(folder.stop_reason)
    stop.listen()
    with pytest.raises(Stopped, match="SIGTERM"):
        Worker(folder, "cpu", "w", stop=stop).work()
    finished = when in ("record", "release")
    outcome = "done" if finished else "stopped"
    assert outcomes(planned.folder) == [outcome]
    last = planned.folder.last_claim()
    assert last and last["released"] == outcome
    assert planned.folder.state() == ("done" if finished else "waiting")


def test_an_error_that_a_signal_turned_into_is_no_fault(
    runs: Path, told: list[Any], undisturbed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Raised in the midst of a library, which takes it for a failure of its own."""
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))

    def converted(*_: Any) -> BaseException | None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        except Stopped:
            return ImportError("numpy.core.multiarray failed to import")
        return None

    failing(monkeypatch, converted)
    stop = Stop(folder.stop_reason)
    stop.listen()
    with pytest.raises(Stopped):
        Worker(folder, "cpu", "w", stop=stop, retries=0).work()
    run_folder = folder.plan()[0].folder
    assert outcomes(run_folder) == ["stopped"] and run_folder.state() == "waiting"


def holds_a_run(folder: SweepFolder) -> bool:
    return any(planned.folder.claim() for planned in folder.plan())


def has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def test_told_to_stop_at_any_moment(runs: Path, impatient: None) -> None:
    """What was claimed is let go each time, nothing counts as a fault, all is exactly done."""
    spec = running.spec("often")
    spec["fixed"]["training"]["epochs"] = 60
    alone = running.planned({**spec, "name": "alone"})
    assert running.work(alone, "alone") == 4
    folder = running.planned(spec)
    draw = random.Random(7)
    statuses = Counter[int]()
    for number in range(14):
        pid = forked(folder, "--threads", "1")
        if number % 2:
            # On a busy machine those at any time might all be told before they have begun.
            running.wait_until(lambda pid=pid: holds_a_run(folder) or has_ended(pid), "it works")
        time.sleep(draw.uniform(0.0, 0.4))
        os.kill(pid, draw.choice([signal.SIGTERM, signal.SIGUSR2, signal.SIGINT]))
        status = status_of(pid)
        statuses[status] += 1
        # Before it listens a signal just ends it, and it holds nothing yet.
        assert status in (0, STOPPED, -signal.SIGTERM, -signal.SIGUSR2, 99), statuses
        for planned in folder.plan():
            last = planned.folder.last_claim()
            assert last is None or "released" in last, (status, last)
            assert set(outcomes(planned.folder)) <= {"stopped", "done"}
    # On a busy machine the runs are soon done, and nobody is left to be stopped.
    assert statuses[STOPPED] > 1, statuses
    running.work(folder, "last")
    assert set(folder.states().values()) == {"done"}
    mine, theirs = running.outcome(folder), running.outcome(alone)
    assert mine == theirs


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB, where this process may mount one."""
    with disks.mounted(tmp_path / "disk", "512k") as disk:
        yield disk


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_folder_that_can_not_be_written_is_said_in_a_line(
    runs: Path, small_disk: Path, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its presence is what a worker writes first: with that it ends, and no run is touched."""
    made = running.planned(running.spec("one"))
    shutil.copytree(made.path, small_disk / "one")
    folder = SweepFolder(small_disk / "one")
    (folder.path / "workers").mkdir()
    if how == "full":
        with contextlib.suppress(OSError), (small_disk / "filling").open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert status_of(forked(folder)) == NO_STORE
    said = capfd.readouterr().err
    words = "No space left on device" if how == "full" else "Read-only file system"
    assert said.startswith(f"{words}: {folder.path}") and said.count("\n") == 1
    assert folder.begun() == set()


def test_a_folder_that_is_moved_away_is_not_begun_anew(
    runs: Path, tmp_path: Path, impatient: None, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("one", grid={"augmentation": ["none"]}, seeds=[0]))
    (planned,) = folder.plan()
    claim = claims.acquire(planned.folder.path, "somebody", Watch())
    assert claim
    pid = forked(folder)
    running.wait_until(lambda: list(folder.path.glob("workers/*.json")), "the worker is there")
    folder.path.rename(tmp_path / "elsewhere")
    assert status_of(pid) == NO_STORE
    assert str(folder.path) in capfd.readouterr().err
    assert not folder.path.exists()


def test_without_its_device_no_run_is_begun(runs: Path) -> None:
    """Each would only fail, one after the other, until the whole sweep is given up."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    folder = running.planned(running.spec("one"))
    with pytest.raises((RuntimeError, AssertionError), match=r"CUDA|NVIDIA|cuda"):
        Worker(folder, "cuda:0", "w").work()
    assert folder.begun() == set() and not (folder.path / "workers").exists()


@pytest.mark.parametrize("name", ["../../outside", "a/b", "", ".."])
def test_a_name_that_is_no_files_name(
    runs: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(running.spec("one"))
    assert status_of(forked(folder, "--name", name)) == 2
    assert f"--name: got {name!r}, expected a file's name" in capfd.readouterr().err
    assert {path.name for path in runs.rglob("*.json")} == {"sweep.json"}
