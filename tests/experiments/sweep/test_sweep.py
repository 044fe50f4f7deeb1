"""A sweep description, expanded: which runs, in which order, and what is refused."""

from __future__ import annotations

import csv
import functools
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mixbench.experiments.config import resolve
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep import expand, load
from mixbench.experiments.sweep import grid as grid_of

ROOT = Path(__file__).resolve().parents[3]
DIGITS: dict[str, Any] = {"dataset": {"name": "digits"}}


def made(**parts: Any) -> expand.Sweep:
    overrides = parts.pop("overrides", None)
    return expand.expand({"name": "test", "fixed": DIGITS, **parts}, overrides)


def loaded(tmp_path: Path, text: str, *overrides: str, name: str | None = None) -> expand.Sweep:
    path = tmp_path / "some.yaml"
    path.write_text(text)
    return load.load(str(path), overrides, name)


def methods(found: expand.Sweep) -> list[tuple[str, Any, float]]:
    return [
        (run.augmentation["name"], run.augmentation.get("alpha"), run.training.label_smoothing)
        for run in found.runs
    ]


def refused(*arguments: Any, **parts: Any) -> str:
    with pytest.raises(UserError) as caught:
        loaded(*arguments, **parts) if arguments else made(**parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


EXAMPLE = """
name: alpha_small
description: >
  Which alpha,
  with and without smoothing.
baseline: {augmentation.name: none}
fixed:
  dataset: {name: digits, train_size: 300}
  training: {epochs: 10, batch_size: 256, learning_rate: 2e-1}
grid:
  augmentation: [{name: none}, {name: cutmix, alpha: 0.2}, {name: cutmix, alpha: 1}]
  training.label_smoothing: [0.0, 0.1]
seeds: [3, 1]
"""


def test_a_grid_is_the_product_in_the_order_of_the_file(tmp_path: Path) -> None:
    found = loaded(tmp_path, EXAMPLE)
    assert methods(found) == [
        (*method, smoothing)
        for method, smoothing in product(
            [("none", None), ("cutmix", 0.2), ("cutmix", 1.0)], [0.0, 0.1]
        )
        for _ in range(2)
    ]
    assert [run.seed for run in found.runs] == [3, 1] * 6
    assert {run.training.learning_rate for run in found.runs} == {0.2}
    assert {run.training.batch_size for run in found.runs} == {256}
    assert found.cells == 6
    assert (found.name, found.description) == (
        "alpha_small",
        "Which alpha, with and without smoothing.",
    )
    assert found.spec["baseline"] == {"augmentation.name": "none"}
    assert found.spec["grid"]["training.label_smoothing"] == [0.0, 0.1]


def test_the_name_is_the_files_where_none_is_given(tmp_path: Path) -> None:
    text = "fixed: {dataset: {name: digits}}"
    assert loaded(tmp_path, text).name == "some"
    assert loaded(tmp_path, text, name="other").name == "other"
    assert loaded(tmp_path, text, "name=third").name == "third"
    assert [run.seed for run in loaded(tmp_path, text).runs] == [0]


def test_whole_sections_and_single_keys_combine_in_any_order() -> None:
    parts = [
        ("augmentation", [{"name": "cutmix", "alpha": 0.3}, {"name": "mixup", "alpha": 0.3}]),
        ("augmentation.alpha", [0.2, 1.0]),
    ]
    forward = made(grid=dict(parts))
    backward = made(grid=dict(reversed(parts)))
    assert methods(forward) == [
        (name, alpha, 0.0) for name in ("cutmix", "mixup") for alpha in (0.2, 1.0)
    ]
    assert {run.run_key for run in forward.runs} == {run.run_key for run in backward.runs}
    assert methods(backward)[:2] == [("cutmix", 0.2, 0.0), ("mixup", 0.2, 0.0)]


def test_a_single_key_does_not_reach_into_the_next_cell() -> None:
    found = made(
        grid={"augmentation": [{"name": "cutmix"}], "augmentation.alpha": [0.2, 1.0, 2.0]},
        include=[{"augmentation": {"name": "cutmix"}, "augmentation.placement": "inside"}],
    )
    assert [alpha for _, alpha, _ in methods(found)] == [0.2, 1.0, 2.0, 1.0]


def test_a_name_alone_is_a_section() -> None:
    found = made(grid={"augmentation": ["none", "ricap"], "training.epochs": [1]})
    assert [name for name, *_ in methods(found)] == ["none", "ricap"]
    assert (
        made(fixed={**DIGITS, "augmentation": "cutmix", "augmentation.alpha": 2})
        .runs[0]
        .augmentation["alpha"]
        == 2.0
    )


def test_zip_goes_in_step_and_multiplies_with_the_grid() -> None:
    found = made(
        zip={"training.epochs": [1, 2, 3], "training.batch_size": [10, 20, 30]},
        grid={"augmentation": [{"name": "none"}, {"name": "mixup"}]},
    )
    assert [
        (run.augmentation["name"], run.training.epochs, run.training.batch_size)
        for run in found.runs
    ] == [(name, epochs, 10 * epochs) for name in ("none", "mixup") for epochs in (1, 2, 3)]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ({"augmentation.name": "cutmix"}, [("mixup", 1.0), ("mixup", 0.2)]),
        ({"augmentation": {"name": "cutmix"}}, [("mixup", 1.0), ("mixup", 0.2)]),
        ({"augmentation.alpha": [0.2, 5.0]}, [("mixup", 1.0), ("cutmix", 1.0)]),
        (
            {"augmentation.name": ["mixup", "fmix"], "augmentation.alpha": 1.0},
            [("mixup", 0.2), ("cutmix", 1.0), ("cutmix", 0.2)],
        ),
    ],
)
def test_exclude(pattern: dict[str, Any], left: list[Any]) -> None:
    grid = {
        "augmentation": [{"name": "mixup"}, {"name": "cutmix"}],
        "augmentation.alpha": [1.0, 0.2],
    }
    found = made(grid=grid, exclude=[pattern])
    assert [method[:2] for method in methods(found)] == left


def test_an_axis_that_some_methods_lack_is_theirs_that_have_it() -> None:
    axes = {
        "augmentation.name": ["none", "cutmix", "gridmask", "mixup"],
        "augmentation.alpha": [0.5, 2],
        "augmentation.placement": ["inside", "clipped"],
    }
    found = made(grid={**axes, "training.epochs": [1, 2]})
    names = [run.augmentation["name"] for run in found.runs]
    # cutmix has both, mixup no placement, gridmask and none neither.
    assert [names.count(name) for name in axes["augmentation.name"]] == [2, 8, 2, 4]
    assert grid_of.left_out(found.spec) == {
        "augmentation.alpha": ["gridmask", "none"],
        "augmentation.placement": ["gridmask", "mixup", "none"],
    }
    with pytest.raises(UserError, match=r"has no parameter 'alhpa'.*single cells into `include`"):
        made(grid={"augmentation.name": ["none", "cutmix"], "augmentation.alhpa": [1, 2]})


def test_several_patterns_exclude_what_matches_any() -> None:
    found = made(
        grid={"augmentation": ["none", "mixup", "fmix"], "training.epochs": [1, 2]},
        exclude=[{"augmentation.name": "none"}, {"training.epochs": 2}],
    )
    assert [name for name, *_ in methods(found)] == ["mixup", "fmix"]


def test_include_adds_to_the_grid_and_is_not_excluded() -> None:
    found = made(
        grid={"augmentation": ["mixup", "fmix"]},
        exclude=[{"augmentation.name": "fmix"}],
        include=[{"augmentation.name": "fmix", "training.epochs": 7}, {"model.width": 3}],
    )
    assert [(run.augmentation["name"], run.training.epochs) for run in found.runs] == [
        ("mixup", 30),
        ("fmix", 7),
        ("none", 30),
    ]


def test_include_alone_is_the_list_of_cells() -> None:
    assert methods(made(include=[{"augmentation": "mixup"}, {"augmentation": "fmix"}])) == [
        ("mixup", 1.0, 0.0),
        ("fmix", 1.0, 0.0),
    ]
    assert len(made().runs) == 1


def test_set_has_the_last_word(tmp_path: Path) -> None:
    text = EXAMPLE.replace("baseline:", "# baseline:")

    def aug(*overrides: str) -> list[tuple[str, Any, float]]:
        return methods(loaded(tmp_path, text, "seeds=[0]", *overrides))

    # In fixed:
    found = loaded(tmp_path, EXAMPLE, "training.epochs=2", "dataset.train_size=100")
    assert {(run.training.epochs, run.dataset.train_size) for run in found.runs} == {(2, 100)}
    assert {run.training.batch_size for run in found.runs} == {256}
    # A grid axis is replaced by one value:
    assert aug("training.label_smoothing=0.05") == [
        ("none", None, 0.05),
        ("cutmix", 0.2, 0.05),
        ("cutmix", 1.0, 0.05),
    ]
    assert aug("augmentation={name: fmix, alpha: 2}") == [("fmix", 2.0, 0.0), ("fmix", 2.0, 0.1)]
    # A key within the values of an axis:
    found = loaded(tmp_path, EXAMPLE, "augmentation.prob=5e-1")
    assert {run.augmentation["prob"] for run in found.runs} == {0.5}
    # Of two, the later one; a whole section replaces the section.
    assert aug("training.epochs=1", "training={label_smoothing: 0.3, batch_size: 9}")[0][2] == 0.3
    found = loaded(tmp_path, EXAMPLE, "seeds=[7, 8, 9]", "description=short")
    assert [run.seed for run in found.runs[:3]] == [7, 8, 9]
    assert found.description == "short"


def test_set_reaches_include_and_zip() -> None:
    found = made(
        zip={"training.epochs": [1, 2], "training.batch_size": [10, 20]},
        include=[{"training.epochs": 3, "augmentation": "mixup"}],
        overrides={"training.batch_size": 5},
    )
    assert [(run.training.epochs, run.training.batch_size) for run in found.runs] == [
        (1, 5),
        (2, 5),
        (3, 5),
    ]


def test_replacing_the_only_axis_leaves_its_cell_and_what_is_included() -> None:
    found = made(
        grid={"training.epochs": [1, 2]},
        include=[{"augmentation": "mixup"}],
        overrides={"training.epochs": 3},
    )
    assert [(run.augmentation["name"], run.training.epochs) for run in found.runs] == [
        ("none", 3),
        ("mixup", 3),
    ]


def test_overrides_are_on_record(tmp_path: Path) -> None:
    found = loaded(tmp_path, EXAMPLE, "training.epochs=2")
    assert found.spec["overrides"] == {"training.epochs": 2}
    assert found.spec["fixed"]["training"]["epochs"] == 10


NAMES = ("none", "mixup", "cutmix", "fmix", "ricap")


@given(
    chosen=st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    epochs=st.lists(st.integers(1, 99), max_size=3, unique=True),
    rates=st.lists(st.floats(0.001, 1.0), max_size=3, unique=True),
    seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=4, unique=True),
)
def test_runs_are_the_product_and_all_different(
    chosen: list[str], epochs: list[int], rates: list[float], seeds: list[int]
) -> None:
    grid: dict[str, list[Any]] = {"augmentation": [{"name": name} for name in chosen]}
    if epochs:
        grid["training.epochs"] = epochs
    if rates:
        grid["training.learning_rate"] = rates
    found = made(grid=grid, seeds=seeds)
    cells = len(chosen) * max(1, len(epochs)) * max(1, len(rates))
    assert len(found.runs) == len({run.run_key for run in found.runs}) == cells * len(seeds)
    assert found.cells == cells
    for run in found.runs:
        assert run.augmentation["name"] in chosen
        assert not epochs or run.training.epochs in epochs
        assert not rates or run.training.learning_rate in rates


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"grid": {}}, "grid: empty"),
        ({"grid": {"training.epochs": []}}, "grid.training.epochs: got []"),
        ({"grid": {"training.epochs": 3}}, "grid.training.epochs: got 3, expected a list"),
        ({"grid": [1]}, "grid: got [1], expected a mapping"),
        (
            {"grid": {"augmentation": ["fmix"]}, "exclude": [{"augmentation.name": "fmix"}]},
            "sweep 'test' has no runs: exclude removes every cell",
        ),
        (
            {"grid": {"augmentation": ["mixup", {"name": "mixup", "alpha": 1.0}]}},
            "cells 1 and 2 are the same once defaults are filled in (augmentation mixup)",
        ),
        ({"include": [{"training.epochs": 30}, {"training.epochs": 30}]}, "cells 1 and 2 are"),
        (
            {
                "grid": {"training.epochs": [1, 2]},
                "overrides": {"training": {"epochs": 3}},
                "include": [{"training.epochs": 9}],
            },
            "cells 1 and 2 are the same",
        ),
        ({"seeds": []}, "seeds: got [], expected a list of at least one whole number"),
        ({"seeds": 3}, "seeds: got 3, expected a list"),
        ({"seeds": None}, "seeds: got None, expected a list"),
        ({"seeds": [0, 1.5]}, "seeds: got [0, 1.5], expected a list of at least one whole"),
        ({"seeds": [True]}, "seeds: got [True]"),
        ({"seeds": [-1]}, "seeds: got [-1]"),
        ({"seeds": [0, 1, 0]}, "seeds: got [0, 1, 0], expected each seed once"),
        ({"grid": {"seed": [0, 1]}}, "seed: give `seeds` at the top of the sweep"),
        ({"fixed": {**DIGITS, "seed": 1}}, "seed: give `seeds` at the top of the sweep"),
        ({"girds": {}}, "unknown key in the sweep 'girds'; did you mean 'grid'? valid: name, "),
        (
            {"grid": {"trainng.epochs": [1]}},
            "unknown section in grid 'trainng'; did you mean 'training'?",
        ),
        (
            {"grid": {"training.epoch": [1]}},
            "unknown key of training in grid 'epoch'; did you mean 'epochs'?",
        ),
        ({"include": [{"training.epoch": 1}]}, "unknown key of training in include 'epoch'"),
        ({"exclude": [{"training.epoch": 1}]}, "unknown key of training in exclude 'epoch'"),
        ({"exclude": [{"augmentation.alhpa": 1}]}, "matches no cell of the grid"),
        ({"exclude": [{"seed": 0}]}, "matches no cell of the grid"),
        ({"exclude": {"training.epochs": 1}}, "expected a list of mappings"),
        ({"include": [{}]}, "include: got [{}], expected a list of mappings"),
        (
            {"zip": {"training.epochs": [1, 2], "training.batch_size": [1]}},
            "zip: the lists must have the same length, got training.epochs: 2, training.batch",
        ),
        ({"fixed": {}}, "dataset: missing"),
        ({"fixed": {1: 2}}, "unknown section in fixed '1'"),
        ({"description": 3}, "description: got 3, expected text"),
        ({"baseline": 3}, "baseline: got 3, expected a mapping"),
        ({"baseline": {"augmentation.name": "mixup"}}, "which is none of the sweep's cells"),
        ({"baseline": {"augmentatoin.name": "none"}}, "did you mean 'augmentation'?"),
        ({"seeds": [2**63]}, "expected a list of at least one whole number"),
        ({"name": "../evil"}, "name: got '../evil', expected letters"),
        ({"name": "a/b"}, "name: got 'a/b', expected letters"),
        ({"name": ".."}, "name: got '..', expected letters"),
        ({"name": ".hidden"}, "name: got '.hidden'"),
        ({"name": ""}, "name: got ''"),
        ({"name": "x" * 101}, "at most 100"),
        ({"name": "a\nb"}, "name: got 'a\\nb'"),
        ({"name": "a\n"}, "name: got 'a\\n'"),
        ({"name": 3}, "name: got 3"),
        ({"name": None}, "name: got None"),
    ],
)
def test_what_is_refused(parts: dict[str, Any], expected: str) -> None:
    assert expected in refused(**parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "name: a\nfixed: {dataset: {name: digits}}\nname: b",
            "some.yaml, line 3: the key 'name' is given twice",
        ),
        (
            "fixed:\n  dataset: {name: digits}\n  training: {epochs: 1,\n    epochs: 2}",
            "some.yaml, line 4: the key 'epochs' is given twice",
        ),
        ("fixed: {dataset: {name: digits}\ngrid: {}", "some.yaml, line 2: "),
        ("fixed:\n\tdataset: 1", "some.yaml, line 2: found character '\\t'"),
        (
            "fixed: !!python/object/apply:os.system [touch owned]",
            "some.yaml, line 1: could not determine a constructor for the tag",
        ),
        ("fixed: !!python/name:os.system ''", "could not determine a constructor"),
        ("[1, 2]", "expected a mapping with the keys name, description"),
        ("", "expected a mapping with the keys name"),
        ("just text", "expected a mapping with the keys name"),
    ],
)
def test_yaml_that_is_refused(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert expected in refused(tmp_path, text)
    assert [path.name for path in tmp_path.iterdir()] == ["some.yaml"]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "some.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(UserError, match=r"some\.yaml"):
        load.load(str(path))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "--set: got 'training.epochs', expected key=value"),
        ("=3", "--set: got '=3', expected key=value"),
        ("trainng.epochs=3", "unknown section in --set 'trainng'; did you mean 'training'?"),
        ("training.epoch=3", "unknown key of training in --set 'epoch'; did you mean 'epochs'?"),
        ("grid=[1]", "unknown section in --set 'grid'"),
        ("training.epochs=[1", "--set training.epochs: '[1' is not a value that YAML can read"),
        ("training.epochs=!!python/name:os.system ''", "is not a value that YAML can read"),
        ("training.epochs=", "training.epochs: got None, expected a whole number"),
        ("augmentation.alpha=none", "got 'none', expected a number above 0"),
        ("seeds=[]", "seeds: got []"),
        ("name=../x", "name: got '../x'"),
    ],
)
def test_overrides_that_are_refused(override: str, expected: str, tmp_path: Path) -> None:
    text = "fixed: {dataset: {name: digits}, augmentation: {name: cutmix}}"
    assert expected in refused(tmp_path, text, override)


def test_sweeps_that_do_not_exist(tmp_path: Path) -> None:
    for name, expected in (
        ("dmeo", "unknown sweep 'dmeo'; did you mean 'demo'? valid: alpha, "),
        (str(tmp_path / "none.yaml"), "does not exist"),
        (str(tmp_path), "does not exist"),
    ):
        with pytest.raises(UserError) as caught:
            load.load(name)
        assert expected in str(caught.value)


def test_a_fallback_and_a_baseline_are_kept_for_those_who_need_them() -> None:
    found = made(fallback="demo_digits", baseline={"augmentation.name": "none"})
    assert found.spec["fallback"] == "demo_digits"
    assert found.spec["baseline"] == {"augmentation.name": "none"}


@pytest.mark.parametrize("name", sorted(load.shipped()))
def test_shipped_sweeps(name: str) -> None:
    found = load.load(name)
    assert found.name.startswith(name) and found.description
    compared = [run for run, _ in found.compared()]
    assert len(compared) == found.cells * len({run.seed for run in compared})
    other = found.spec.get("fallback")
    assert other is None or other in load.shipped()
    written = yaml.safe_load(load.shipped()[name].read_text())
    if "baseline" in written:
        key, value = next(iter(written["baseline"].items()))
        values = [
            functools.reduce(lambda part, name: part and part.get(name), key.split("."), whole)
            for whole in (run.model_dump() for run in found.runs)
        ]
        assert value in values, "no run is the baseline"


def test_the_keys_are_those_of_the_runs() -> None:
    """A grid is parsed in parts; each run must be what it would be by itself."""
    found = made(
        grid={
            "augmentation": ["mixup", {"name": "cutmix"}, {"name": "mixup", "alpha": 2}],
            "augmentation.prob": [0.5, 1],
            "training.learning_rate": [1, 0.5],
            "evaluation.occlusion.seed": [0, 1],
        },
        include=[{"model": {"name": "small_cnn", "width": 3}}],
        seeds=[0, 7, 2**62],
    )
    assert len(found.runs) == len(found.keys) == 75
    for run, (run_key, cell_key), row in zip(found.runs, found.keys, found.rows(), strict=True):
        alone = resolve.parse(run.model_dump(mode="json"))
        assert alone == run
        assert (alone.run_key, alone.cell_key) == (run_key, cell_key) == (run.run_key, run.cell_key)
        stored = alone.model_dump(mode="json")
        # Rows are as they were before there were replicates.
        assert stored.pop("replicate") is None
        assert row == (run_key, cell_key, stored)


def test_the_keys_of_the_committed_study_are_still_the_same() -> None:
    """Whoever runs it again must find the finished runs."""
    with (ROOT / "results" / "demo" / "runs.csv").open(newline="") as file:
        committed = {row["run_key"] for row in csv.DictReader(file)}
    assert len(committed) == 35
    assert {run_key for run_key, _ in load.load("demo").keys} == committed


def test_cells_do_not_share_what_one_of_them_changes() -> None:
    shared = {"name": "cutmix", "alpha": 0.5}
    found = made(
        grid={"augmentation": [shared, "none"], "training.epochs": [1, 2]},
        include=[{"augmentation": shared, "augmentation.alpha": 0.9}],
    )
    assert [run.augmentation.get("alpha") for run in found.runs] == [0.5, 0.5, None, None, 0.9]
    assert shared == {"name": "cutmix", "alpha": 0.5}
