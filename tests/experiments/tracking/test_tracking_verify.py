"""`mixbench track --verify` finds every way in which MLflow and the folders can differ."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import tracking
from mixbench.experiments.cli.cell_statistics import cell_statistics
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running
from tests.support import tracking_fixtures as made


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a sweep of runs in every state but running, and its store."""
    root = tmp_path_factory.mktemp("projected") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(root))
        sweep = made.make_sweep("study", made.METHODS[:3], seeds=2)
        plan = sweep.plan()
        for run in plan[:3]:
            made.finish(run)
        made.fail(plan[3])
        made.interrupt(plan[4])
        tracking.project(sweep, figures=made.figures, statistics=cell_statistics())
    return root


@pytest.fixture
def sweep(projected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A copy of it, and of its store."""
    root = tmp_path / "runs"
    shutil.copytree(projected, root)
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    return SweepFolder.open("study")


def tampered(sweep: SweepFolder, statement: str, *values: Any) -> None:
    """The store after an SQL statement that changes just one row."""
    with contextlib.closing(sqlite3.connect(sweep.path.parent / "mlflow.db")) as database:
        database.execute("PRAGMA foreign_keys = OFF")
        assert database.execute(statement, values).rowcount == 1
        database.commit()


def run_id(sweep: SweepFolder, place: int) -> str:
    """The store's run for a run of the plan."""
    with contextlib.closing(sqlite3.connect(sweep.path.parent / "mlflow.db")) as database:
        key = sweep.plan()[place].run_key
        query = "SELECT run_uuid FROM tags WHERE key = 'run_key' AND value = ?"
        ((found,),) = database.execute(query, (key,)).fetchall()
        return str(found)


def test_what_was_projected_is_equal(sweep: SweepFolder) -> None:
    verdict = tracking.verify(sweep)
    assert verdict.equal
    # 3 done runs have 7 or 8 metrics of epochs, and finals; counted from the files.
    rows = points = metrics = 0
    for run in sweep.plan():
        keys = set()
        for row in run.folder.metrics():
            rows += 1
            values = {k for k, v in row.items() if v is not None and k not in ("step", "time")}
            keys |= values
            points += len(values)
        result = run.folder.result()
        if result is not None:
            last = run.folder.metrics()[-1]
            finals = {k: v for k, v in result["metrics"].items() if v is not None}
            finals |= {f"timing/{k}": v for k, v in result["timing"].items()}
            keys |= finals.keys()
            points += sum(last.get(k) != v for k, v in finals.items())
        metrics += len(keys)
    assert (verdict.runs, verdict.metrics, verdict.points) == (5, metrics, points)
    assert rows == 3 * 3 + 1 + 2
    done = running.mixbench_here("track", "study", "--verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"equal: MLflow at sqlite:///{sweep.path.parent}/mlflow.db and ")


METRIC = "key = 'train/loss' AND step = 15 AND run_uuid = ?"
TAMPERING = {
    "a value": (
        f"UPDATE metrics SET value = value + 1e-12 WHERE {METRIC}",
        "metric train/loss, st",
    ),
    "a time": (f"UPDATE metrics SET timestamp = timestamp + 1 WHERE {METRIC}", "is not in MLflow"),
    "a step": (f"UPDATE metrics SET step = 16 WHERE {METRIC}", "is only in MLflow"),
    "a point less": (f"DELETE FROM metrics WHERE {METRIC}", "step 15, .* is not in MLflow"),
    "a point more": (
        "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) "
        "VALUES ('train/loss', 1.0, 5, ?, 7, 0)",
        "metric train/loss, step 7, 1.0 at 5, is only in MLflow",
    ),
    "a metric more": (
        "INSERT INTO latest_metrics (key, value, timestamp, run_uuid, step, is_nan) "
        "VALUES ('mine', 1.0, 5, ?, 7, 0)",
        "metric mine is in MLflow's tables and not in the folder",
    ),
    "a final": (
        "UPDATE metrics SET value = value / 2 WHERE key = 'test/ece' AND run_uuid = ?",
        "metric test/ece, step 45, 0.034 at .* is 0.017 in MLflow",
    ),
    "the table": (
        "UPDATE latest_metrics SET value = 0.9 WHERE key = 'test/accuracy' AND run_uuid = ?",
        "metric test/accuracy is 0.9 in MLflow's tables",
    ),
    "a metric less": (
        "DELETE FROM latest_metrics WHERE key = 'test/accuracy' AND run_uuid = ?",
        "metric test/accuracy",
    ),
    "a parameter": (
        "UPDATE params SET value = '0.2' WHERE key = 'training.learning_rate' AND run_uuid = ?",
        "parameter training.learning_rate is '0.2' in MLflow, '0.1' in the folder",
    ),
    "a parameter less": (
        "DELETE FROM params WHERE key = 'training.learning_rate' AND run_uuid = ?",
        "parameter training.learning_rate is not in MLflow",
    ),
    "the seed": (
        "UPDATE tags SET value = '7' WHERE key = 'seed' AND run_uuid = ?",
        "tag seed is '7' in MLflow, '0' in the folder",
    ),
    "the parent": (
        "UPDATE tags SET value = 'x' WHERE key = 'mlflow.parentRunId' AND run_uuid = ?",
        "its parent in MLflow is x, not its cell's run",
    ),
    "the status": (
        "UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?",
        "status is RUNNING in MLflow, FINISHED in the folder",
    ),
    "the end": (
        "UPDATE runs SET end_time = end_time + 1 WHERE run_uuid = ?",
        "end is 1790000006122 in MLflow, 1790000006121 in the folder",
    ),
    "the name": ("UPDATE runs SET name = 'best' WHERE run_uuid = ?", "name is best in MLflow"),
    "a run less": (
        "UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?",
        "none seed 0: not in MLflow",
    ),
    "whose it is": (
        "DELETE FROM tags WHERE key = 'mixbench.sweep_id' AND run_uuid = ?",
        "a run of no sweep in MLflow",
    ),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_one_row_of_the_store_is_another(what: str, sweep: SweepFolder) -> None:
    statement, expected = TAMPERING[what]
    tampered(sweep, statement, run_id(sweep, 0))
    verdict = tracking.verify(sweep)
    assert not verdict.equal
    assert 1 <= verdict.count <= 4
    assert verdict.different <= {"none seed 0", "best", "study"}
    assert re.search(expected, str(verdict)), str(verdict)


def _extra(sweep: SweepFolder, **tags: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.path.parent}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    client.create_run(experiment.experiment_id, run_name="stray", tags=tags)


def _tags(sweep: SweepFolder, place: int) -> dict[str, str]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.path.parent}/mlflow.db")
    return dict(client.get_run(run_id(sweep, place)).data.tags)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (lambda _: {}, "stray: a run of no sweep in MLflow"),
        (lambda sweep: _tags(sweep, 0), "a second run in MLflow"),
        (
            lambda sweep: {**_tags(sweep, 0), "run_key": sweep.plan()[5].run_key},
            "in MLflow, .*, but in no folder",
        ),
    ],
    ids=["of nobody", "a twin", "not begun"],
)
def test_a_run_too_many(
    tags: Callable[[SweepFolder], dict[str, str]], expected: str, sweep: SweepFolder
) -> None:
    _extra(sweep, **{k: v for k, v in tags(sweep).items() if k != "mlflow.runName"})
    verdict = tracking.verify(sweep)
    assert not verdict.equal
    assert re.search(expected, str(verdict)), str(verdict)


def test_a_folder_that_says_more(sweep: SweepFolder) -> None:
    plan = sweep.plan()
    result = plan[0].folder.result()
    assert result is not None
    result["metrics"]["test/ece"] = 0.5
    atomic_write(plan[0].folder.path / "result.json", dump(result))
    with (plan[4].folder.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(made.row(plan[4], 3)) + "\n")
    made.finish(plan[5])
    done = running.mixbench_here("track", "study", "--verify")
    assert (done.returncode, done.stderr) == (1, "")
    assert "none seed 0: metric test/ece, step 45, 0.5 at" in done.stdout
    assert "mixup alpha=1.0 seed 0: metric train/loss, step 45," in done.stdout
    assert "mixup alpha=1.0 seed 1: not in MLflow" in done.stdout
    # Three runs, and the cells of two of them.
    assert "differences in 6 runs" in done.stdout
    tracking.project(sweep, figures=made.figures)
    assert tracking.verify(sweep).equal


def test_many_differences_are_a_bounded_list(sweep: SweepFolder) -> None:
    with contextlib.closing(sqlite3.connect(sweep.path.parent / "mlflow.db")) as database:
        changed = database.execute(
            "UPDATE metrics SET value = value + 1 WHERE NOT is_nan AND run_uuid NOT IN "
            "(SELECT run_uuid FROM tags WHERE key = 'mixbench.kind' AND value = 'cell')"
        ).rowcount
        database.commit()
    verdict = tracking.verify(sweep)
    lines = str(verdict).splitlines()
    assert verdict.count >= changed > 100
    assert len(lines) == 23
    assert lines[20] == f"and {verdict.count - 20} more"


def test_what_was_never_projected(sweep: SweepFolder, tmp_path: Path) -> None:
    empty = tmp_path / "other.db"
    tracking.ensure_store(f"sqlite:///{empty}")
    verdict = tracking.verify(sweep, f"sqlite:///{empty}")
    assert not verdict.equal
    assert "study: MLflow has no experiment of this name" in str(verdict)
    with pytest.raises(UserError, match=r"none\.db: no such MLflow store"):
        tracking.verify(sweep, f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_a_sweep_made_anew_under_its_name(sweep: SweepFolder) -> None:
    shutil.rmtree(sweep.path)
    anew = made.make_sweep("study", made.METHODS[:1], seeds=1)
    made.finish(anew.plan()[0], started=made.STARTED + 1000)
    tracking.project(anew)
    verdict = tracking.verify(anew)
    assert verdict.equal
    assert "6 runs of an earlier sweep of this name not compared" in str(verdict)


def test_odd_numbers_are_equal_to_themselves(sweep: SweepFolder) -> None:
    run = sweep.plan()[5]
    made.begin(run, epochs=1).release("stopped")
    odd = {"step": 60, "time": 1790000004.7, "a": float("nan"), "b": float("inf"), "c": -0.0}
    with (run.folder.path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(odd | {"d": -float("inf"), "e": 5e-324}) + "\n")
    tracking.project(sweep)
    assert tracking.verify(sweep).equal


def test_what_a_user_writes_in_mlflow_is_no_difference(sweep: SweepFolder) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{sweep.path.parent}/mlflow.db")
    client.set_tag(run_id(sweep, 3), "mlflow.note.content", "the one for the paper")
    client.set_tag(run_id(sweep, 0), "candidate", "yes")
    assert tracking.verify(sweep).equal


def test_verify_and_follow_at_once(sweep: SweepFolder) -> None:
    done = running.mixbench_here("track", "study", "--verify", "--follow")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "mixbench: --follow and --verify: give one of them\n"
