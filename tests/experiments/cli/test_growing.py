"""`mixbench sweep` after a change of the YAML: two at once, while workers run, and alone."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running

QUIET = ("--device", "cpu", "--workers", "1", "--no-track")


def spec(methods: list[str], seeds: list[int]) -> dict[str, Any]:
    """A sweep of runs of a few steps on Fashion-MNIST."""
    fixed = running.spec("x")["fixed"]
    fixed["dataset"] = {"name": "fashion_mnist", "train_size": 200}
    fixed["training"] = {"epochs": 1, "batch_size": 64}
    return {"name": "grown", "fixed": fixed, "grid": {"augmentation": methods}, "seeds": seeds}


def written(path: Path, description: dict[str, Any]) -> str:
    """Write a sweep's YAML, and return its path."""
    path.write_text(json.dumps(description))
    return str(path)


def test_two_commands_at_once_and_then_one_alone(
    tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    del capsys
    more_seeds = written(tmp_path / "seeds.yaml", spec(["none"], [0, 1]))
    more_methods = written(tmp_path / "methods.yaml", spec(["none", "cutmix"], [0]))
    both = [
        running.start(*running.COMMAND, "sweep", path, *QUIET, "--no-report")
        for path in (more_seeds, more_methods)
    ]
    said = [(*command.communicate(timeout=300), command.returncode) for command in both]
    assert [(error, status) for _, error, status in said] == [("", 0)] * 2, said
    folder = SweepFolder(runs / "grown")
    names = {(run.config["augmentation"]["name"], run.config["seed"]) for run in folder.plan()}
    assert names == {("none", 0), ("none", 1), ("cutmix", 0)}
    for run in folder.plan():
        assert [row["outcome"] for row in run.folder.attempts()] == ["done"], "trained once"
    assert folder.dropped() == []
    # By its name it goes on with all of it.
    plan = running.mixbench_here("plan", "grown").stdout
    assert "\n3 done\n" in plan and "nothing is missing" in plan

    # Alone, and later: its wish alone, and nothing is trained again.
    plan = running.mixbench_here("plan", more_seeds).stdout
    assert "\n2 done, 1 no longer asked for\n" in plan
    done = running.mixbench_here("sweep", more_seeds, *QUIET)
    assert done.returncode == 0, done
    assert "grown: 2 runs, 2 done, 1 no longer asked for, in" in done.stdout
    assert "mixbench clean grown --dropped" in done.stdout
    with (folder.path / "report" / "runs.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2
    page = (folder.path / "report" / "report.md").read_text()
    assert "1 run that the sweep no longer asks for" in page
    status = json.loads(running.mixbench_here("status", "grown", "--json").stdout)
    assert status["counts"]["planned"] == 2 and len(status["dropped"]) == 1
    assert "1 run no longer asked for" in running.mixbench_here("status", "grown").stdout
