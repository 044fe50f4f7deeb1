"""`load_results` and the kept tables: the same numbers as in the run folders, never stale."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from mixbench import load_results
from mixbench.analysis.report.build import _csv
from mixbench.analysis.tables import cache, load
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.files import atomic_write, dump
from mixbench.experiments.store.run_folder import RunFolder
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, grid, keys, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    runs = grid(METHODS[:3], range(3))
    folder = write_sweep(
        tmp_path / "runs",
        "small",
        runs,
        failed={keys(runs[0])[0]: "ValueError: no"},
        waiting=lambda run: run == runs[1],
    )
    measured = {"metrics": {"attack/fgsm": 0.25}, "settings": {}, "provenance": {}}
    path = folder.plan()[2].folder.path / evaluations.FOLDER
    path.mkdir()
    (path / "attack.json").write_text(json.dumps(measured))
    return folder


def test_frames_hold_what_the_folders_hold(sweep: SweepFolder, tmp_path: Path) -> None:
    results = load_results(sweep.path)
    runs, plan = results.runs, sweep.plan()
    assert list(runs["run_key"]) == [run.run_key for run in plan]
    assert list(runs["state"][:3]) == ["failed", "waiting", "done"]
    for run, value in zip(plan, runs["test/accuracy"], strict=True):
        result = run.folder.result()
        known = result["metrics"]["test/accuracy"] if result else float("nan")
        assert value == pytest.approx(known, abs=0, nan_ok=True)
    assert runs["augmentation.alpha"].isna().sum() == 3
    assert runs["training.epochs"].dtype == "Int64" and runs["training.flip"].dtype == "boolean"
    epochs = results.epochs.set_index("run_key")
    assert len(epochs) == 7 and set(epochs["epoch"]) == {30} and "train/loss" in epochs
    (measurement,) = results.measurements.to_dict("records")
    assert measurement["run_key"] == plan[2].run_key
    assert (measurement["metric"], measurement["value"]) == ("attack/fgsm", 0.25)
    runs.to_parquet(tmp_path / "runs.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "runs.parquet"), runs)
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "runs.csv").write_text(_csv(load.load(sweep)))
    both = load_results(sweep.path, tmp_path / "published")
    assert both.sweeps == ("small", "published") and len(both.runs) == 18
    here, there = (both.runs[both.runs["sweep"] == name] for name in both.sweeps)
    # Of a published table all but the optimiser's default is as it was.
    same = [name for name in runs.columns if name not in ("sweep", "training.optimiser")]
    pd.testing.assert_frame_equal(
        here[same].reset_index(drop=True), there[same].reset_index(drop=True)
    )


def test_what_is_no_sweep_is_named(sweep: SweepFolder, tmp_path: Path) -> None:
    shutil.copytree(sweep.path, sweep.path.parent / "other")
    (tmp_path / "table.csv").write_text("method,accuracy\nnone,0.8\n")
    for given, message in (
        (sweep.path.parent, "has 2 sweeps"),
        (tmp_path / "nowhere", "no such folder"),
        (tmp_path / "table.csv", "no column 'run_key'"),
        ("smal", "no sweep 'smal'"),
    ):
        with pytest.raises(UserError, match=message):
            load_results(given)


def _redone(run: RunFolder) -> None:
    result = run.result()
    assert result is not None
    metrics = {**result["metrics"], "test/accuracy": result["metrics"]["test/accuracy"] + 1e-3}
    atomic_write(run.path / "result.json", dump({**result, "metrics": metrics}))


def _measured(run: RunFolder) -> None:
    (run.path / evaluations.FOLDER).mkdir()
    (run.path / evaluations.FOLDER / "attack.json").write_text('{"metrics": {"attack/pgd": 0.1}}')


def _measured_again(run: RunFolder) -> None:
    atomic_write(run.path / evaluations.FOLDER / "attack.json", '{"metrics": {"attack/pgd": 0.2}}')


def _edited(run: RunFolder) -> None:
    path = run.path / "result.json"
    path.write_text(path.read_text().replace("fashion-mnist", "fashion-nmist"))


def _given_up(run: RunFolder) -> None:
    os.unlink(run.path / "result.json")
    run.fail("ValueError: no", "", 2)


def _dropped(run: RunFolder) -> None:
    plan = run.path.parents[1] / "plan.jsonl"
    lines = plan.read_text().splitlines()
    atomic_write(plan, "".join(f"{line}\n" for line in lines if run.run_key not in line))


def _begun(run: RunFolder) -> None:
    os.unlink(run.path / "failure.json")


def test_kept_tables_are_never_stale(
    sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "WORTH", 1)
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -60)
    monkeypatch.setenv("MIXBENCH_CACHE", str(tmp_path / "cache"))
    reads: list[str] = []
    fresh = load.load
    monkeypatch.setattr(load, "load", lambda folder: reads.append("read") or fresh(folder))

    def check(times: int) -> None:
        reads.clear()
        found = cache.load(sweep), cache.load(sweep)
        assert len(reads) == times
        for name in cache._FRAMES:
            expected = getattr(fresh(sweep), name)
            for tables in found:
                pd.testing.assert_frame_equal(getattr(tables, name), expected)

    check(1)
    check(0)
    run = sweep.plan()[3].folder
    changes: list[Callable[[RunFolder], None]] = [
        *(_redone, _measured, _measured_again, _edited, _given_up, _begun, _dropped)
    ]
    for change in changes:
        change(run)
        check(1)
    monkeypatch.setattr(cache, "SETTLED_SECONDS", 60)
    _measured_again(run)
    check(2)
