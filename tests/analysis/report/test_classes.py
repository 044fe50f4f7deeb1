"""Accuracy by class and confusions in the report, from planted predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mixbench.analysis.report.data import collect
from mixbench.analysis.report.sections import classes
from mixbench.analysis.report.worded import worded
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import CLASSES, METHODS, config, write_sweep


def plant(sweep: SweepFolder, wrong: dict[str, dict[int, float]], count: int, each: int) -> None:
    """Let methods take a share of a class's images, given by its number, for the class after it."""
    for run in sweep.plan():
        labels = np.repeat(np.arange(count), each)
        named = labels.copy()
        for label, share in wrong[run.config["augmentation"]["name"]].items():
            named[np.flatnonzero(labels == label)[: round(share * each)]] = (label + 1) % count
        path = run.folder.path / "predictions.npz"
        np.savez(path, logits=np.eye(count, dtype=np.float32)[named], labels=labels)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return write_sweep(
        tmp_path, "by_class", [config(METHODS[n], s) for n in (0, 2) for s in (0, 1)]
    )


@pytest.mark.usefixtures("without_pictures")
def test_every_class_with_what_it_is_taken_for_and_the_difference(sweep: SweepFolder) -> None:
    plant(sweep, {"none": {6: 0.4, 9: 0.1}, "cutmix": {6: 0.2}}, 10, 20)
    found = classes.section(worded(collect(sweep, None)))
    table = found["table"]
    assert list(table.columns[:3]) == ["Test images", "no mixing, %", "Most often taken for"]
    assert [row.name for row in table.rows] == CLASSES
    texts = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    assert texts["Shirt"] == ["20", "60.0", "Sneaker (40.0%)", "+20.0"]
    assert texts["Ankle boot"] == ["20", "90.0", "T-shirt (10.0%)", "+10.0"]
    assert texts["Bag"] == ["20", "100.0", "", "0.0"]
    assert table.rows[6].cells[-1].minor == "80.0%"
    assert [figure.name for figure in found["figures"]] == [
        "confusion.png",
        "confusion-differences.png",
    ]
    rows = [line.split(",") for line in found["csv"].splitlines()]
    assert len(rows) == 1 + 2 * 10 and "40,0.6,Sneaker,0.4" in found["csv"]


@pytest.mark.usefixtures("without_pictures")
def test_of_many_classes_the_worst_and_a_damaged_file_is_no_fault(sweep: SweepFolder) -> None:
    wrong = {label: 0.02 * label for label in range(1, 30)}
    plant(sweep, {"none": wrong, "cutmix": wrong}, 30, 50)
    damaged = next(iter(sweep.plan())).folder.path / "predictions.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    found = classes.section(worded(collect(sweep, None)))
    names = [row.name for row in found["table"].rows]
    # The names of the results are of ten classes.
    assert names == [f"class {label}" for label in range(29, 9, -1)]
    assert "The worst 20 of 30" in found["note"]
    assert len(found["csv"].splitlines()) == 1 + 2 * 30


def test_predictions_of_no_classes_show_nothing(sweep: SweepFolder) -> None:
    for run in sweep.plan():
        np.savez(run.folder.path / "predictions.npz", outputs=np.zeros((3, 2)))
    assert classes.section(worded(collect(sweep, None)))["table"] is None
