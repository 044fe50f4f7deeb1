"""Finished runs that a real SLURM's tasks measure, by the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mixbench.experiments import cli
from mixbench.experiments.cli import slurm_queue
from mixbench.experiments.store import claims, evaluations
from mixbench.experiments.store.claims import Watch
from mixbench.experiments.store.sweep_folder import SweepFolder, root
from mixbench.slurm import profile, queue, submit
from tests.slurm.test_on_slurm import logs
from tests.support import running
from tests.support.slurm_cluster import Cluster

QUICK = ("--only", "calibration,overfitting")
SLURM = ("--cluster", "slurm", "--profile", "./one.yaml", "--no-track", "--no-report")


@pytest.fixture
def sweep(slurm: Cluster, trained: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """Two finished runs, and a profile of one process a task."""
    monkeypatch.setattr(slurm_queue, "ASK_SECONDS", 1.0)
    Path("one.yaml").write_text("cpus: 1\ntime: 5\n")
    shutil.copytree(trained, root() / "small")
    return SweepFolder.open("small")


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["evaluate", "small", *arguments, *SLURM]) == 0
    return capsys.readouterr().out


def test_a_sweep_is_measured_by_tasks(
    sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    # Tasks that train wait in the queue, and are not those that measure.
    held = profile.parse({"time": 5, "flags": {"hold": True}}, Path("held.yaml"))
    submit.submit(sweep, held, code=sweep.path, missing=2)
    out = said(capsys, *QUICK, "--wait", "--workers", "1")
    training, array = queue.recorded(sweep)
    assert f"submitted job {array.job}: 1 task of 1 worker, profile one" in out
    assert "already" in out and "in the queue already" not in out
    assert "2 of 2 runs measured" in out
    for planned in sweep.plan():
        found = evaluations.read(planned.folder)
        assert set(found) == {"calibration", "overfitting"}
        claim = claims.last(planned.folder.path / evaluations.FOLDER)
        assert claim and claim["job"]["array"] == array.job and claim["released"] == "measured"
    running.wait_until(
        lambda: {task.array for task in queue.query_tasks(sweep)} == {training.job}, "gone", 30
    )
    assert "nothing is left to do" in logs(sweep)
    # Now there is nothing to submit.
    assert "0 runs; 2 are measured already" in said(capsys, *QUICK, "--wait")
    assert len(queue.recorded(sweep)) == 2


def test_what_is_cancelled_goes_on_with_the_same_command(
    sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (planned.folder for planned in sweep.plan())
    # Somebody else has the second in hand, so the task is not done before it is cancelled.
    (second.path / evaluations.FOLDER).mkdir()
    other = claims.acquire(second.path / evaluations.FOLDER, "other", Watch())
    assert other
    command = ("--only", "calibration", "--workers", "1")
    out = said(capsys, *command)
    assert "follow it with: mixbench status small, or this command with --wait" in out
    assert "when it is done: mixbench track small; mixbench report small" in out
    running.wait_until(lambda: evaluations.read(first), "a first measurement")
    before = evaluations.read(first)
    there = "1 task of this sweep in the queue already (0 waiting); no more needed"
    assert there in said(capsys, *command)
    assert "submitted job" in said(capsys, "--only", "overfitting", "--workers", "1")
    assert cli.main(["status", "small", "--json"]) == 0
    now = json.loads(capsys.readouterr().out)
    assert now["slurm"] == {} and sum(now["slurm_measuring"].values()) == 2

    assert cli.main(["cancel", "small", "--yes"]) == 0
    out = capsys.readouterr().out
    assert "SLURM: 2 tasks cancelled" in out and "to go on: mixbench evaluate small" in out
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    assert "not put back into the queue: it was cancelled" in logs(sweep)
    assert not evaluations.read(second)
    other.release("stopped")
    out = said(capsys, *command, "--wait")
    assert "of 1 run; 1 are measured already" in out and "1 of 1 runs measured" in out
    assert evaluations.read(first)["calibration"] == before["calibration"]
    assert set(evaluations.read(second)) == {"calibration"}
