"""A folder of sweeps that is copied or moved works where it is, and leaves the original alone."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking._tracking_service import utils

from mixbench.experiments import tracking
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.tracking import moved_store
from tests.support import running
from tests.support import tracking_fixtures as made
from tests.support.finished_runs import contents
from tests.support.tracking_servers import free_port

METHODS = ({"name": "none", "prob": 1.0}, {"name": "mixup", "prob": 1.0, "alpha": 1.0})


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a finished sweep that was projected with its figures."""
    root = tmp_path / "the original"
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))
    sweep = made.make_sweep("study", METHODS, 1)
    for run in sweep.plan():
        made.finish(run)
    assert tracking.project(sweep, figures=made.figures).created == 2
    # As in another process: MLflow remembers where the artifacts of a run are.
    utils._artifact_repos_cache.clear()
    return root


@pytest.fixture
def read_only(original: Path) -> Iterator[Path]:
    """The same, where not even root can write."""
    commands = (["mount", "--bind", str(original), str(original)],)
    commands += (["mount", "-o", "remount,bind,ro", str(original)],)
    for command in commands:
        if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
            pytest.skip("no right to mount: nothing is read-only for root")
    yield original
    subprocess.run(["umount", "-l", str(original)], check=True)


def artifacts_in(root: Path) -> set[str]:
    return {path.name for path in (root / "mlartifacts").rglob("*") if path.is_file()}


def places_in(root: Path) -> list[str]:
    with sqlite3.connect(root / "mlflow.db") as store:
        runs = store.execute("SELECT artifact_uri FROM runs").fetchall()
        return [place for (place,) in runs]


def test_a_copy_beside_an_original_that_can_not_be_written(read_only: Path, tmp_path: Path) -> None:
    before = contents(read_only)
    copy = tmp_path / "a copy"
    shutil.copytree(read_only, copy)
    sweep = SweepFolder(copy / "study")
    assert tracking.verify(sweep).equal
    measured = sweep.plan()[0].folder.path / "evaluations"
    measured.mkdir()
    (measured / "attack.json").write_text('{"settings": {}, "metrics": {"attack/a": 0.5}}')
    summary = tracking.project(sweep, figures=made.figures)
    assert len(summary.problems) == 1 and "the original/mlartifacts" in summary.problems[0]
    assert "attack.json" in artifacts_in(copy)
    assert all(place.startswith((copy / "mlartifacts").as_uri()) for place in places_in(copy))
    assert tracking.verify(sweep).equal
    again = tracking.project(sweep, figures=made.figures)
    assert again.unchanged == 2 and not again.problems
    assert contents(read_only) == before


def test_the_dashboard_opens_artifacts_after_a_move(original: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "runs"
    moved.parent.mkdir()
    original.rename(moved)
    port = free_port()
    server = running.start(
        *(sys.executable, "-m", "mixbench.experiments.cli", "dashboard", "--port", str(port)),
        MIXBENCH_RUNS=str(moved),
    )
    try:
        assert server.stdout is not None
        assert "no longer in" in server.stdout.readline()
        assert f"http://127.0.0.1:{port}" in server.stdout.readline()
        place = next(uri for uri in places_in(moved) if "study" in uri)
        runs = [path.parent for path in (moved / "mlartifacts" / "study").glob("*/artifacts")]
        assert place.startswith((moved / "mlartifacts").as_uri()) and len(runs) >= 2
        for run in runs:
            for path in run.rglob("*.png"):
                name = path.relative_to(run / "artifacts")
                query = f"path={name}&run_uuid={run.name}"
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{port}/get-artifact?{query}", timeout=300
                ) as answer:
                    assert answer.read() == path.read_bytes()
    finally:
        server.terminate()
        server.communicate(timeout=300)
    sweep = SweepFolder(moved / "study")
    assert tracking.verify(sweep).equal and not original.exists()


def test_artifacts_that_did_not_come_along_are_sent_again(original: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(original, copy, ignore=shutil.ignore_patterns("mlartifacts"))
    before = contents(original)
    sweep = SweepFolder(copy / "study")
    tracking.project(sweep, figures=made.figures)
    assert artifacts_in(copy) == artifacts_in(original)
    assert tracking.verify(sweep).equal and contents(original) == before


def test_only_what_lies_elsewhere_is_changed(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def uri(root: Path) -> str:
        return f"sqlite:///{root / 'mlflow.db'}"

    assert moved_store.settle(uri(original)) is None
    link = tmp_path / "link"
    link.symlink_to(original)
    assert moved_store.settle(uri(link)) is None, "the same folder by another name"
    copy = tmp_path / "copy"
    shutil.copytree(original, copy)
    with sqlite3.connect(copy / "mlflow.db") as store:
        # What a server has put where it was told to, and what never was in our folder.
        for place in (
            "file:///data/mlartifacts/7",
            "s3://bucket/mlartifacts/own",
            "mlflow-artifacts:/9",
        ):
            store.execute(
                "INSERT INTO experiments (name, artifact_location, lifecycle_stage, workspace) "
                "VALUES (?, ?, 'active', 'default')",
                (place.rpartition("/")[2] if "s3" in place else f"of {place}", place),
            )
    store.close()
    line = moved_store.settle(uri(copy))
    assert line is not None and str(copy / "mlartifacts") in line
    with sqlite3.connect(copy / "mlflow.db") as store:
        places = {place for (place,) in store.execute("SELECT artifact_location FROM experiments")}
    store.close()
    here = (copy / "mlartifacts").as_uri()
    assert {place for place in places if not place.startswith(here)} == {
        "file:///data/mlartifacts/7",
        "s3://bucket/mlartifacts/own",
        "mlflow-artifacts:/9",
    } | {place for place in places if place.endswith("/0")} - {f"{here}/0"}
    assert moved_store.settle(uri(copy)) is None
    # A store that can't be written is named.
    shutil.rmtree(original)
    again = tmp_path / "again"
    copy.rename(again)
    holder = sqlite3.connect(again / "mlflow.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    monkeypatch.setattr(moved_store, "WAIT_SECONDS", 0.0)
    with pytest.raises(UserError) as caught:
        moved_store.settle(uri(again))
    holder.close()
    assert str(caught.value).startswith(f"{again / 'mlflow.db'}: ")
    assert "\n" not in str(caught.value)
