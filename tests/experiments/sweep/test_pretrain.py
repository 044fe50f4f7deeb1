"""Pretrainings of a sweep: expanded once per seed, named by the cells that start from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mixbench.experiments.config import schema
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import expand, load
from tests.support import running

DIGITS = {"name": "digits", "train_size": 300}
PRETRAIN = {"dataset": {"name": "digits", "split_seed": 1}, "training": {"epochs": 5}}
SMALL = {"name": "small_cnn", "width": 4}


def made(overrides: dict[str, Any] | None = None, **parts: Any) -> expand.Sweep:
    spec: dict[str, Any] = {
        "name": "test",
        "fixed": {"dataset": DIGITS, "model": SMALL, "training": {"epochs": 2}},
        "pretrain": {"other": PRETRAIN},
        "grid": {"transfer.weights": [None, "pretrain:other"]},
        "seeds": [3, 1],
    }
    return expand.expand(spec | parts, overrides)


def refused(overrides: dict[str, Any] | None = None, **parts: Any) -> str:
    with pytest.raises(UserError) as caught:
        made(overrides, **parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def weights(run: schema.RunConfig) -> str | None:
    return run.transfer.weights if run.transfer else None


def test_the_pretraining_is_added_once_per_seed_and_named_by_its_cell() -> None:
    found = made(grid={"transfer.weights": ["pretrain:other"], "training.epochs": [1, 2, 3]})
    first, second, *others = found.runs
    assert [run.seed for run in found.runs] == [3, 1] * 4
    assert first.cell_key == second.cell_key and found.pretraining == {first.cell_key}
    assert {weights(run) for run in others} == {f"cell:{first.cell_key}"}
    assert (first.dataset.name, first.dataset.split_seed) == ("digits", 1)
    assert (first.training.epochs, weights(first)) == (5, None)
    # Three cells are compared; each has one key for all seeds, though the weights differ.
    assert found.cells == 3 and len({run.cell_key for run in others}) == 3
    for run, (run_key, cell_key) in zip(found.runs, found.keys, strict=True):
        assert (run.run_key, run.cell_key) == (run_key, cell_key)


def test_model_and_evaluation_are_the_cells_and_the_rest_is_not() -> None:
    evaluation = {"occlusion": {"images": 100}}
    fixed = {
        "dataset": DIGITS,
        "evaluation": evaluation,
        "augmentation": "mixup",
        "model": {**SMALL, "input_size": 12},
        "training": {"epochs": 2, "batch_size": 7},
    }
    pretraining, *_ = made(fixed=fixed).runs
    assert (pretraining.model.width, pretraining.model.input_size) == (4, 12)
    assert pretraining.evaluation.occlusion.images == 100
    assert pretraining.augmentation["name"] == "none"
    assert pretraining.training.batch_size == 128 and pretraining.training.epochs == 5
    own = {**PRETRAIN, "model.input_size": 16, "augmentation": "cutmix"}
    pretraining, *_ = made(fixed=fixed, pretrain={"other": own}).runs
    assert (pretraining.model.width, pretraining.model.input_size) == (4, 16)
    assert pretraining.augmentation["name"] == "cutmix"


def test_cells_of_two_networks_start_from_two_pretrainings() -> None:
    found = made(grid={"model.width": [4, 6], "transfer.weights": ["pretrain:other"]})
    by_key = {run.cell_key: run for run in found.runs}
    assert len(found.pretraining) == 2
    for run in found.runs:
        if weights(run):
            start = by_key[str(weights(run)).removeprefix("cell:")]
            assert start.model == run.model


def test_a_pretraining_that_is_in_the_grid_is_not_doubled() -> None:
    evaluation = {"occlusion": {"images": 100}}
    fixed = {"dataset": DIGITS, "model": SMALL, "evaluation": evaluation}
    found = made(
        fixed=fixed,
        grid={"training.epochs": [2, 5]},
        include=[{"transfer.weights": "pretrain:other"}],
        pretrain={"other": {"dataset": DIGITS, "training": {"epochs": 5}}},
    )
    assert found.pretraining == frozenset() and found.cells == 3
    assert len({run.run_key for run in found.runs}) == len(found.runs) == 6
    assert weights(found.runs[4]) == f"cell:{found.runs[2].cell_key}"


def test_chains_are_in_the_order_of_need() -> None:
    chain = {
        "second": {**PRETRAIN, "transfer": {"weights": "pretrain:first", "freeze": 1}},
        "first": PRETRAIN,
    }
    found = made(pretrain=chain, grid={"transfer.weights": ["pretrain:second"]}, seeds=[0])
    first, second, last = found.runs
    assert weights(first) is None
    assert weights(second) == f"cell:{first.cell_key}" and second.transfer is not None
    assert second.transfer.freeze == 1
    assert weights(last) == f"cell:{second.cell_key}"
    assert found.pretraining == {first.cell_key, second.cell_key}


A_CIRCLE = {
    "a": {**PRETRAIN, "transfer.weights": "pretrain:b"},
    "b": {**PRETRAIN, "transfer.weights": "pretrain:a"},
}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"grid": {"transfer.weights": ["pretrain:othr"]}},
            "unknown pretraining 'othr'; did you mean 'other'?",
        ),
        ({"pretrain": None}, "got 'pretrain:other', but the sweep has no `pretrain`"),
        ({"grid": {"training.epochs": [1]}}, "pretrain.other: no cell starts from it"),
        ({"pretrain": {"other": PRETRAIN, "more": PRETRAIN}}, "pretrain.more: no cell starts"),
        (
            {"pretrain": A_CIRCLE, "grid": {"transfer.weights": ["pretrain:a"]}},
            "pretrain: a circle, a from b from a",
        ),
        (
            {"pretrain": {"other": {**PRETRAIN, "transfer.weights": "pretrain:other"}}},
            "pretrain: a circle, other from other",
        ),
        (
            {"pretrain": {"other": {**PRETRAIN, "model": {"name": "resnet20"}}}},
            "pretrain.other: its network is resnet20 of width 16, but the cell that starts from it "
            "has small_cnn of width 4",
        ),
        ({"pretrain": {"other": {**PRETRAIN, "model.width": 5}}}, "is small_cnn of width 5, but"),
        (
            {
                "pretrain": {
                    "other": {**PRETRAIN, "transfer.weights": "pretrain:first"},
                    "first": {**PRETRAIN, "model.width": 9},
                }
            },
            "pretrain.first: its network is small_cnn of width 9, but the cell that starts from it",
        ),
        ({"pretrain": {"other": {"training": {"epochs": 5}}}}, "pretrain.other: dataset: missing"),
        (
            {"pretrain": {"other": {**PRETRAIN, "training": {"epochs": 0}}}},
            "pretrain.other: training.epochs: got 0",
        ),
        (
            {"pretrain": {"other": {**PRETRAIN, "trainng": {}}}},
            "unknown section in pretrain.other 'trainng'; did you mean 'training'?",
        ),
        ({"pretrain": {"other": {**PRETRAIN, "seed": 1}}}, "pretrain.other: seed: "),
        ({"pretrain": {"other": {}}}, "pretrain.other: got {}, expected sections"),
        ({"pretrain": {"other": "hub"}}, "pretrain.other: got 'hub'"),
        ({"pretrain": {"a.b": PRETRAIN}}, "pretrain: got the name 'a.b'"),
        ({"pretrain": [1]}, "pretrain: got [1], expected a mapping"),
        ({"pretrain": {}}, "pretrain: got {}, expected a mapping"),
        (
            {"grid": {"transfer.weights": ["cell:0123456789abcdef"]}, "pretrain": None},
            "transfer.weights: got 'cell:0123456789abcdef'; in a sweep give pretrain:NAME",
        ),
    ],
)
def test_what_is_refused(parts: dict[str, Any], expected: str) -> None:
    assert expected in refused(**parts)


def test_set_reaches_a_pretraining_only_by_its_name(tmp_path: Path) -> None:
    def epochs(**overrides: Any) -> list[int]:
        return [run.training.epochs for run in made(overrides, seeds=[0]).runs]

    assert epochs() == [5, 2, 2]
    assert epochs(**{"training.epochs": 1}) == [5, 1, 1]
    assert epochs(**{"pretrain.other.training.epochs": 1}) == [1, 2, 2]
    # The network of the cell is that of its pretraining.
    assert {run.model.width for run in made({"model.width": 3}).runs} == {3}
    assert "did you mean 'other'" in refused({"pretrain.othr.training.epochs": 1})
    # An override may take away what is started from.
    assert [weights(run) for run in made({"transfer.weights": None}, seeds=[0]).runs] == [None]
    path = tmp_path / "some.yaml"
    spec = {
        "fixed": {"dataset": DIGITS, "transfer.weights": "pretrain:a"},
        "pretrain": {"a": PRETRAIN},
    }
    path.write_text(yaml.safe_dump(spec))
    found = load.load(str(path), ["pretrain.a.training.epochs=9", "seeds=[1]"])
    assert [run.training.epochs for run in found.runs] == [9, 30]
    assert found.spec["overrides"] == {"pretrain.a.training.epochs": 9}
    for text, expected in (
        ("pretrain.a.training.epoch=9", "unknown key of training in --set 'epoch'"),
        ("pretrain.a=9", "expected a key of a pretraining, such as pretrain.a.training.epochs=5"),
        ("pretrain=9", "unknown section in --set 'pretrain'"),
    ):
        with pytest.raises(UserError, match=expected.replace("(", r"\(")):
            load.load(str(path), [text])


def test_the_folder_knows_which_cells_are_only_pretraining(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path))
    wanted = made()
    folder = SweepFolder.create("a", "", wanted.spec, wanted.rows(), None, wanted.pretraining)
    marked = [run.pretraining for run in folder.plan()]
    assert marked == [True, True, False, False, False, False]
    assert (folder.path / "plan.jsonl").read_text().count('"pretraining": true') == 2
    # The same runs, of which another part is asked for by the grid: what is marked follows.
    again = SweepFolder.create("a", "", wanted.spec, wanted.rows(), None, ())
    assert not any(run.pretraining for run in again.plan())
    # What was recorded expands to the very same runs.
    assert {run.run_key for run in expand.expand(folder.spec).runs} == set(folder.states())


def test_plan_says_what_waits_for_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    spec = {
        "fixed": {"dataset": DIGITS, "model": SMALL, "training": {"epochs": 1}},
        "pretrain": {"other": PRETRAIN},
        "grid": {"transfer.weights": [None, "pretrain:other"]},
        "seeds": [0, 1],
    }
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(spec))
    said = running.mixbench("plan", str(path), "--device", "cpu", "--workers", "1")
    assert said.returncode == 0, said.stderr
    assert "(pretraining only)" in said.stdout
    assert "3 cells, 6 runs; 2 runs start from the weights of 2 others" in said.stdout
