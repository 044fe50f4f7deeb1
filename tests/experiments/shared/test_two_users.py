"""Two users in a lab's folder, really: Alice and Bob are in its group, Carol can only read."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.cli import main, slurm_queue
from mixbench.experiments.store import checkpoint, claims, processes, reuse
from mixbench.experiments.store.states import Outcome, RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.training import checkpoints
from mixbench.experiments.worker import __main__ as worker_command
from mixbench.experiments.worker.exit_status import NO_STORE
from tests.support import running
from tests.support.users import (
    ALICE,
    BOB,
    CAROL,
    User,
    hide_processes_of_others,
    private,
    read_only_what_is_allowed,
    shared_folder,
)

SLOW = (
    "mlflow.store.tracking.sqlalchemy_store",
    "mixbench.analysis.report.build",
    "mixbench.experiments.worker.execute",
    "mixbench.experiments.worker.launch_ranks",
)
SMALL = {
    "dataset": {"name": "digits", "train_size": 200},
    "model": {"name": "small_cnn", "width": 4},
    "training": {"epochs": 2, "batch_size": 64},
    "evaluation": {"occlusion": {"images": 50, "fractions": [0.5]}},
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Path]:
    """A shared folder of sweeps."""
    for module in SLOW:
        # Once here, not in each process of a user.
        importlib.import_module(module)
    for folder in shared_folder():
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MIXBENCH_RUNS", str(folder))
            yield folder


def sweep(name: str, seeds: int = 1, **fixed: object) -> SweepFolder:
    """Plan a sweep without mixing, as the user who calls this."""
    parts = {"fixed": {**SMALL, **fixed}, "seeds": list(range(seeds))}
    return running.planned(running.spec(name, **parts, grid={"augmentation": ["none"]}))


def planned_by_alice(name: str, seeds: int = 1, umask: int = 0o002) -> SweepFolder:
    assert ALICE.does(lambda: sweep(name, seeds) and None, umask) == 0
    return SweepFolder.open(name)


def worker(folder: SweepFolder, name: str) -> Callable[[], int]:
    """What a worker process does."""

    def act() -> int:
        arguments = ["worker", str(folder.path), "--name", name, "--exit-when-idle"]
        with pytest.MonkeyPatch.context() as patch, running.one_thread():
            patch.setattr("sys.argv", arguments)
            logging.getLogger().setLevel(logging.INFO)
            return worker_command.main()

    return act


def says(capfd: pytest.CaptureFixture[str], *words: str, by: User = BOB) -> tuple[int, str, str]:
    """The exit status, output and errors of the command of a user."""
    capfd.readouterr()
    status = by.does(lambda: main(words))
    return status, *capfd.readouterr()


@pytest.fixture(scope="module")
def done(lab: Path) -> SweepFolder:
    """A sweep that Alice began and Bob, after her worker was killed, finished."""
    folder = planned_by_alice("both", seeds=2)
    first, _ = folder.plan()

    def work_for_ever() -> int:
        checkpoints.CHECKPOINT_SECONDS, checkpoints.CHECKPOINT_SHARE = 0.0, 1e9
        write = checkpoint.save

        def slow(folder: Path, state: dict[str, Any]) -> None:
            write(folder, state)
            # Until it is killed.
            time.sleep(600)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "save", slow)
            return worker(folder, "alice")()

    pid = ALICE.start(work_for_ever)
    running.wait_until((first.folder.path / "checkpoint.pt").exists, "Alice has a checkpoint")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert BOB.does(worker(folder, "bob")) == 0
    return folder


def test_a_user_takes_over_and_finishes_what_anothers_dead_worker_began(
    done: SweepFolder, lab: Path
) -> None:
    assert set(done.states().values()) == {RunState.DONE}
    rows = [(row["worker"], row["outcome"]) for row in done.plan()[0].folder.attempts()]
    assert rows == [("alice", Outcome.DIED), ("bob", Outcome.DONE)]
    assert "going on from step" in (done.plan()[0].folder.path / "log.txt").read_text()
    owners = {path.stat().st_uid for path in lab.rglob("*")}
    assert owners == {ALICE.number, BOB.number}
    assert private(lab) == []


def test_users_measure_track_report_and_clean_in_turn(
    done: SweepFolder, lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each writes what the other wrote: the database, artifacts, reports, locks."""
    assert says(capfd, "track", "both", by=ALICE)[0] == 0
    status, said, errors = says(
        capfd, "evaluate", "both", "--only", "overfitting", "--workers", "1", "--no-report"
    )
    assert (status, errors) == (0, ""), said
    assert "2 runs in MLflow experiment 'both' (0 new, 2 updated, 0 unchanged)" in said
    assert says(capfd, "clean", "both", "--delete", by=ALICE)[0] == 0
    status, said, _ = says(capfd, "track", "both", "--verify", by=CAROL)
    assert status == 0 and said.startswith("equal")
    assert private(lab) == []


def test_who_can_only_read_sees_all_and_changes_nothing(
    done: SweepFolder, lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = done.plan()[0].run_key
    before = [(str(p), p.stat().st_mtime_ns) for p in [lab, *sorted(lab.rglob("*"))]]
    own = lab.parent / "carol"
    own.mkdir()
    os.chown(own, CAROL.number, CAROL.number)
    for words in (["status", "both"], ["status"], ["plan", "both"], ["logs", key]):
        assert says(capfd, *words, by=CAROL)[0] == 0
    assert says(capfd, "report", "both", "--out", str(own / "r"), by=CAROL)[0] == 0
    assert {p.name for p in (own / "r").iterdir()} >= {"report.html", "report.md", "runs.csv"}
    assert "training.optimiser" in (own / "r" / "runs.csv").read_text()

    for words, path in (
        (["report", "both"], done.path / "report"),
        (["track", "both"], lab / "mlflow.db"),
        (["evaluate", "both", "--only", "smoothness"], done.plan()[0].folder.path),
    ):
        status, _, errors = says(capfd, *words, by=CAROL)
        assert status == 2 and errors.startswith("mixbench: ") and errors.count("\n") == 1
        assert f"Permission denied: {path}" in errors and "belongs to user 5430" in errors
    assert "--out FOLDER" in says(capfd, "report", "both", by=CAROL)[2]
    assert [(str(p), p.stat().st_mtime_ns) for p in [lab, *sorted(lab.rglob("*"))]] == before


def test_cancel_without_rights_announces_nothing(
    lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = planned_by_alice("waiting")
    status, said, errors = says(capfd, "cancel", "waiting", "--yes", by=CAROL)
    assert (status, said) == (2, "") and f"Permission denied: {folder.path}" in errors
    assert folder.stop_reason() is None
    status, said, _ = says(capfd, "cancel", "waiting", "--yes", by=BOB)
    assert status == 0 and folder.stop_reason() == "mixbench cancel"


def test_a_finished_sweep_is_not_cancelled(
    done: SweepFolder, capfd: pytest.CaptureFixture[str]
) -> None:
    status, said, _ = says(capfd, "cancel", "both", "--yes")
    assert (status, said) == (0, "both: 2 of 2 runs done; there is nothing to cancel\n")
    assert done.stop_reason() is None
    assert BOB.does(lambda: done.ask_to_stop("by an earlier version")) == 0
    assert "stopped" not in says(capfd, "status", "both")[1]
    assert BOB.does(done.allow) == 0


def test_runs_of_a_user_with_another_umask_are_left_to_that_user(
    lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The others are done, nothing is counted against the run, and one line says why."""
    folder = planned_by_alice("closed", seeds=2)
    first, second = folder.plan()

    def claim_and_leave() -> None:
        claim = claims.acquire(first.folder.path, "alice", claims.Watch())
        assert claim is not None
        first.folder.add_attempt({"attempt": 1, "worker": "alice", "outcome": Outcome.STOPPED})
        claim.release(Outcome.STOPPED)

    assert ALICE.does(claim_and_leave, umask=0o022) == 0
    attempts = first.folder.attempts()
    capfd.readouterr()
    assert BOB.does(worker(folder, "bob")) == NO_STORE
    said = capfd.readouterr().err
    assert said.startswith(f"Permission denied: {first.folder.path}") and said.count("\n") == 1
    assert f"belongs to user {ALICE.number}" in said and "chmod -R g+rwX" in said
    assert first.folder.attempts() == attempts and second.folder.state() == RunState.DONE
    status, said, _ = says(capfd, "sweep", "closed", "--no-track", "--no-report", "--workers", "1")
    assert status == 1 and f"Permission denied: {first.folder.path}" in said
    assert ALICE.does(worker(folder, "alice")) == 0
    assert first.folder.state() == RunState.DONE


def test_a_refusal_in_mid_run_is_no_fault_of_the_run(
    lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = planned_by_alice("sticky")
    (run,) = folder.plan()

    def make_sticky() -> None:
        # In such a folder only its owner may replace a file.
        run.folder.path.mkdir()
        (run.folder.path / "config.json").write_text("{}")
        run.folder.path.chmod(0o3775)

    assert ALICE.does(make_sticky) == 0
    capfd.readouterr()
    assert BOB.does(worker(folder, "bob")) == NO_STORE
    assert f"{run.folder.path / 'config.json'}" in capfd.readouterr().err
    (row,) = run.folder.attempts()
    assert row["outcome"] == Outcome.STOPPED and "config.json" in row["error"]
    assert run.folder.state() == RunState.WAITING and "released" in (run.folder.last_claim() or {})


def test_a_hidden_process_of_another_user_is_not_dead(lab: Path) -> None:
    """Where /proc shows only one's own, a run would be taken over from a living worker."""
    pid = ALICE.start(signal.pause)
    body = processes.this_process() | {"pid": pid, "process_start": processes.process_start(pid)}

    def looks() -> int:
        return int(os.path.exists(f"/proc/{pid}")) + 2 * processes.is_dead(body)

    try:
        hidden = BOB.does(looks, before=hide_processes_of_others)
        assert (BOB.does(looks), hidden) == (1, 0)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert BOB.does(looks, before=hide_processes_of_others) == 2


def test_jobs_that_another_user_submitted_count_as_queued(
    lab: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM may not show them; their scripts, logs and code must stay."""
    folder = planned_by_alice("queued")

    def submit() -> None:
        (folder.path / "slurm").mkdir()
        (folder.path / "slurm" / "jobs.jsonl").write_text('{"job": "84"}\n')
        (folder.path / "slurm" / "84_submission.sh").write_text("#!/bin/sh\n")

    assert ALICE.does(submit) == 0
    # SLURM answers that none of the user's own tasks is in the queue.
    monkeypatch.setattr(slurm_queue, "_tasks", lambda _: [])
    assert ALICE.does(lambda: slurm_queue.job_ids(folder) != set()) == 0
    assert BOB.does(lambda: slurm_queue.job_ids(folder) != {"84"}) == 0


def test_a_private_sweep_of_another_user_is_in_nobodys_way(lab: Path) -> None:
    folder = planned_by_alice("private", umask=0o077)

    def act() -> int:
        read_only_what_is_allowed()
        with pytest.raises(PermissionError):
            folder.plan()
        found = reuse.find(lab / "new", {"0" * 16}, list)
        assert (found.sources, found.refused) == ({}, {})
        return main(["status"])

    assert BOB.does(act) == 0


def test_a_sweep_that_the_group_can_not_write_to(
    lab: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = lab / "narrow.yaml"
    path.write_text('{"name": "narrow", "fixed": {"dataset": {"name": "digits"}}}')
    words = ("sweep", str(path), "--no-track", "--no-report", "--set", "training.epochs=1")

    def begin() -> int:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RuntimeError):
            patch.setattr("mixbench.experiments.cli.sweep._run_workers", _nothing)
            return main(words)
        return 1

    capfd.readouterr()
    assert ALICE.does(begin, umask=0o022) == 0
    assert f"only you can write to {lab / 'narrow'}" in capfd.readouterr().out
    status, said, errors = says(capfd, *words)
    assert (status, said) == (2, "") and errors.count("\n") == 1
    assert f"ask user {ALICE.number} for `chmod -R g+rwX {lab / 'narrow'}`" in errors


def _nothing(*_: object) -> int:
    return 0
