"""Reports of sweeps whose cells differ in their schedule, or in what they start from."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mixbench.analysis.report import first_screen
from mixbench.analysis.report.build import Report, write_report
from mixbench.analysis.report.data import ReportData, collect
from mixbench.analysis.report.sections import calibration, dose, mixed, noise, occlusion, results
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.statistics.contrasts import Stratum, many_to_one
from mixbench.analysis.statistics.contrasts import compare as compare_contrasts
from mixbench.analysis.statistics.pivot import pivot, pivots
from mixbench.analysis.tables.load import Tables, load
from mixbench.analysis.text.caveats import caveats
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.staged_sweeps import (
    CUTMIX,
    FIRST_50,
    MIXUP,
    NONE,
    run,
    staging_sweep,
    transfer_sweep,
)
from tests.support.written_sweeps import config, keys, write_sweep


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return staging_sweep(tmp_path_factory.mktemp("staged"))


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    """Reports without the figures that are tested elsewhere, which take seconds each."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (first_screen, occlusion, calibration, mixed):
            name = next(name for name in vars(module) if name.endswith("_figure"))
            patch.setattr(module, name, lambda *_, **__: b"")
        yield


@pytest.fixture(scope="module")
def staged_report(staged: SweepFolder, quick: None) -> Report:
    return write_report(staged)


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> SweepFolder:
    return transfer_sweep(tmp_path_factory.mktemp("moved"))


@pytest.fixture(scope="module")
def tables(moved: SweepFolder) -> Tables:
    return load(moved)


def test_every_schedule_is_compared_with_no_augmentation(staged: SweepFolder) -> None:
    """`none` has no schedule, and is the baseline of all."""
    found = load(staged)
    compared = compare(found.cells, found.runs)
    (base,) = found.cells.loc[found.cells["label"] == "none", "cell_key"]
    assert set(compared.cells["baseline_key"]) == {base}
    assert len({cell for cell, _ in compared.differences}) == 8


def test_without_none_a_schedule_is_compared_with_always(tmp_path: Path) -> None:
    runs = [
        run(m, s, schedule)
        for m in (CUTMIX, MIXUP)
        for schedule in (None, FIRST_50)
        for s in range(3)
    ]
    found = load(write_sweep(tmp_path, "two", runs))
    compared = compare(found.cells, found.runs)
    names = dict(zip(found.cells["cell_key"], found.cells["label"], strict=True))
    assigned = zip(compared.cells["cell_key"], compared.cells["baseline_key"], strict=True)
    pairs = {names[cell]: names[base] for cell, base in assigned}
    assert pairs["cutmix · staging first_50"] == "cutmix · staging always"
    assert pairs["mixup · staging first_50"] == "mixup · staging always"
    said = compare(found.cells, found.runs, baseline={"staging": "first_50"})
    assert said.cells["baseline_key"].nunique() == 2


def test_a_table_of_methods_and_schedules(staged: SweepFolder) -> None:
    found = load(staged)
    (made,) = pivots(found.cells, found.runs, found.origins)
    assert made.rows == ("cutmix", "mixup")
    assert made.columns == ("always", "first_50", "hesitate", "cautious")
    scores = {
        key: dict(zip(rows["seed"], rows["test/accuracy"], strict=True))
        for key, rows in found.runs.groupby("cell_key")
    }
    strata = [
        Stratum(
            row,
            {made.cells[row, column]: scores[made.cells[row, column]] for column in made.columns},
            many_to_one(
                [made.cells[row, column] for column in made.columns], made.cells[row, "always"]
            ),
        )
        for row in made.rows
    ]
    expected = compare_contrasts(strata, margin=0.005, unit="seed")
    assert [one.difference for one in made.differences.values()] == [
        one.difference for one in expected
    ]
    assert [one.p for one in made.differences.values()] == [one.p for one in expected]


def test_any_field_can_be_the_second_factor(tmp_path: Path) -> None:
    runs = [
        config(m, s, dataset__train_size=n)
        for m in (CUTMIX, MIXUP)
        for n in (500, 1000)
        for s in range(2)
    ]
    found = load(write_sweep(tmp_path, "sizes", runs))
    made = pivot(found.cells, found.runs, "dataset.train_size", {})
    assert made is not None and made.rows == ("cutmix", "mixup")
    assert made.columns == ("train_size 500", "train_size 1000")
    assert len(made.differences) == 2
    assert pivot(found.cells, found.runs, "model.name", {}) is None
    assert pivots(found.cells, found.runs, {}) == []  # only staging and transfer, unasked


def test_the_pages_of_a_staging_study(staged_report: Report) -> None:
    page = staged_report.html.read_text(encoding="utf-8")
    text = staged_report.markdown.read_text(encoding="utf-8")
    for shown in (page, text):
        assert "By schedule" in shown and "Schedules: what was mixed when" in shown
        assert "every 2nd epoch; 90–100 %: prob 1 → 0" in shown.replace("\u00a0", " ")
        assert "plateau (by 50 %)" in shown
        body = shown.split("Reproduce")[0].split("The sweep as it was given")[0]
        assert '"phases"' not in body and "&#34;from&#34;" not in body
    assert any("plateau" in warning for warning in staged_report.warnings)
    assert "schedules.png" in {path.name for path in staged_report.figures}


def test_the_table_of_runs_has_the_new_fields(staged_report: Report) -> None:
    runs = pd.read_csv(staged_report.csv)
    assert set(runs["staging.name"]) == {"always", "first_50", "hesitate", "cautious"}
    assert runs.loc[runs["staging.name"] == "always", "staging.phases"].isna().all()
    assert "pretraining" not in runs


def test_what_was_mixed_is_read_from_the_runs(staged: SweepFolder) -> None:
    mixing = load(staged).mixing
    assert len(mixing) == 6 * 3 * 30  # the cells with a schedule alone
    first = mixing[mixing["epoch"] <= 15]
    assert set(first["prob"]) == {1.0} and set(first["lambda"]) == {0.6}
    assert mixing.loc[mixing["epoch"] > 15, "area"].isna().all()


def test_gradient_noise_by_epoch_is_drawn(tmp_path: Path) -> None:
    asked = {"every": 1, "batches": 4, "draws": 4, "seed": 0}
    folder = staging_sweep(tmp_path, range(1), training__gradient_noise=asked)
    found = load(folder).noise
    assert len(found) == 9 * 30 and (found["mix"] == 0.1 + found["epoch"] / 100).all()
    (figure,) = noise.section(collect(folder, None))["figures"]
    assert figure.name == "measured-gradient_noise-epochs.png"
    assert Image.open(io.BytesIO(figure.light)).width > 500


def test_pretraining_is_left_out_and_listed(
    moved: SweepFolder, tables: Tables, quick: None
) -> None:
    assert len(tables.runs) == 18 and len(tables.pretraining) == 3
    assert set(tables.runs["dataset.name"]) == {"fashion_mnist"}
    compared = compare(tables.cells, tables.runs)
    assert not set(tables.pretraining["cell_key"]) & set(compared.cells["cell_key"])
    # Each start has a `none` of its own, which is the baseline there.
    assert compared.cells["baseline_key"].nunique() == 3
    report = write_report(moved)
    text = report.markdown.read_text(encoding="utf-8")
    assert "### Pretraining" in text and "| digits | small\\_cnn | 12 | 3 of 3 |" in text.replace(
        "small_cnn", "small\\_cnn"
    )
    assert "18 of 18 runs done" in text and "pretrained on digits · freeze all" in text
    results = text.split("## Results")[1].split("### Pretraining")[0]
    assert not any(line.startswith("| digits") for line in results.splitlines())
    assert any("12 epochs of pretraining" in warning for warning in report.warnings)
    runs = pd.read_csv(report.csv)
    assert runs["pretraining"].sum() == 3 and len(runs) == 21


def test_a_pretraining_that_failed_is_said(tmp_path: Path) -> None:
    before = run({"name": "none", "prob": 1.0}, 1, dataset__name="digits", training__epochs=12)
    found = load(transfer_sweep(tmp_path, failed={keys(before)[0]: "Diverged: loss is nan"}))
    compared = compare(found.cells, found.runs)
    warnings = caveats(compared, found.runs, {}, found.pretraining)
    assert any(
        "Pretraining on digits: seed 1 failed (Diverged: loss is nan)" in warning
        for warning in warnings
    )


def test_a_sweep_of_pretrainings_alone_is_about_them(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, "alone", [run(CUTMIX, s) for s in range(2)])
    place = folder.path / "plan.jsonl"
    place.write_text(place.read_text().replace('"run_key"', '"pretraining": true, "run_key"'))
    found = load(folder)
    assert len(found.runs) == 2 and found.pretraining.empty


def test_frozen_parts_are_compared_for_the_same_weights(tables: Tables) -> None:
    made = {one.key: one for one in pivots(tables.cells, tables.runs, tables.origins)}
    frozen = made["transfer.freeze"]
    # From scratch nothing is frozen: there is nothing to compare.
    assert frozen.rows == ("none", "cutmix") and frozen.columns == ("freeze none", "freeze all")
    assert made["transfer.weights"].reference == "from scratch"
    assert "pretrained on digits" in made["transfer.weights"].columns


def test_the_figure_of_what_was_mixed(staged_report: Report) -> None:
    png = (staged_report.folder / "figures" / "schedules.png").read_bytes()
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB"))
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):  # cutmix and mixup
        assert (pixels == colour).all(axis=2).any()


def with_doses(
    root: Path, name: str, schedules: list[dict[str, float | str]], **spec: object
) -> ReportData:
    """`none`, MixUp, CutMix always, and CutMix with schedules; each with the dose that it has."""
    runs = [run(method, seed) for method in (NONE, MIXUP, CUTMIX) for seed in range(3)]
    for staging in schedules:
        written = {**staging, "name": f"dose {staging['match_dose']} {staging['shape']}"}
        written["phases"] = [{"from": 0.0, "to": 1.0, "prob": staging["match_dose"]}]
        runs += [run(CUTMIX, seed, {**written}) for seed in range(3)]
    folder = write_sweep(root, name, runs, spec={"name": name, **spec})
    for planned in folder.plan():
        share = (planned.config["staging"] or {"match_dose": 1.0})["match_dose"]
        always = {"none": 0.0, "mixup": 0.5, "cutmix": 0.3}[planned.config["augmentation"]["name"]]
        path = planned.folder.path / "result.json"
        result = json.loads(path.read_text())
        result["metrics"]["mix/dose"] = always * share + 0.001 * planned.config["seed"]
        path.write_text(json.dumps(result))
    return collect(folder, None)


def test_doses_are_in_the_table_and_on_lines_of_what_differs_in_nothing_else(
    tmp_path: Path, quick: None
) -> None:
    shapes = ("constant", "late")
    schedules = [{"match_dose": d, "shape": shape} for shape in shapes for d in (0.25, 0.5)]
    question = {"contrasts": {name: {"staging.shape": name} for name in shapes}}
    data = with_doses(tmp_path, "doses", schedules, question=question)
    table = results.section(data)["table"]
    assert table.columns[:3] == ["Seeds", "Dose, %", "Accuracy, %"]
    shown = {row.name: row.cells[1].text for row in table.rows}
    assert shown["none"] == "0.1" and shown["cutmix · dose 0.5 late"] == "15.1"
    assert shown["mixup · staging always"] == "50.1"
    assert {len(row.cells) for row in table.rows} == {len(table.columns)}
    points = dose._points(data)
    accuracy = points[points["metric"] == "test/accuracy"].groupby("series")["dose"]
    lines = {name: sorted(round(value, 3) for value in line) for name, line in accuracy}
    # CutMix in every step is the end of the line of constant doses.
    assert lines["cutmix · staging constant"] == [0.076, 0.151, 0.301]
    assert lines["cutmix · staging late"] == [0.076, 0.151] and "none" not in lines
    assert lines["mixup · staging always"] == [0.501]
    # Timing is compared at equal dose.
    assert data.comparison.declared is not None
    declared = [one.contrast for one in data.comparison.declared.contrasts]
    strata = ["cutmix · dose 0.25", "cutmix · dose 0.5"]
    assert sorted(one.stratum for one in declared) == strata
    found = dose.section(data)
    (figure,) = found["figures"]
    with Image.open(io.BytesIO(figure.light)) as image:
        assert image.width > image.height
    # A line per schedule and measure; single points are on none.
    assert len(found["sentences"]) == 4
    assert any(text.startswith("Accuracy, constant: ") for text in found["sentences"])


def test_methods_alone_are_no_comparison_of_doses(tmp_path: Path) -> None:
    data = with_doses(tmp_path, "methods", [])
    assert dose.doses(data) == {} and dose.section(data) == {"figures": [], "sentences": []}
