"""`mixbench compare`: what changed, and which tolerance is broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixbench.experiments import cli
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, grid, write_sweep


def _is_cutmix(run: PlannedRun) -> bool:
    return bool(run.config["augmentation"]["name"] == "cutmix")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same three methods: as they are, with other numbers, with other seeds, for longer."""
    root = tmp_path_factory.mktemp("compared")
    write_sweep(root, "old", grid(METHODS[:3], range(4)))
    write_sweep(root, "longer", grid(METHODS[:3], range(4), training__epochs=60))
    write_sweep(root, "reseeded", grid(METHODS[:3], range(10, 14)))
    write_sweep(root, "others", grid(METHODS[3:5], range(2)))
    noise = np.random.default_rng(0)
    for name, drop in (("worse", 0.02), ("noisy", 0.0)):
        folder = write_sweep(root, name, grid(METHODS[:3], range(4)))
        for run in folder.plan():
            result = json.loads((run.folder.path / "result.json").read_text())
            if _is_cutmix(run):
                result["metrics"]["test/accuracy"] -= drop + noise.normal(0, 0.001)
            (run.folder.path / "result.json").write_text(json.dumps(result))
    return root


@pytest.fixture
def compare(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    monkeypatch.setenv("MIXBENCH_RUNS", str(root))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["compare", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


def test_a_sweep_is_what_it_is(compare: Any, root: Path) -> None:
    status, out, _ = compare("old", str(root / "old"), "--tolerance", "test/accuracy=0", "--json")
    found = json.loads(out)
    assert status == 0 and not found["broken"]
    assert all(change["same"] for change in found["changes"])
    assert found["headline"].startswith("Nothing changed")


def test_a_planted_drop_breaks_the_tolerance(compare: Any, root: Path, tmp_path: Path) -> None:
    tolerance = ("--tolerance", "test/accuracy=0.005")
    status, out, _ = compare("old", "worse", *tolerance, "--out", str(tmp_path))
    assert status == 1 and out.startswith("Tolerance broken: test/accuracy in 1 cell of worse (")
    assert "test/accuracy: broken in 1 cell" in out and "the same in 2 other cells" in out
    assert "tolerance of 0.50 points in test/accuracy" in (tmp_path / "changes.md").read_text()
    written = json.loads((tmp_path / "changes.json").read_text())["changes"]
    (broken,) = [change for change in written if change["broken"]]
    assert (broken["cell"], broken["metric"], broken["verdict"]) == (
        *("cutmix", "test/accuracy"),
        "worse",
    )
    # No other cell has a spread: the family is this one, and its interval that of a paired t test.
    old, new = (
        [run.folder.result() for run in SweepFolder(root / name).plan() if _is_cutmix(run)]
        for name in ("old", "worse")
    )
    accuracies = [[one["metrics"]["test/accuracy"] for one in side] for side in (new, old)]  # type: ignore[index]
    interval = stats.ttest_rel(*accuracies).confidence_interval(0.95)
    assert (broken["low"], broken["high"]) == pytest.approx((interval.low, interval.high), abs=1e-4)
    assert broken["n"] == 4
    assert "cutmix" in (tmp_path / "changes.md").read_text()
    assert len((tmp_path / "changes.csv").read_text().splitlines()) == len(written) + 1
    status, out, _ = compare("old", "noisy", *tolerance)
    assert status == 0 and "test/accuracy: kept" in out
    assert compare("worse", "old", *tolerance)[0] == 0, "better breaks nothing"
    status, out, _ = compare("old", "noisy", "--tolerance", "train/accuracy=0")
    assert status == 0


def test_other_seeds_are_compared_as_groups(compare: Any, root: Path) -> None:
    _, out, _ = compare("old", "reseeded", "--json")
    change = json.loads(out)["changes"][0]
    assert (change["cell"], change["metric"], change["paired"]) == ("none", "test/accuracy", False)
    sides = [
        [
            result["metrics"]["test/accuracy"]
            for path in (root / name / "runs").glob("*/result.json")
            for result in [json.loads(path.read_text())]
            if result["cell_key"] == cell
        ]
        for name in ("old", "reseeded")
        for cell in [json.loads((root / name / "plan.jsonl").open().readline())["cell_key"]]
    ]
    oracle = stats.ttest_ind(sides[1], sides[0], equal_var=False)
    interval = oracle.confidence_interval(1 - 0.05 / 3)
    assert change["difference"] == pytest.approx(np.mean(sides[1]) - np.mean(sides[0]))
    assert (change["low"], change["high"]) == pytest.approx((interval.low, interval.high))


def test_what_changed_everywhere_is_said_once(compare: Any) -> None:
    status, out, _ = compare("old", "longer")
    assert status == 0
    assert "3 cells in both old and longer" in out
    assert "changed everywhere: training.epochs 30 -> 60" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("old", "others"), "share nothing to compare"),
        (("old", "olt"), "no sweep 'olt'"),
        (("old", "old", "--tolerance", "test/acuracy=0.1"), "did you mean 'test/accuracy'?"),
        (("old", "old", "--tolerance", "test/accuracy"), "expected METRIC=VALUE"),
        (("old", "old", "--tolerance", "test/accuracy=-1"), "0 or more"),
    ],
)
def test_bad_input_is_one_line(compare: Any, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = compare(*arguments)
    assert status == 2 and out == "" and message in err and len(err.splitlines()) == 1
