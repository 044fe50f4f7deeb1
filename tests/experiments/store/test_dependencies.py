"""A run that starts from another's weights: it waits for it, and fails with it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.config import schema
from mixbench.experiments.manage import clean, observe, render
from mixbench.experiments.store import checkpoint, claims, dependencies
from mixbench.experiments.store.attempts import record
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import claim_loop, execute
from mixbench.experiments.worker.worker import Worker
from tests.support import running

OTHERS = {"name": "digits", "train_size": 300, "split_seed": 1}


@pytest.fixture(autouse=True)
def _root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    monkeypatch.setattr(claim_loop, "WAIT_SECONDS", 0.05)


def spec(name: str, **parts: Any) -> dict[str, Any]:
    """From scratch, and from a pretraining on other images of the same kind."""
    written = running.spec(name, grid={"transfer.weights": [None, "pretrain:others"]})
    training = {"epochs": 6, "batch_size": 32}
    written["pretrain"] = {"others": {"dataset": OTHERS, "training": training}}
    return written | parts


def sorted_out(folder: SweepFolder) -> tuple[list[PlannedRun], list[PlannedRun], list[PlannedRun]]:
    """The pretrainings, the runs that start from them, all others."""
    plan = folder.plan()
    waiting = [run for run in plan if dependencies.cell_of(run.config)]
    first = [run for run in plan if run.pretraining]
    return first, waiting, [run for run in plan if run not in (*first, *waiting)]


def planned(run_key: str, cell: str, seed: int = 0, start: str | None = None) -> PlannedRun:
    made: dict[str, Any] = {"seed": seed, "dataset": {"name": "digits"}}
    if start is not None:
        made["transfer"] = {"weights": start}
    return PlannedRun(run_key, cell, made, RunFolder(Path("/nowhere") / run_key))


def test_who_needs_whom_and_in_which_order() -> None:
    plan = [
        planned("last 0", "c", 0, "cell:b"),
        planned("last 1", "c", 1, "cell:b"),
        planned("other 0", "o", 0, "hub"),
        planned("other 1", "o", 1),
        planned("middle 0", "b", 0, "cell:a"),
        planned("middle 1", "b", 1, "cell:a"),
        planned("first 0", "a", 0),
        planned("first 1", "a", 1),
        # Of a cell that the sweep does not have, there is nothing to wait for.
        planned("astray 0", "x", 0, "cell:y"),
    ]
    found = dependencies.needed(plan)
    assert {key: run.run_key for key, run in found.items()} == {
        f"{one} {seed}": f"{other} {seed}"
        for one, other in (("last", "middle"), ("middle", "first"))
        for seed in (0, 1)
    }
    assert [run.run_key for run in dependencies.chain("last 1", found)] == ["middle 1", "first 1"]
    assert dependencies.dependants({"first 0"}, found) == {"middle 0", "last 0"}
    assert dependencies.dependants({"last 0", "other 0"}, found) == set()
    assert [run.run_key for run in claim_loop.by_seed(plan, found)] == [
        "other 0",
        "first 0",
        "astray 0",
        "middle 0",
        "last 0",
        "other 1",
        "first 1",
        "middle 1",
        "last 1",
    ]
    assert claim_loop.by_seed(plan) == [*plan[::2][:4], plan[8], *plan[1::2]]


def test_a_run_begins_when_its_pretraining_is_done_and_with_its_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = running.planned(spec("real", seeds=[0, 1]))
    began: dict[str, dict[str, torch.Tensor]] = {}
    real = execute.load_weights

    def load(network: Any, run: schema.RunConfig, runs: Path) -> None:
        real(network, run, runs)
        began[run.run_key] = {name: t.clone() for name, t in network.state_dict().items()}

    monkeypatch.setattr(execute, "load_weights", load)
    assert running.work(folder, "one") == 6
    first, waiting, others = sorted_out(folder)
    assert (len(first), len(waiting), len(others)) == (2, 2, 2)
    for before, after in zip(first, waiting, strict=True):
        result, (attempt,) = before.folder.result(), after.folder.attempts()
        assert result is not None
        assert attempt["started"] >= result["provenance"]["finished"]
        (state,) = checkpoint.load(before.folder.path)
        for name, value in began[after.run_key].items():
            # All but the head, which is a new one.
            assert torch.equal(value, state["network"][name]) != ("classifier" in name), name


def test_two_workers_one_killed_in_the_pretraining(tmp_path: Path) -> None:
    peaceful = running.planned(spec("peaceful", seeds=[0]))
    running.work(peaceful, "alone")
    folder = running.planned(spec("killed", seeds=[0]))
    (first,), (waiting,), _ = sorted_out(folder)
    victim = running.start_worker(folder, "victim")
    running.wait_until(lambda: len(first.folder.metrics()) >= 2, "the pretraining is under way")
    os.kill(victim.pid, signal.SIGSTOP)
    command = (
        sys.executable,
        "-m",
        "mixbench.experiments.worker",
        str(folder.path),
        "--threads",
        "1",
    )
    other = running.start(*command)
    # The other one does what it can, and does not begin what needs the pretraining.
    running.wait_until(lambda: "done" in folder.states().values(), "the run from scratch")
    assert folder.states()[first.run_key] == "running"
    assert not waiting.folder.path.exists()
    os.kill(victim.pid, signal.SIGKILL)
    victim.communicate(timeout=300)
    _, said = other.communicate(timeout=300)
    assert other.returncode == 0, said
    assert set(folder.states().values()) == {"done"}
    assert [row["outcome"] for row in first.folder.attempts()] == ["died", "done"]
    (attempt,) = waiting.folder.attempts()
    assert attempt["started"] >= first.folder.attempts()[-1]["ended"]
    assert running.outcome(folder) == running.outcome(peaceful)


@pytest.fixture
def failed() -> SweepFolder:
    """A sweep in which the pretraining of seed 0 was given up, and all else is done."""
    written = spec(
        "failed",
        pretrain={
            "others": {
                "dataset": OTHERS,
                "training": {"epochs": 1, "learning_rate": 1e30, "amp": False},
            }
        },
    )
    written["include"] = [{"training.learning_rate": 1e30}]
    return running.planned(written)


def test_runs_fail_with_their_pretraining_and_come_back_with_it(failed: SweepFolder) -> None:
    running.work(failed, "one")
    first, waiting, others = sorted_out(failed)
    states = failed.states()
    assert {states[run.run_key] for run in (*first, *waiting)} == {"failed"}
    for before, after in zip(first, waiting, strict=True):
        (attempt,) = after.folder.attempts()
        assert attempt["outcome"] == "failed"
        assert attempt["error"] == (
            f"NeedFailed: the run that it starts from failed, {before.run_key[:8]} (digits seed "
            f"{before.config['seed']}): Diverged: the training loss became nan in epoch 1"
        )
        assert not (after.folder.path / "checkpoint.pt").exists()
    # One that failed for a reason of its own is none of theirs.
    alone = [run for run in others if states[run.run_key] == "failed"]
    assert len(alone) == 2

    def failures() -> set[str]:
        return {key for key, state in failed.states().items() if state == "failed"}

    # The pretraining is forgiven, and what failed with it.
    every = failures()
    assert retry_failed(failed, {first[0].run_key}) == 2
    assert every - failures() == {first[0].run_key, waiting[0].run_key}
    running.work(failed, "two")
    assert failures() == every
    # What failed with it is forgiven, and the pretraining, without which it would fail again.
    assert retry_failed(failed, {waiting[1].run_key}) == 2
    assert every - failures() == {first[1].run_key, waiting[1].run_key}
    assert retry_failed(failed, {alone[0].run_key}) == 1
    assert retry_failed(failed) == len(every) - 3
    assert failures() == set()


def test_what_is_forgiven_while_a_worker_is_about_to_fail_it_is_done_after_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = running.planned(spec("race", seeds=[0]))
    (first,), (waiting,), _ = sorted_out(folder)
    claim = claims.acquire(first.folder.path, "other", claims.Watch())
    assert claim is not None
    record(first.folder, {**claim.body, "number": 1}, "diverged", "it did", final=True)
    claim.release("diverged")
    acquire = claims.acquire
    forgiven = []

    def slowly(path: Path, *rest: Any) -> Any:
        if path == waiting.folder.path and not forgiven:
            forgiven.append(retry_failed(folder))
        return acquire(path, *rest)

    monkeypatch.setattr(claims, "acquire", slowly)
    running.work(folder, "one")
    assert forgiven == [1] and set(folder.states().values()) == {"done"}
    assert [row["outcome"] for row in waiting.folder.attempts()] == ["done"]


class _Waited(Exception):
    pass


@pytest.mark.parametrize(("name", "stays"), [("needed", True), ("alone", False)])
def test_who_may_leave_stays_for_runs_that_are_in_nobodys_hands(
    name: str, stays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = spec(name, seeds=[0])
    written["grid"] = {"transfer.weights": ["pretrain:others"]}
    if not stays:
        del written["pretrain"]
        written["grid"] = {"training.epochs": [5]}
    folder = running.planned(written)
    first = folder.plan()[0].folder.path
    watch = claims.Watch()
    held = claims.acquire(first, "other", watch)
    assert held is not None

    def sleep(_seconds: float) -> None:
        held.renew({"step": 1}, force=True)
        if len(slept) > 3:
            raise _Waited
        slept.append(1)

    slept: list[int] = []
    monkeypatch.setattr(claim_loop.time, "sleep", sleep)
    mine = Worker(folder, "cpu", "mine", exit_when_idle=True)
    if stays:
        with pytest.raises(_Waited):
            list(mine.runs)
    else:
        assert list(mine.runs) == []


def test_status_says_what_waits_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    folder = running.planned(spec("shown"))
    first, waiting, _ = sorted_out(folder)
    now = observe.Observer(folder).snapshot()
    found = {run.run_key: run.waits_for for run in now.runs}
    assert {key: found[key] for key in found if found[key]} == {
        after.run_key: before.run_key for before, after in zip(first, waiting, strict=True)
    }
    assert [run.pretraining for run in now.runs] == [run.pretraining for run in folder.plan()]
    shown = render.printed(render.panel(now, {}))
    assert "2 runs wait for the pretraining that they start from: " in shown
    assert f"{first[0].run_key[:6]} (none, seed 0, waiting): 1" in shown
    assert cli.main(["status", "shown", "--json"]) == 0
    rows = {row["run_key"]: row for row in json.loads(capsys.readouterr().out)["runs"]}
    assert rows[waiting[0].run_key]["waits_for"] == first[0].run_key
    assert rows[first[0].run_key]["pretraining"] is True
    assert "waits_for" not in rows[first[0].run_key]
    first[0].folder.path.mkdir()
    (first[0].folder.path / "result.json").write_text("{}")
    now = observe.Observer(folder).snapshot()
    assert now.waited_for == {first[1].run_key: 1}


def test_clean_keeps_the_weights_that_are_waited_for(tmp_path: Path) -> None:
    folder = running.planned(spec("kept", seeds=[0, 1]))
    first, waiting, others = sorted_out(folder)

    def finish(run: PlannedRun) -> None:
        run.folder.path.mkdir(exist_ok=True)
        (run.folder.path / "checkpoint.pt").write_bytes(b"weights")
        (run.folder.path / "result.json").write_text("{}")

    for run in (*first, *others, waiting[1]):
        finish(run)

    def can_go() -> set[str]:
        items = clean.unneeded(folder, weights=True)
        return {item.path.parent.name for item in items if item.path.name == "checkpoint.pt"}

    every = {run.run_key for run in folder.plan() if run != waiting[0]}
    assert can_go() == every - {first[0].run_key}
    # A run of another sweep waits for one of these.
    start = f"run:kept/{others[0].run_key}"
    elsewhere = running.planned(running.spec("elsewhere", grid={"transfer.weights": [start]}))
    assert can_go() == every - {first[0].run_key, others[0].run_key}
    for run in elsewhere.plan():
        finish(run)
    finish(waiting[0])
    assert can_go() == {run.run_key for run in folder.plan()}


def test_what_a_finished_run_started_from_may_be_gone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = running.planned(running.spec("source", seeds=[0])).plan()[0]
    source.folder.path.mkdir()
    (source.folder.path / "result.json").write_text("{}")
    start = f"run:source/{source.run_key}"
    after = running.planned(running.spec("after", seeds=[0], grid={"transfer.weights": [start]}))
    command = ["sweep", "after", "--no-track", "--no-report", "--workers", "1"]
    assert cli.main(command) == 2
    assert "has no checkpoint any more" in capsys.readouterr().err
    for run in after.plan():
        run.folder.path.mkdir()
        (run.folder.path / "result.json").write_text("{}")
    assert cli.main(command) == 0


def test_what_is_needed_is_forgiven_first_wherever_it_is_in_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = spec("turned", seeds=[0])
    training = {"epochs": 6, "batch_size": 32}
    del written["grid"]
    written["include"] = [
        {"transfer.weights": "pretrain:others"},
        {"dataset": OTHERS, "training": training},
    ]
    folder = running.planned(written)
    last, first = folder.plan()
    assert dependencies.cell_of(last.config) == first.cell_key and not first.pretraining
    for run in (last, first):
        run.folder.path.mkdir()
        run.folder.fail("it did", "", 1)
    order = []
    add = RunFolder.add_attempt
    monkeypatch.setattr(
        RunFolder, "add_attempt", lambda self, row: (order.append(self.run_key), add(self, row))[1]
    )
    assert retry_failed(folder) == 2
    assert order == [first.run_key, last.run_key]
    assert [
        run.run_key for run in claim_loop.by_seed(folder.plan(), dependencies.needed(folder.plan()))
    ] == [
        first.run_key,
        last.run_key,
    ]
