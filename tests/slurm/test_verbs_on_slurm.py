"""`mixbench plan`, `status`, `clean` and `cancel` of a sweep that a real SLURM works on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mixbench.experiments import cli
from mixbench.slurm import queue
from tests.slurm.test_on_slurm import send, sweep_of, wait_for_training
from tests.support import running
from tests.support.slurm_cluster import Cluster


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 0
    return capsys.readouterr().out


def test_the_plan_is_what_is_submitted(slurm: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = sweep_of("chunked", runs=9)
    Path("cautious.yaml").write_text("time: 5\n")
    out = said(capsys, "plan", "chunked", "--cluster", "slurm", "--profile", "./cautious.yaml")
    assert "9 runs to do on 9 SLURM tasks of 1 worker" in out
    assert "3 arrays of tasks: 2 x 4, 1 (MaxArraySize 4, from scontrol show config)" in out
    send(sweep, flags={"hold": True})
    assert sorted(array.tasks for array in queue.recorded(sweep)) == [1, 4, 4]


def test_a_sweep_is_watched_and_cancelled(
    slurm: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, other = sweep_of("ours", epochs=3000), sweep_of("other", epochs=300)
    send(sweep)
    send(other, flags={"hold": True})
    wait_for_training(sweep)
    (task,) = queue.query_tasks(sweep)
    now = json.loads(said(capsys, "status", "ours", "--json"))
    assert now["slurm"] == {"running": 1} and now["counts"]["running"] == 1
    (run,) = now["runs"]
    assert run["job"] in (task.name, task.array) and run["stage"] == "training"
    text = said(capsys, "status", "ours")
    assert "SLURM tasks: 1 running" in text and f"job {run['job']}" in text
    assert "nothing to clean" in said(capsys, "clean", "ours")

    out = said(capsys, "cancel", "ours", "--yes")
    assert "1 running on 1 worker and 1 SLURM task" in out
    assert "SLURM: 1 task cancelled" in out and out.index("cancelled") < out.index("stopped\n")
    running.wait_until(lambda: not queue.query_tasks(sweep), "gone")
    (planned,) = sweep.plan()
    assert [row["outcome"] for row in planned.folder.attempts()] == ["stopped"]
    assert (planned.folder.path / "checkpoint.pt").is_file()
    now = json.loads(said(capsys, "status", "ours", "--json"))
    assert now["slurm"] == {} and now["stopped"] == "mixbench cancel"
    assert len(queue.query_tasks(other)) == 1
