"""What `mixbench evaluate` measured after a sweep was tracked: the next projection adds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from mixbench.experiments import tracking
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.files import atomic_write
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking.changes import Changes, version
from tests.support import tracking_fixtures as made


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """One run that is done and in MLflow."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    folder = made.make_sweep("study", made.METHODS[:1], 1)
    made.finish(folder.plan()[0])
    tracking.project(folder)
    return folder


def evaluate(run: PlannedRun, name: str, seconds: float = 1.0, **metrics: float | None) -> None:
    named = {f"{name}/{key}": value for key, value in metrics.items()}
    content = {
        "settings": {},
        "metrics": named,
        "curves": {"x": [1]},
        "seconds": seconds,
        "provenance": {"finished": made.STARTED + 900 + seconds},
    }
    path = run.folder.path / evaluations.FOLDER / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, json.dumps(content))


def stored(sweep: SweepFolder) -> tuple[MlflowClient, Run]:
    client = MlflowClient(tracking.project(sweep).uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "study"]
    key = sweep.plan()[0].run_key
    (run,) = client.search_runs([experiment.experiment_id], f"tags.run_key = '{key}'")
    return client, run


def test_it_is_added_to_the_run_that_is_there(sweep: SweepFolder) -> None:
    run = sweep.plan()[0]
    client, before = stored(sweep)
    client.set_tag(before.info.run_id, "mine", "kept")
    evaluate(run, "shift", auroc=0.75, fpr95=None)
    assert not tracking.verify(sweep).equal
    assert tracking.project(sweep).outcomes[run.run_key] == "updated"
    assert tracking.verify(sweep).equal
    _, after = stored(sweep)
    assert after.info.run_id == before.info.run_id and after.data.tags["mine"] == "kept"
    assert after.data.metrics == {**before.data.metrics, "shift/auroc": 0.75}
    files = client.list_artifacts(after.info.run_id, "evaluations")
    assert [file.path for file in files] == ["evaluations/shift.json"]

    # Another one, whose name comes before: what was sent stays.
    evaluate(run, "attack", clean=0.5)
    assert tracking.project(sweep).outcomes[run.run_key] == "updated"
    assert stored(sweep)[1].info.run_id == before.info.run_id
    assert tracking.project(sweep).outcomes[run.run_key] == "unchanged"
    assert tracking.verify(sweep).equal
    for name in ("shift/auroc", "attack/clean"):
        assert len(client.get_metric_history(before.info.run_id, name)) == 1


def test_measured_anew(sweep: SweepFolder) -> None:
    run = sweep.plan()[0]
    evaluate(run, "shift", auroc=0.75)
    first = stored(sweep)[1]
    evaluate(run, "shift", seconds=2.0, auroc=0.75)
    assert stored(sweep)[1].info.run_id == first.info.run_id
    # Points can't be taken back: another value is another run.
    evaluate(run, "shift", auroc=0.5)
    assert tracking.project(sweep).outcomes[run.run_key] == "replaced"
    client, second = stored(sweep)
    assert second.info.run_id != first.info.run_id
    history = client.get_metric_history(second.info.run_id, "shift/auroc")
    assert [point.value for point in history] == [0.5]
    assert tracking.verify(sweep).equal


def test_failures_are_no_metrics(sweep: SweepFolder) -> None:
    run = sweep.plan()[0]
    (run.folder.path / evaluations.FOLDER).mkdir()
    evaluations.fail(run.folder, "attack", "UserError: no")
    assert tracking.project(sweep).outcomes[run.run_key] == "unchanged"
    assert tracking.verify(sweep).equal


def test_following_sees_it(sweep: SweepFolder) -> None:
    run = sweep.plan()[0]
    changes = Changes()
    changes.read(run, version(run.folder.path), running=False)
    evaluate(run, "shift", auroc=0.75)
    assert changes.of([run]) == [run]
    changes.read(run, version(run.folder.path), running=False)
    assert changes.of([run]) == []
    evaluate(run, "attack", clean=0.5)
    assert changes.of([run]) == [run]
