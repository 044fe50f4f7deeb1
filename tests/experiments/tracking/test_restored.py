"""A report from an MLflow store is the report of the run folders."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from mixbench.analysis.report.build import _csv
from mixbench.analysis.report.data import collect
from mixbench.analysis.report.verdicts import of_comparison
from mixbench.experiments import cli, tracking
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import local_store
from mixbench.experiments.tracking.restored import restore
from mixbench.experiments.tracking.stored_runs import KIND, SWEEP_ID
from tests.support.written_sweeps import METHODS, grid, keys, write_sweep


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepFolder, str]:
    """A sweep with a failed run and one that nobody began, in a store; another sweep beside it."""
    root = tmp_path_factory.mktemp("tracked")
    runs = grid(METHODS[:3], range(3), staging={"name": "first_50", "phases": [{"to": 0.5}]})
    failed, waiting = runs[4], runs[8]
    sweep = write_sweep(
        root,
        "small",
        runs,
        failed={keys(failed)[0]: "ValueError: no"},
        waiting=lambda run: run == waiting,
    )
    other = write_sweep(root, "other", grid(METHODS[:1], range(1)))
    uri = f"sqlite:///{root / 'mlflow.db'}"
    for each in (sweep, other):
        tracking.project(each, uri)
    # A run above those of a cell, as a dashboard has it, is none of the sweep's.
    client = local_store.connect(uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    (parent,) = client.search_runs([experiment], f"tags.`{KIND}` = 'sweep'")
    tags = {KIND: "cell", SWEEP_ID: parent.data.tags[SWEEP_ID], "run_key": "0123abcd"}
    client.create_run(experiment, tags=tags)
    return sweep, uri


def test_numbers_are_those_of_the_folders(tracked: tuple[SweepFolder, str], tmp_path: Path) -> None:
    sweep, uri = tracked
    restored = restore(uri, tmp_path, "small").sweep
    data, again = collect(sweep, None), collect(restored, None)
    assert of_comparison(again.comparison) == of_comparison(data.comparison)
    assert _csv(again.tables) == _csv(data.tables)
    for one, other in zip(sweep.plan(), restored.plan(), strict=True):
        assert one.run_key == other.run_key and one.folder.state() == other.folder.state()
        assert [row["epoch"] for row in other.folder.metrics()] == [
            row["epoch"] for row in one.folder.metrics()
        ]


def test_a_store_from_before_plans_were_sent(
    tracked: tuple[SweepFolder, str], tmp_path: Path
) -> None:
    sweep, uri = tracked
    (plan,) = local_store.artifact_root(sweep.path.parent, uri).glob("small/*/artifacts/plan.jsonl")
    kept = plan.rename(plan.with_name("kept"))
    restored = restore(f"file:{sweep.path.parent}", tmp_path, "small")
    kept.rename(plan)
    assert restored.notes == ("1 planned run not in MLflow: not begun",)
    comparisons = [
        of_comparison(collect(each, None).comparison) for each in (sweep, restored.sweep)
    ]
    assert comparisons[0] == comparisons[1]


def test_other_stores_are_one_line(
    tracked: tuple[SweepFolder, str],
    empty_store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, uri = tracked
    shutil.copyfile(empty_store, tmp_path / "empty.db")
    sqlite3.connect(tmp_path / "not.db").execute("CREATE TABLE a (b)").connection.close()
    out = ("--out", str(tmp_path / "out"))
    for source, names, message in (
        (f"mlflow:sqlite:///{tmp_path / 'empty.db'}", [], "holds no sweep of mixbench"),
        (f"mlflow:sqlite:///{tmp_path / 'none.db'}", [], "there is no store"),
        (f"mlflow:{tmp_path / 'not.db'}", [], "not an MLflow store"),
        (f"mlflow:{uri}", [], "holds 2 sweeps (other, small); name one"),
        (f"mlflow:{uri}", ["smal"], "did you mean 'small'?"),
        ("mlflow:ftp://host", [], "expected sqlite:///"),
        ("wandb:x", [], "expected csv:FILE or mlflow:URI"),
    ):
        assert cli.main(["report", *names, "--from", source, *out]) == 2
        said = capsys.readouterr()
        assert message in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert not (tmp_path / "out").exists() and not (tmp_path / "none.db").exists()
