"""MLflow holds what the run folders say: no more, no less, however often and however rudely."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import tracking
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import lock, tracked
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.retry import retry_failed
from mixbench.experiments.store.run_folder import PlannedRun, RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking.parameters import Plan, valid_name
from tests.support import tracking_fixtures as made

PROJECT = Path(__file__).parents[3]
INTERNAL = ("mixbench.sent", "mixbench.projected", "mixbench.artifacts")


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A Python process that runs `script` with `arguments`, in the project's folder."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=PROJECT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# ---------------------------------------------------------------- the store


CREATE = """
import pathlib, sqlite3, sys, time
from mixbench.experiments import tracking
go = pathlib.Path(sys.argv[2])
pathlib.Path(sys.argv[3]).touch()
while not go.exists():
    time.sleep(0.001)
tracking.ensure_store(f"sqlite:///{sys.argv[1]}")
print(sqlite3.connect(sys.argv[1]).execute("SELECT name FROM experiments").fetchall())
"""


@pytest.fixture(scope="module")
def fresh_store(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A store that two processes created at the same moment: its file, and what each said.

    A third one was killed before, in the middle of making it.
    """
    folder = tmp_path_factory.mktemp("store")
    database = folder / "new" / "mlflow.db"
    killed = start(CREATE, database, folder, folder / "ready")
    half_made = database.parent / ".mlflow.db.new"
    while not (half_made.exists() and half_made.stat().st_size > 0):
        assert killed.poll() is None
        time.sleep(0.001)
    killed.kill()
    killed.communicate()
    assert sorted(path.name for path in database.parent.glob("mlflow*")) == ["mlflow.db.lock"]
    ready = [folder / f"ready{number}" for number in range(2)]
    processes = [start(CREATE, database, folder / "go", path) for path in ready]
    while not all(path.exists() for path in ready):
        assert all(process.poll() is None for process in processes)
        time.sleep(0.001)
    (folder / "go").touch()
    said = [(*process.communicate(timeout=300), process.returncode) for process in processes]
    return database, said


@pytest.fixture
def root(
    tmp_path: Path, fresh_store: tuple[Path, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder for sweeps, with an empty store in it."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "runs").mkdir()
    shutil.copy(fresh_store[0], tmp_path / "runs" / "mlflow.db")
    return tmp_path / "runs"


def test_processes_that_start_at_once_make_one_store(
    fresh_store: tuple[Path, list[Any]],
) -> None:
    database, said = fresh_store
    assert said == [("[('Default',)]\n", "", 0)] * 2
    assert sorted(path.name for path in database.parent.iterdir()) == ["mlflow.db"]


def test_default_environment_and_argument(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.resolve(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://cluster:5000")
    assert tracking.resolve(tmp_path) == "http://cluster:5000"
    monkeypatch.chdir(tmp_path)
    assert tracking.resolve(tmp_path, "sqlite:///there.db") == f"sqlite:///{tmp_path}/there.db"


@pytest.mark.parametrize(
    "uri", ["mlruns", "file:///tmp/mlruns", "sqlite://", "sqlite:///:memory:", "sqlite:///a%20.db"]
)
def test_a_uri_that_is_no_store(uri: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"tracking URI: got .*, expected"):
        tracking.resolve(tmp_path, uri)


def test_a_file_that_is_no_store_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("my notes, which are longer than the header of a database")
    before = time.monotonic()
    with pytest.raises(UserError, match="not an MLflow store"):
        tracking.ensure_store(f"sqlite:///{path}")
    assert time.monotonic() - before < 30
    assert path.read_text().startswith("my notes")


HALF_WRITTEN = """
import os, signal, sqlite3, sys
store = sqlite3.connect(sys.argv[1], isolation_level=None)
store.execute("PRAGMA cache_size = 1")
store.execute("BEGIN")
for number in range(2000):
    store.execute("INSERT INTO experiment_tags VALUES (?, ?, 0)", (f"tag{number}", "x" * 500))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_store_that_a_killed_process_left_half_written(root: Path) -> None:
    path = root / "mlflow.db"
    before = path.read_bytes()
    start(HALF_WRITTEN, path).wait()
    assert path.with_name("mlflow.db-journal").stat().st_size > 0
    assert path.read_bytes() != before
    tracking.ensure_store(f"sqlite:///{path}")
    assert path.read_bytes() == before


def test_importing_imports_neither_mlflow_nor_torch() -> None:
    script = (
        "import sys, mixbench.experiments.tracking; print({'mlflow', 'torch'} & set(sys.modules))"
    )
    assert start(script).communicate(timeout=300)[0] == "set()\n"


# ---------------------------------------------------------------- reading back


def read_back(uri: str, name: str, through_client: bool = False) -> dict[str, dict[str, Any]]:
    """All that MLflow has of the experiment's runs, by run key ("" is the parent).

    Points and files come straight from the database and the folders, which is faster, unless
    `through_client`.
    """
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    found = {}
    runs = "tags.`mixbench.kind` != 'cell'"
    for run in client.search_runs([experiment.experiment_id], runs, max_results=1000):
        tags = dict(run.data.tags)
        assert run.inputs is not None
        inputs = {
            (item.tags[0].value, item.dataset.name, item.dataset.digest, item.dataset.profile)
            for item in run.inputs.dataset_inputs
        }
        assert len(inputs) == len(run.inputs.dataset_inputs)
        key = tags.get("run_key", "")
        assert key not in found, "two runs for one key"
        found[key] = {
            "id": run.info.run_id,
            "name": run.info.run_name,
            "status": run.info.status,
            "times": (run.info.start_time, run.info.end_time),
            "params": dict(run.data.params),
            "tags": tags,
            "metrics": dict(run.data.metrics),
            "history": _asked_points(client, run) if through_client else _stored_points(uri, run),
            "inputs": inputs,
            "files": _asked_files(client, run) if through_client else _stored_files(run),
        }
    return found


Points = dict[str, list[tuple[int, int, float]]]


def _asked_points(client: Any, run: Any) -> Points:
    return {
        key: sorted(
            (point.step, point.timestamp, point.value)
            for point in client.get_metric_history(run.info.run_id, key)
        )
        for key in run.data.metrics
    }


def _stored_points(uri: str, run: Any) -> Points:
    points: Points = {}
    query = "SELECT key, step, timestamp, value FROM metrics WHERE run_uuid = ? ORDER BY 1, 2, 3"
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        for key, *point in database.execute(query, (run.info.run_id,)):
            points.setdefault(key, []).append((point[0], point[1], point[2]))
    return points


def _asked_files(client: Any, run: Any, path: str = "") -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for entry in client.list_artifacts(run.info.run_id, path):
        if entry.is_dir:
            files |= _asked_files(client, run, entry.path)
        else:
            local = client.download_artifacts(run.info.run_id, entry.path)
            files[entry.path] = Path(local).read_bytes()
    return files


def _stored_files(run: Any) -> dict[str, bytes]:
    folder = Path(run.info.artifact_uri.removeprefix("file://"))
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def without_ids(runs: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What must be equal in two stores that hold the same sweep."""
    plain = {}
    for key, run in runs.items():
        tags = {name: value for name, value in run["tags"].items() if name not in INTERNAL}
        # Its link names the sweep's own run.
        note = tags["mlflow.note.content"].replace(runs[""]["id"], "")
        tags |= {"mlflow.note.content": note, "mixbench.note": ""}
        if key:
            assert tags.pop("mlflow.parentRunId") == runs[""]["id"]
        plain[key] = {**run, "id": None, "tags": tags}
    return plain


def said_by_folder(folder: RunFolder) -> Points:
    """metric -> (step, milliseconds, value): the rows, then what result.json says beyond them."""
    points: Points = {}
    step = 0
    for line in (folder.path / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        when, step = round(1000 * row.pop("time")), row.pop("step")
        for key, value in row.items():
            if value is not None:
                points.setdefault(key, []).append((step, when, value))
    if (folder.path / "result.json").exists():
        result = json.loads((folder.path / "result.json").read_text())
        when = round(1000 * result["provenance"]["finished"])
        finals = result["metrics"] | {f"timing/{k}": v for k, v in result["timing"].items()}
        for key, value in finals.items():
            if value is not None and points.get(key, [(0, 0, None)])[-1][2] != value:
                points.setdefault(key, []).append((step, when, value))
    return points


@pytest.fixture
def sweep(root: Path) -> Iterator[SweepFolder]:
    """15 runs planned: 3 done, one each failed, running and interrupted, the rest not begun."""
    sweep = made.make_sweep("study", made.METHODS, seeds=3)
    plan = sweep.plan()
    for run in (plan[0], plan[3], plan[9]):
        made.finish(run)
    made.fail(plan[1])
    claim = made.begin(plan[2], epochs=2)
    made.interrupt(plan[4], epochs=2)
    yield sweep
    with contextlib.suppress(FileNotFoundError):
        claim.release("done")


# ---------------------------------------------------------------- what is projected


def test_every_metric_of_every_run_is_there(sweep: SweepFolder) -> None:
    summary = tracking.project(sweep, figures=made.figures)
    assert str(summary) == ("6 runs in MLflow experiment 'study' (6 new, 0 updated, 0 unchanged)")
    runs = read_back(summary.uri, "study", through_client=True)
    assert runs == read_back(summary.uri, "study")
    begun = [run for run in sweep.plan() if run.folder.path.exists()]
    assert {run.run_key for run in begun} == set(runs) - {""}
    for run in begun:
        assert runs[run.run_key]["history"] == said_by_folder(run.folder)
    result = begun[0].folder.result()
    assert result is not None
    for key, value in result["metrics"].items():
        assert runs[begun[0].run_key]["metrics"].get(key) == value
    # Undefined in the folder: not a zero in MLflow.
    assert "occlusion/patches/area" not in runs[begun[0].run_key]["metrics"]


def test_names_states_times_and_nesting(sweep: SweepFolder) -> None:
    runs = read_back(tracking.project(sweep).uri, "study")
    shown = {run["name"]: (run["status"], run["tags"].get("state")) for run in runs.values()}
    assert shown == {
        "study": ("RUNNING", None),
        "none seed 0": ("FINISHED", "done"),
        "none seed 1": ("FAILED", "failed"),
        "none seed 2": ("RUNNING", "running"),
        "mixup alpha=0.2 seed 0": ("FINISHED", "done"),
        "mixup alpha=0.2 seed 1": ("KILLED", "interrupted"),
        "cutmix seed 0": ("FINISHED", "done"),
    }
    parent = runs.pop("")
    assert {run["tags"]["mlflow.parentRunId"] for run in runs.values()} == {parent["id"]}
    assert "mlflow.parentRunId" not in parent["tags"]
    counts = {key: value for key, value in parent["tags"].items() if key.startswith("runs")}
    assert counts == {
        "runs": "15",
        "runs.done": "3",
        "runs.failed": "1",
        "runs.running": "1",
        "runs.waiting": "10",
    }
    # Three epochs of 1.1237 s and an evaluation of 2.5 s after 1 790 000 000.25.
    assert runs[sweep.plan()[0].run_key]["times"] == (1_790_000_000_250, 1_790_000_006_121)
    # The interrupted run ended when its worker said so.
    assert runs[sweep.plan()[4].run_key]["times"] == (1_790_000_000_250, 1_790_000_002_650)


def test_parameters_tags_and_inputs(sweep: SweepFolder) -> None:
    runs = read_back(tracking.project(sweep).uri, "study")
    plan = sweep.plan()
    parent, plain, mixed = runs[""], runs[plan[0].run_key], runs[plan[3].run_key]
    keys = [set(run["params"]) for key, run in runs.items() if key]
    assert all(names == keys[0] for names in keys)
    assert mixed["params"]["augmentation.alpha"] == "0.2"
    assert plain["params"]["augmentation.alpha"] == "-"
    assert plain["params"]["training.nesterov"] == "true"
    assert plain["params"]["dataset.train_fraction"] == "null"
    assert plain["params"]["evaluation.occlusion.shapes"] == '["centre", "patches"]'
    assert parent["params"]["training.epochs"] == "3"
    assert not {"seed", "augmentation.name", "augmentation.alpha"} & set(parent["params"])
    expected = {
        "run_key": plan[3].run_key,
        "cell_key": plan[3].cell_key,
        "seed": "0",
        "device": "cpu: AMD EPYC",
        "host": "node1",
        "commit": "0123abc",
        "mixbench.version": "0.1.0",
    }
    assert expected.items() <= mixed["tags"].items()
    classes = '"classes": ["T-shirt/top", "Trouser"]'
    assert mixed["inputs"] == {
        ("train", "fashion_mnist", "9f9f9f9f-train-1800", f'{{"num_rows": 1800, {classes}}}'),
        ("test", "fashion_mnist", "9f9f9f9f-test-10000", f'{{"num_rows": 10000, {classes}}}'),
    }


def test_artifacts_next_to_the_store(
    sweep: SweepFolder, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    runs = read_back(tracking.project(sweep, figures=made.figures).uri, "study")
    assert list(elsewhere.iterdir()) == []
    done, running = sweep.plan()[0], sweep.plan()[2]
    figures = {f"figures/{name}": data for name, data in made.figures(done.folder).items()}
    names = ("config.json", "mixed.png", "result.json")
    own = {name: (done.folder.path / name).read_bytes() for name in names}
    assert runs[done.run_key]["files"] == own | figures
    assert set(runs[running.run_key]["files"]) == {"config.json", "mixed.png"}
    assert set(runs[""]["files"]) == {"sweep.json", "plan.jsonl"}
    stored = root / "mlartifacts" / "study" / runs[done.run_key]["id"] / "artifacts"
    assert (stored / "figures" / "reliability.png").read_bytes() == figures[
        "figures/reliability.png"
    ]


def test_a_failed_run_says_why(sweep: SweepFolder) -> None:
    tags = read_back(tracking.project(sweep).uri, "study")[sweep.plan()[1].run_key]["tags"]
    assert tags["error"] == "ValueError: the loss is not finite"
    assert "Traceback (most recent call last)" in tags["mlflow.note.content"]


# ---------------------------------------------------------------- again and again


def test_twice_is_once(sweep: SweepFolder) -> None:
    first = tracking.project(sweep, figures=made.figures)
    before = read_back(first.uri, "study")
    again = tracking.project(sweep, figures=made.figures)
    assert (again.created, again.updated, again.unchanged, again.replaced) == (0, 0, 6, 0)
    assert read_back(first.uri, "study") == before
    # Without the figures, those that are there stay.
    assert tracking.project(sweep).unchanged == 6
    assert read_back(first.uri, "study") == before


def test_what_a_user_writes_in_mlflow_stays(sweep: SweepFolder) -> None:
    from mlflow import MlflowClient

    uri = tracking.project(sweep).uri
    key = sweep.plan()[0].run_key
    run_id = read_back(uri, "study")[key]["id"]
    MlflowClient(uri).set_tag(run_id, "mlflow.note.content", "the one for the paper")
    made.finish(sweep.plan()[5])
    tracking.project(sweep)
    tags = read_back(uri, "study")[key]["tags"]
    assert tags["mlflow.note.content"] == "the one for the paper"


def test_runs_that_go_on_are_brought_up_to_date(
    sweep: SweepFolder, tmp_path: Path, fresh_store: tuple[Path, list[Any]]
) -> None:
    uri = tracking.project(sweep, figures=made.figures).uri
    before = read_back(uri, "study")
    plan = sweep.plan()
    retry_failed(sweep)
    held = made.begin(plan[1], epochs=3)
    _done(plan[2])
    _done(plan[4])
    summary = tracking.project(sweep, figures=made.figures)
    assert (summary.created, summary.updated, summary.unchanged) == (0, 3, 3)
    after = read_back(uri, "study")
    for run in (plan[1], plan[2], plan[4]):
        assert after[run.run_key]["id"] == before[run.run_key]["id"]
        assert after[run.run_key]["history"] == said_by_folder(run.folder)
    retried = after[plan[1].run_key]
    assert retried["status"] == "RUNNING"
    assert "error" not in retried["tags"]
    assert retried["tags"]["mlflow.note.content"].startswith("**none seed 1**: running.")
    assert after[plan[2].run_key]["status"] == "FINISHED"
    assert set(after[plan[2].run_key]["files"]) == set(before[plan[0].run_key]["files"])
    # In the end, equal to what a single projection makes of the folders as they then are.
    held.release("interrupted")
    _done(plan[1])
    tracking.project(sweep, figures=made.figures)
    shutil.copy(fresh_store[0], tmp_path / "mlflow.db")
    once = tracking.project(sweep, f"sqlite:///{tmp_path}/mlflow.db", made.figures)
    assert without_ids(read_back(uri, "study")) == without_ids(read_back(once.uri, "study"))


def _done(run: PlannedRun) -> None:
    """The run goes on to its end: its rows so far stay as they are."""
    shutil.rmtree(run.folder.path / "claims")
    made.finish(run)


def test_a_run_that_began_afresh_is_made_again(sweep: SweepFolder) -> None:
    uri = tracking.project(sweep).uri
    before = read_back(uri, "study")
    run = sweep.plan()[4]
    shutil.rmtree(run.folder.path)
    made.finish(run, started=made.STARTED + 1000)
    summary = tracking.project(sweep)
    assert (summary.replaced, summary.updated, summary.unchanged) == (1, 0, 5)
    after = read_back(uri, "study")
    # The old points are gone: MLflow cannot take single ones back.
    assert after[run.run_key]["history"] == said_by_folder(run.folder)
    assert after[run.run_key]["id"] != before[run.run_key]["id"]


def test_a_result_that_changed_is_made_again(sweep: SweepFolder) -> None:
    uri = tracking.project(sweep).uri
    run = sweep.plan()[0]
    result = run.folder.result()
    assert result is not None
    # MLflow shows the larger of two values of one moment, so the old one must go.
    result["metrics"]["test/ece"] /= 2
    atomic_write(run.folder.path / "result.json", dump(result))
    assert tracking.project(sweep).replaced == 1
    stored = read_back(uri, "study")[run.run_key]
    assert stored["metrics"]["test/ece"] == 0.017
    assert stored["history"] == said_by_folder(run.folder)


def test_a_sweep_made_anew_under_its_name_leaves_the_old_runs(sweep: SweepFolder) -> None:
    uri = tracking.project(sweep).uri
    shutil.rmtree(sweep.path)
    anew = made.make_sweep("study", made.METHODS[:1], seeds=1)
    made.finish(anew.plan()[0], started=made.STARTED + 1000)
    assert tracking.project(anew).created == 1
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    assert len(client.search_runs([experiment.experiment_id])) == 7 + 2


def test_runs_that_are_no_longer_asked_for_are_left_out_and_come_back(root: Path) -> None:
    sweep = made.make_sweep("study", made.METHODS[:2], seeds=2)
    for run in sweep.plan():
        made.finish(run)
    uri = tracking.project(sweep).uri
    dropped = sweep.plan()[2:]
    with tracking.Projector(sweep) as follower:
        follower.update()
        made.make_sweep("study", made.METHODS[:1], seeds=3)
        assert [run.run_key for run in dropped] == sweep.dropped()
        said = str(tracking.verify(sweep))
        assert said.count("but no longer asked for") == 2
        follower.update()
    assert set(read_back(uri, "study")) == {"", *(run.run_key for run in sweep.plan()[:2])}
    assert tracking.verify(sweep).equal, "one that projects all the time sees it"
    made.make_sweep("study", made.METHODS[:2], seeds=2)
    assert tracking.project(sweep).created == 2
    assert tracking.verify(sweep).equal and len(read_back(uri, "study")) == 5


def test_two_runs_for_one_key_become_one(sweep: SweepFolder) -> None:
    # A server that answers with an error may have created the run all the same.
    from mlflow import MlflowClient

    summary = tracking.project(sweep)
    before = read_back(summary.uri, "study")
    twin = before[sweep.plan()[0].run_key]
    MlflowClient(summary.uri).create_run(
        summary.experiment_id, start_time=twin["times"][0] + 1, tags=twin["tags"]
    )
    assert tracking.project(sweep).unchanged == 6
    assert read_back(summary.uri, "study") == before


def test_killed_at_any_write_then_projected_again(
    root: Path, tmp_path: Path, fresh_store: tuple[Path, list[Any]]
) -> None:
    sweep = made.make_sweep("study", made.METHODS[:2], seeds=2)
    plan = sweep.plan()[:3]
    made.fail(plan[0])
    made.finish(plan[1])
    made.interrupt(plan[2])
    script = """
import pathlib, sys
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import tracking_fixtures as made
made.project_with_kills(
    SweepFolder.open("study"), pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
)
"""
    process = start(script, fresh_store[0], tmp_path / "stores")
    said = process.communicate(timeout=300)
    assert (process.returncode, *said) == (0, "", "")
    stores = sorted((tmp_path / "stores").iterdir(), key=lambda path: int(path.name))
    assert len(stores) > 6
    first, *others = [without_ids(read_back(f"sqlite:///{s}/mlflow.db", "study")) for s in stores]
    for run in plan:
        assert first[run.run_key]["history"] == said_by_folder(run.folder)
    for other in others:
        assert other == first


# ---------------------------------------------------------------- odd input


def test_long_runs_with_many_parameters_fit_the_limits(root: Path) -> None:
    method = {"name": "cutmix"} | {f"option_{number}": number for number in range(130)}
    sweep = made.make_sweep("long", (method,), seeds=1, epochs=400)
    made.finish(sweep.plan()[0], epochs=400)
    run = read_back(tracking.project(sweep).uri, "long")[sweep.plan()[0].run_key]
    assert run["params"]["augmentation.option_129"] == "129"
    assert run["history"] == said_by_folder(sweep.plan()[0].folder)
    assert len(run["history"]["train/loss"]) == 400


def test_odd_values(root: Path) -> None:
    method = {"name": "mine", "table": ["x" * 9000], "text": "a b", "nothing": {}}
    sweep = made.make_sweep("odd", (method,), seeds=1)
    run = sweep.plan()[0]
    made.finish(run)
    result = run.folder.result()
    assert result is not None
    result["metrics"] |= {"top-1@5 [%]": 0.5}
    atomic_write(run.folder.path / "result.json", dump(result))
    with (run.folder.path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "step": 60, "time": 1790000004.7, "train/loss": NaN}\n{"epo')
    uri = tracking.project(sweep).uri
    stored = read_back(uri, "odd")[run.run_key]
    assert stored["metrics"]["top-1_5 ___"] == 0.5
    assert stored["params"]["augmentation.table"].startswith('["xxx')
    assert stored["params"]["augmentation.text"] == "a b"
    assert str(stored["metrics"]["train/loss"]) == "nan"
    assert tracking.project(sweep).unchanged == 1


def test_names_tell_runs_apart() -> None:
    def named(*configs: dict[str, Any]) -> list[str]:
        runs = [
            PlannedRun(str(number), "", config, RunFolder(Path(str(number))))
            for number, config in enumerate(configs)
        ]
        plan = Plan(runs)
        return [plan.name(run.run_key) for run in runs]

    def one(method: dict[str, Any], seed: int = 0, **sections: Any) -> dict[str, Any]:
        return {"model": {"name": "cnn"}, "augmentation": method, **sections, "seed": seed}

    none, cutmix = {"name": "none"}, {"name": "cutmix", "alpha": 1.0, "prob": 0.5}
    # Methods differ in their parameters anyway; that is not what tells their runs apart.
    assert named(one(none), one(cutmix), one(cutmix, 1)) == [
        "none seed 0",
        "cutmix seed 0",
        "cutmix seed 1",
    ]
    # A section's name needs no key; the same last part in two sections needs the whole of it.
    assert named(
        one(cutmix, model={"name": "cnn", "alpha": 3}),
        one({**cutmix, "alpha": 0.2}, model={"name": "resnet20", "alpha": 4}),
    ) == [
        "cutmix cnn model.alpha=3 augmentation.alpha=1.0 seed 0",
        "cutmix resnet20 model.alpha=4 augmentation.alpha=0.2 seed 0",
    ]
    # Of a method that is made of methods, their names.
    mixes = [[{"name": "mixup", "alpha": 0.8}, {"name": "cutmix"}], [{"name": "fmix"}]]
    assert named(*(one({"name": "choice", "methods": methods}) for methods in mixes)) == [
        "choice methods=mixup+cutmix seed 0",
        "choice methods=fmix seed 0",
    ]
    # Where only what comes with the images without labels differs, that is the name.
    streams = [
        None,
        {"unlabelled": {"algorithm": "fixmatch", "ratio": 6, "augmentation": none}},
        {"unlabelled": {"algorithm": "fixmatch", "ratio": 6, "augmentation": cutmix}},
    ]
    assert named(*(one(none, streams=each) for each in streams)) == [
        "labels alone seed 0",
        "fixmatch seed 0",
        "fixmatch cutmix seed 0",
    ]


def test_metric_names_are_valid() -> None:
    assert valid_name("occlusion/centre/0.25") == "occlusion/centre/0.25"
    assert valid_name("/top@5[x]é") == "top_5_x__"


def test_a_figure_that_fails_costs_only_itself(sweep: SweepFolder) -> None:
    bad = sweep.plan()[3].run_key

    def figures(folder: RunFolder) -> dict[str, bytes]:
        if folder.run_key == bad:
            raise KeyError("curves")
        return made.figures(folder)

    summary = tracking.project(sweep, figures=figures)
    assert summary.problems == ["mixup alpha=0.2 seed 0: no figures, KeyError: 'curves'"]
    runs = read_back(summary.uri, "study")
    assert set(runs[bad]["files"]) == {"config.json", "mixed.png", "result.json"}
    assert runs[bad]["status"] == "FINISHED"
    # Tried again, and only there.
    again = tracking.project(sweep, figures=made.figures)
    assert (again.updated, again.unchanged, again.problems) == (1, 5, [])
    assert "figures/reliability.png" in read_back(summary.uri, "study")[bad]["files"]


def test_an_experiment_deleted_in_mlflow(sweep: SweepFolder) -> None:
    from mlflow import MlflowClient

    summary = tracking.project(sweep)
    client = MlflowClient(summary.uri)
    client.delete_experiment(summary.experiment_id)
    with pytest.raises(UserError, match=r"experiment 'study' was deleted .* restore -x 1`"):
        tracking.project(sweep)
    client.restore_experiment(summary.experiment_id)
    assert tracking.project(sweep).unchanged == 6


# ---------------------------------------------------------------- one at a time


def test_only_one_projector_at_a_time(sweep: SweepFolder) -> None:
    with tracking.Projector(sweep) as first:
        first.update()
        script = """
import sys
from mixbench.experiments import tracking
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
try:
    tracking.project(SweepFolder.open("study"))
except UserError as error:
    print(error)
"""
        said, _ = start(script).communicate(timeout=300)
        assert (
            f"another process is projecting the sweep 'study' into MLflow: process {os.getpid()}"
            in said
        )
        assert str(sweep.path / "projection.lock") in said
    assert tracking.project(sweep).unchanged == 6
    assert not list(sweep.path.glob("*.lock*"))


def test_the_lock_of_a_dead_process_is_taken_by_one_of_many(tmp_path: Path) -> None:
    place = tmp_path / "it.lock"
    script = """
import os, pathlib, signal, sys
from mixbench.experiments.store import lock
with lock.exclusive(pathlib.Path(sys.argv[1]), "dying"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    counting = threading.Lock()
    inside, most, entered = 0, 0, 0

    def enter() -> None:
        nonlocal inside, most, entered
        with lock.exclusive(place, "counting", wait=300):
            with counting:
                inside += 1
                most = max(most, inside)
                entered += 1
            time.sleep(0.01)
            with counting:
                inside -= 1

    for _ in range(3):
        start(script, place).wait()
        assert place.exists()
        threads = [threading.Thread(target=enter) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(tmp_path.iterdir()) == []
    assert (most, entered) == (1, 24)


def test_the_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    place = tmp_path / "it.lock"
    body = {"host": "node7 boot ns", "pid": 1, "process_start": "1", "time": time.time()}
    place.write_text(json.dumps(body))
    refused = pytest.raises(UserError, match=r"process 1 on node7 since .*remove .*it\.lock")
    with refused, lock.exclusive(place, "projecting"):
        pass
    assert place.exists()


# ---------------------------------------------------------------- a real server


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, fresh_store: tuple[Path, list[Any]]
) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """The dashboard of a store of its own, in a process: its address, root and process."""
    root = tmp_path_factory.mktemp("served")
    shutil.copy(fresh_store[0], root / "mlflow.db")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = """
import pathlib, sys
from mixbench.experiments import tracking
tracking.dashboard(pathlib.Path(sys.argv[1]), int(sys.argv[2]))
print("over")
"""
    process = start(script, root, port)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith(f"MLflow dashboard: http://127.0.0.1:{port}/#/experiments")
    assert "(Ctrl-C ends it)" in line
    yield f"http://127.0.0.1:{port}", root, process
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=300)


def test_through_a_server_as_into_the_file(
    served: tuple[str, Path, Any], sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served_root, _ = served
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    summary = tracking.project(sweep, figures=made.figures)
    assert (summary.uri, summary.created) == (address, 6)
    assert tracking.project(sweep, figures=made.figures).unchanged == 6
    noted = tracked.read(sweep.path)
    assert noted is not None and len(noted.runs) == 6
    for run_key, run_id in noted.runs.items():
        page = f"{address}/#/experiments/{summary.experiment_id}/runs/{run_id}"
        assert noted.run_page(run_key) == page
    through_server = read_back(address, "study", through_client=True)
    local = tracking.project(
        sweep,
        f"sqlite:///{sweep.path.parent / 'mlflow.db'}",
        figures=made.figures,
    )
    assert without_ids(read_back(local.uri, "study")) == without_ids(through_server)
    # The server keeps the artifacts, next to its own store.
    assert (served_root / "mlartifacts").is_dir()


def test_the_page_of_a_local_store_shows_its_artifacts(
    served: tuple[str, Path, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served_root, _ = served
    sweep = made.make_sweep("local", made.METHODS[:1], seeds=1)
    run = sweep.plan()[0]
    made.finish(run)
    uri = tracking.project(sweep, f"sqlite:///{served_root / 'mlflow.db'}").uri
    run_id = read_back(uri, "local")[run.run_key]["id"]
    place = f"{address}/get-artifact?path=mixed.png&run_uuid={run_id}"
    with urllib.request.urlopen(place) as answer:
        assert answer.read() == (run.folder.path / "mixed.png").read_bytes()


def test_a_port_in_use(served: tuple[str, Path, Any], tmp_path: Path) -> None:
    port = int(served[0].rpartition(":")[2])
    with pytest.raises(UserError, match=rf"port {port} .* is in use .* --port \d+"):
        tracking.dashboard(tmp_path, port)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none(port: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--port: got {port}, expected"):
        tracking.dashboard(tmp_path, port)


def test_a_server_is_its_own_dashboard(tmp_path: Path) -> None:
    said: list[str] = []
    tracking.dashboard(tmp_path, uri="http://cluster:5000/", say=said.append)
    assert said[0].startswith("MLflow dashboard: http://cluster:5000/#/")


def test_ctrl_c_ends_the_dashboard_and_then_nothing_answers(
    served: tuple[str, Path, subprocess.Popen[str]], sweep: SweepFolder
) -> None:
    address, _, process = served
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=300) == ("over\n", "")
    assert process.returncode == 0
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(address.rpartition(":")[2]))) != 0
    script = """
import sys
from mixbench.experiments import tracking
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
try:
    tracking.project(SweepFolder.open("study"), sys.argv[1])
except UserError as error:
    print(error)
"""
    process = start(script, address, MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    said, _ = process.communicate(timeout=300)
    assert said.startswith(f"MLflow at {address}: ")
    assert len(said.splitlines()) == 1
