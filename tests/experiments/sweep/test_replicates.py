"""Replicates: a training subset, a validation split and a seed for each, one cell for all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixbench.analysis.report.build import write_report
from mixbench.analysis.statistics.comparison import compare, crossed_values, seed_values
from mixbench.analysis.tables.load import load
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.select import choose, train_beside_validation
from mixbench.experiments.errors import UserError
from mixbench.experiments.store import dependencies
from mixbench.experiments.sweep import expand
from tests.support import running

FIXED = {
    "dataset": {"name": "digits", "train_size": 200, "validation_size": 300},
    "model": {"name": "small_cnn", "width": 4},
    "training": {"epochs": 1, "batch_size": 64},
    "evaluation": {"occlusion": {"images": 50, "fractions": [0.5]}},
}
METHODS = [{"name": "none"}, {"name": "cutmix"}]


def made(**parts: Any) -> expand.Sweep:
    spec = {"name": "test", "fixed": FIXED, "grid": {"augmentation": METHODS}}
    return expand.expand(spec | parts)


def test_a_replicate_draws_subset_and_seed_and_stays_in_its_cell() -> None:
    found = made(replicates=3)
    drawn = [(run.replicate, run.seed, run.dataset.split_seed) for run in found.runs]
    assert drawn == [(0, 0, 0), (1, 1, 1), (2, 2, 2)] * 2
    assert found.cells == 2 and len({run.cell_key for run in found.runs}) == 2
    for run, (run_key, cell_key), row in zip(found.runs, found.keys, found.rows(), strict=True):
        assert (run.run_key, run.cell_key) == (run_key, cell_key) == row[:2]
        # What is stored is what is planned.
        again = parse(row[2])
        assert again == run and (again.run_key, again.cell_key) == (run_key, cell_key)


def test_keys_are_those_of_the_same_training_without_replicates() -> None:
    replicated, plain = made(replicates=2), made(seeds=[0])
    assert [key for key, _ in replicated.keys][::2] == [key for key, _ in plain.keys]
    assert {cell for _, cell in replicated.keys} == {cell for _, cell in plain.keys}
    # Growing keeps what is there.
    assert set(replicated.keys) < set(made(replicates=4).keys)
    assert "replicate" not in next(iter(plain.rows()))[2]


def test_replicates_are_crossed_with_seeds() -> None:
    found = made(replicates=[4, 7], seeds=[0, 1])
    drawn = [(run.replicate, run.seed) for run in found.runs[:4]]
    assert drawn == [(4, 0), (4, 1), (7, 0), (7, 1)]
    assert len({key for key, _ in found.keys}) == 8


@pytest.mark.parametrize("wrong", [0, -1, 10**12, [], [1, 1], "3", 2.5, True, [0, "a"]])
def test_wrong_replicates_are_one_line(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"replicates: got .* expected how many, or a list"):
        made(replicates=wrong)


def test_a_cell_has_no_replicate_of_its_own() -> None:
    with pytest.raises(UserError, match="give `replicates` at the top"):
        made(grid={"replicate": [0, 1]})
    fixed = {**FIXED, "dataset": {**FIXED["dataset"], "validation_fraction": 0.2}}
    with pytest.raises(UserError, match="not both"):
        made(fixed=fixed)


def test_a_pretraining_is_that_of_the_replicate(tmp_path: Path) -> None:
    pretrain = {"other": {"dataset": {"name": "digits", "split_seed": 1}}}
    grid = {"transfer.weights": [None, "pretrain:other"]}
    found = made(replicates=2, grid=grid, pretrain=pretrain, name="pre")
    folder = running.planned({**found.spec})
    plan = {run.run_key: run for run in folder.plan()}
    needs = dependencies.needed(plan.values())
    assert len(needs) == 2
    for key, needed in needs.items():
        assert needed.config["replicate"] == plan[key].config["replicate"]
        assert needed.config["dataset"]["split_seed"] == plan[key].config["replicate"] + 1
    # Another subset below the same cell's key is another run.
    moved = {**FIXED, "dataset": {**FIXED["dataset"], "split_seed": 1}}
    other = made(seeds=[1], grid=grid, pretrain=pretrain, fixed=moved)
    assert not set(needs) & {key for key, _ in other.keys}


def test_validation_images_are_those_that_no_size_trains_on() -> None:
    labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 300))
    splits = {
        size: train_beside_validation(labels, size=size, validation_size=500, seed=3, name="x")
        for size in (100, 1000, 2500, 3000)
    }
    for size, (train, validation) in splits.items():
        assert len(validation) == 500 and np.bincount(labels[validation]).tolist() == [50] * 10
        assert len(train) == min(size, 2500)
        assert not np.isin(train, validation).any()
        assert (validation == splits[100][1]).all()
    assert (splits[100][0] == choose(labels, 100, 3)).all()
    with pytest.raises(UserError, match="validation_size: got 2991, expected at most 2990"):
        train_beside_validation(labels, size=10, validation_size=2991, seed=0, name="x")


def test_a_sweep_of_replicates_is_trained_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    folder = running.planned({**made(replicates=3, seeds=[0, 1], name="rep").spec})
    running.work(folder, "w")
    results = [run.folder.result() for run in folder.plan()]
    assert all(result is not None for result in results)
    digests = {(r["replicate"], r["dataset"]["digest"]) for r in results if r}
    assert len(digests) == 3
    sizes = {(r["dataset"]["train"], r["dataset"]["validation"]) for r in results if r}
    assert sizes == {(200, 300)}
    doses = {run.config["augmentation"]["name"]: set() for run in folder.plan()}
    for run, result in zip(folder.plan(), results, strict=True):
        rows = run.folder.metrics()
        own = sum(row["mix/own_weight"] for row in rows) / len(rows)
        assert result is not None and result["metrics"]["mix/dose"] == pytest.approx(1 - own)
        doses[run.config["augmentation"]["name"]].add(result["metrics"]["mix/dose"])
    assert doses["none"] == {0.0} and min(doses["cutmix"]) > 0.05

    tables = load(folder)
    assert tables.runs["dataset.split_seed"].tolist() == [0, 0, 1, 1, 2, 2] * 2
    assert tables.cells["label"].tolist() == ["none", "cutmix"]
    base, other = tables.cells["cell_key"]
    values = crossed_values(tables.runs, "test/accuracy")
    means = seed_values(tables.runs, ["test/accuracy"])
    for replicate in range(3):
        both = [values[other][replicate, seed] for seed in (0, 1)]
        assert means[other, "test/accuracy"][replicate] == pytest.approx(sum(both) / 2)
    found = compare(tables.cells, tables.runs)
    contrast = found.differences[other, "test/accuracy"]
    assert (found.unit, contrast.n) == ("replicate", 3)
    gaps = [
        means[other, "test/accuracy"][r] - means[base, "test/accuracy"][r]  # type: ignore[operator]
        for r in range(3)
    ]
    assert contrast.difference == pytest.approx(sum(gaps) / 3)
    text = write_report(folder).markdown.read_text()
    assert "3 replicates (0–2)" in text and "What the spread of the differences is made of" in text
    assert "saw different data" not in text and "training subset and validation split:" not in text
