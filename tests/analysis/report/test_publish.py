"""`mixbench report SWEEP --publish FOLDER`: only what can be made again is published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mixbench.analysis.report.build import Report, write_report
from mixbench.analysis.report.publish import check_publishable, publish
from mixbench.experiments.cli import main
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import provenance
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import measured_sweeps
from tests.support.written_sweeps import METHODS, grid, keys, write_sweep

COMMIT = "3f2c1ab"


@pytest.fixture(autouse=True)
def clean_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing in this checkout had been changed."""
    monkeypatch.setattr(provenance, "commit", lambda: COMMIT)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return write_sweep(tmp_path / "runs", "study", grid(METHODS[:2], range(2)))


def change_commit(path: Path, commit: str | None) -> None:
    content = json.loads(path.read_text())
    content["provenance"]["commit"] = commit
    path.write_text(json.dumps(content))


def refusal(sweep: SweepFolder, target: Path) -> str:
    before = contents(target.parent)
    with pytest.raises(UserError) as caught:
        check_publishable(sweep, target)
    assert "\n" not in str(caught.value)
    assert contents(target.parent) == before
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def fake_report(folder: Path, **files: bytes) -> Report:
    """A report without drawing anything."""
    (folder / "figures").mkdir(parents=True)
    for name in ("report.html", "report.md", "runs.csv", "verdicts.json", "figures/forest.png"):
        (folder / name).write_bytes(files.get(name.rpartition("/")[2].partition(".")[0], b"old"))
    verdict: Any = None
    return Report(folder, (folder / "figures" / "forest.png",), verdict, ())


def test_a_clean_sweep_is_published(
    sweep: SweepFolder, tmp_path: Path, without_pictures: None
) -> None:
    target = tmp_path / "results" / "study"
    check_publishable(sweep, target)
    report = write_report(sweep)
    written = publish(report, target)
    assert contents(target) == contents(report.folder)
    assert set(written) == {target / name for name in contents(target)}


def test_a_published_report_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    target = tmp_path / "results" / "study"
    publish(fake_report(tmp_path / "first"), target)
    (target / "figures" / "occlusion.png").write_bytes(b"stale")
    (target / "README.md").write_text("mine")
    publish(fake_report(tmp_path / "second", report=b"new"), target)
    assert contents(target) == {
        "README.md": b"mine",
        "figures/forest.png": b"old",
        "report.html": b"new",
        "report.md": b"new",
        "runs.csv": b"old",
        "verdicts.json": b"old",
    }


def test_a_folder_that_is_no_report_is_refused(sweep: SweepFolder, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    (target / "report.md").write_text("my own")
    assert "exists and is not a published report" in refusal(sweep, target)
    file = tmp_path / "file"
    file.write_text("text")
    assert "exists and is not a published report" in refusal(sweep, file)


def test_runs_with_uncommitted_changes_are_refused(sweep: SweepFolder, tmp_path: Path) -> None:
    run = sweep.plan()[1]
    change_commit(run.folder.path / "result.json", f"{COMMIT}+changes")
    message = refusal(sweep, tmp_path / "out")
    assert f"1 result from a tree with uncommitted changes ({run.run_key})" in message


def test_measurements_with_uncommitted_changes_are_refused(
    sweep: SweepFolder, tmp_path: Path
) -> None:
    run = sweep.plan()[0]
    measured_sweeps.write(run, "shift", provenance={"commit": f"{COMMIT}+changes"})
    assert f"uncommitted changes ({run.run_key}, shift)" in refusal(sweep, tmp_path / "out")


def test_runs_of_an_unknown_commit_are_refused(sweep: SweepFolder, tmp_path: Path) -> None:
    for run in sweep.plan():
        change_commit(run.folder.path / "result.json", None)
    message = refusal(sweep, tmp_path / "out")
    first = ", ".join(run.run_key for run in sweep.plan()[:3])
    assert f"the commit of 4 results unknown ({first} and 1 more)" in message


def test_missing_runs_are_refused(tmp_path: Path) -> None:
    runs = grid(METHODS[:2], range(2))
    missing = keys(runs[3])[0]
    sweep = write_sweep(tmp_path, "part", runs, waiting=lambda run: keys(run)[0] == missing)
    assert f"1 of 4 runs not done ({missing})" in refusal(sweep, tmp_path / "out")


@pytest.mark.parametrize(
    ("commit", "message"),
    [(f"{COMMIT}+changes", "the checkout has uncommitted changes"), (None, "is unknown")],
)
def test_a_checkout_that_is_not_clean_is_refused(
    commit: str | None,
    message: str,
    sweep: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provenance, "commit", lambda: commit)
    assert message in refusal(sweep, tmp_path / "out")


def test_the_command_refuses_in_one_line(
    sweep: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change_commit(sweep.plan()[0].folder.path / "result.json", f"{COMMIT}+changes")
    monkeypatch.setenv("MIXBENCH_RUNS", str(sweep.path.parent))
    before = contents(tmp_path)
    assert main(["report", "study", "--publish", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert contents(tmp_path) == before, "nothing is written"


def test_the_command_publishes(
    sweep: SweepFolder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    report = fake_report(tmp_path / "report")
    monkeypatch.setattr("mixbench.analysis.report.build.write_report", lambda *_, **__: report)
    monkeypatch.setenv("MIXBENCH_RUNS", str(sweep.path.parent))
    target = tmp_path / "results" / "study"
    assert main(["report", "study", "--publish", str(target)]) == 0
    assert contents(target) == contents(report.folder)
    assert f"published: {target}" in capsys.readouterr().out
