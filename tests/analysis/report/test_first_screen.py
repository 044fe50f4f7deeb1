"""The first screen and what it folds: looks, budgets, pairs, checks; odd sweeps; a golden page."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mixbench.analysis.report.build import write_report
from mixbench.analysis.report.csv_report import write_csv_report
from mixbench.analysis.report.data import collect
from mixbench.analysis.report.sections import budget, checks, claims, first, pairs
from mixbench.analysis.report.worded import worded
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import METHODS, grid, keys, write_sweep

NONE, MIXUP, CUTMIX, CUTOUT = METHODS[:4]
GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def over_epochs(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    """Worse at 5 epochs, better at 20: by so much that nothing is left to chance."""
    runs = [
        run for epochs in (5, 20) for run in grid([NONE, CUTMIX], range(4), training__epochs=epochs)
    ]
    folder = write_sweep(tmp_path_factory.mktemp("epochs"), "lengths", runs)
    for run in runs:
        path = folder.path / "runs" / keys(run)[0]
        made = json.loads((path / "result.json").read_text())
        shift = 0.1 if run["training"]["epochs"] == 20 else -0.1
        made["metrics"]["test/accuracy"] += shift * (run["augmentation"]["name"] == "cutmix")
        (path / "result.json").write_text(json.dumps(made))
        right = np.arange(50) % 5 < (3 + (run["augmentation"]["name"] == "cutmix"))
        logits = np.where(right[:, None], [[1.0, 0.0]], [[0.0, 1.0]])
        np.savez(path / "predictions.npz", logits=logits, labels=np.zeros(50, int))
    return folder


def test_the_sign_over_a_budget_is_that_of_the_one_test(
    over_epochs: SweepFolder, without_pictures: None
) -> None:
    data = worded(collect(over_epochs, None))
    found = budget.section(data)
    assert found["sentences"] == ["CutMix: worse at 5 epochs, better at 20 epochs."]
    assert [figure.name for figure in found["figures"]] == ["budget.png"]
    assert found["figures"][0].narrow
    screen = first.section(data)
    assert [row.name for row in screen["overview"].rows] == ["CutMix"]
    assert [cell.minor for cell in screen["overview"].rows[0].cells[:2]] == ["avoid", "use"]
    assert all(re.match(r"n = 4; 95% \[", c.tip) for c in screen["overview"].rows[0].cells[:2])
    # Two cells are no heat map of pairs.
    assert pairs.section(data)["figures"] == []


def test_checks_of_sign_flips_and_of_test_images(over_epochs: SweepFolder) -> None:
    data = collect(over_epochs, None)
    table = checks.section(data)["table"]
    assert len(table.rows) == 2
    for row in table.rows:
        n, _, flips, _, images = (cell.text for cell in row.cells)
        # Four pairs on one side of 0: the least that sign flips can give.
        assert (n, flips) == ("4", "0.12")
        # Ten of fifty images, the same in all replicates: only images vary.
        assert float(images) == pytest.approx(100 * np.sqrt(0.2 * 0.8 / 49), abs=0.01)
    torn = next(iter(over_epochs.plan())).folder.path / "predictions.npz"
    whole = torn.read_bytes()
    torn.write_bytes(whole[:200])
    assert checks.section(data)["table"] is not None
    torn.write_bytes(whole)


def test_intervals_are_those_of_the_look(tmp_path: Path, without_pictures: None) -> None:
    runs = grid([NONE, CUTMIX, MIXUP], range(4))
    spec = {"decide": {"looks": [3, 8]}, "replicates": 4}
    data = collect(write_sweep(tmp_path, "looks", runs, spec=spec), None)
    shown = data.comparison.of_metric("test/accuracy").values()
    # Four are there, the look was at three.
    assert {contrast.n for contrast in shown} == {3}
    assert data.comparison.declared is not None
    assert {one.contrast for one in data.comparison.declared.contrasts} == set(shown)
    spec["decide"] = {"looks": [6, 8]}
    early = collect(write_sweep(tmp_path, "early", runs, spec=spec), None)
    before = early.comparison.of_metric("test/accuracy").values()
    assert {(one.low, one.verdict) for one in before} == {(None, "undecided")}
    assert all("the first look is at 6 replicates" in one.note for one in before)
    assert all(one.difference is not None for one in before)


EVIL = '<script>alert("x")</script>'
ODD = {
    "failed": ([NONE, CUTMIX, MIXUP], 3, {"failed": "cutmix"}),
    "no_baseline_result": ([NONE, CUTMIX, MIXUP], 3, {"failed": "none"}),
    "single": ([NONE, CUTMIX], 1, {}),
    "one_method": ([CUTMIX], 2, {}),
    "no_baseline": ([CUTMIX, MIXUP, CUTOUT], 3, {}),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_sweeps_have_a_page(name: str, tmp_path: Path, without_pictures: None) -> None:
    methods, n, options = ODD[name]
    runs = grid(methods, range(n))
    failed = {
        keys(run)[0]: f"ValueError: {EVIL}"
        for run in runs
        if run["augmentation"]["name"] == options.get("failed")
    }
    report = write_report(write_sweep(tmp_path, name, runs, failed=failed))
    page = report.html.read_text()
    assert "<script>alert" not in page and page.count("<script>") == 1
    assert ("ValueError: &lt;script&gt;" in page) == bool(failed)
    assert report.verdict.headline.endswith(".") and "None" not in report.verdict.headline
    folds = set(re.findall(r'<details class="fold" id="([^"]+)"', page))
    linked = set(re.findall(r'<li><a href="#([^"]+)"', page))
    assert folds == linked and {"results", "runs", "provenance"} <= folds


def test_the_golden_page(tmp_path: Path) -> None:
    """The page of a small CSV, word for word; MIXBENCH_WRITE_GOLDEN=1 writes it anew."""
    write_csv_report(GOLDEN / "small.csv", tmp_path)
    made = (tmp_path / "report.md").read_text()
    if os.environ.get("MIXBENCH_WRITE_GOLDEN"):
        (GOLDEN / "small.md").write_text(made)
    assert made == (GOLDEN / "small.md").read_text()


def test_of_more_than_300_configurations_claims_are_left_to_their_command(
    full_sweep: SweepFolder,
) -> None:
    data = collect(full_sweep, None)
    assert claims.section(data)["table"] is not None
    # Only how many there are is looked at.
    many = data.tables.cells.sample(301, replace=True, random_state=0)
    section = claims.section(replace(data, tables=replace(data.tables, cells=many)))
    assert section["table"] is None and section["command"] == "mixbench claims demo"
    assert "the sweep has 301 configurations" in section["left_out"]
