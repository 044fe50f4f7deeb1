"""The sizes of a sweep: what each changes, how one is chosen, and that its name says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mixbench.experiments import cli
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import expand, load, scales
from tests.support import running

SPEC: dict[str, Any] = {
    "name": "sized",
    "description": "What it asks.",
    "fixed": {
        "dataset": {"name": "digits", "train_size": 300},
        "model": {"name": "small_cnn", "width": 4},
        "training": {"epochs": 9, "batch_size": 64},
        "training.learning_rate": 0.2,
    },
    "grid": {"augmentation": ["none", "mixup"], "training.label_smoothing": [0.0, 0.1]},
    "seeds": [0, 1, 2, 3],
    "scales": {
        "tiny": {"fixed": {"training.epochs": 1}, "seeds": [5]},
        "large": {
            "description": "Large: all of it.",
            "fixed": {
                "dataset": {"name": "fashion_mnist"},
                "model": {"width": 8},
                "training": {"learning_rate": 0.5},
            },
            "grid": {"training.label_smoothing": None, "training.momentum": [0.8, 0.9]},
            "include": [{"augmentation": "fmix"}],
        },
    },
}


def test_a_scale_changes_what_it_names_and_leaves_the_rest() -> None:
    tiny, large = scales.select(SPEC, "tiny"), scales.select(SPEC, "large")
    training = {"epochs": 1, "batch_size": 64, "learning_rate": 0.2}
    assert tiny["fixed"]["training"] == training
    assert tiny["fixed"]["dataset"] == SPEC["fixed"]["dataset"]
    assert (tiny["seeds"], tiny["grid"]) == ([5], SPEC["grid"])
    assert tiny["description"] == "What it asks."
    # Another data set: the old one's size means nothing for it. The same network: the rest stays.
    assert large["fixed"]["dataset"] == {"name": "fashion_mnist"}
    assert large["fixed"]["model"] == {"name": "small_cnn", "width": 8}
    # What was a dotted key is replaced by one that is not.
    assert large["fixed"]["training"] == {"epochs": 9, "batch_size": 64, "learning_rate": 0.5}
    assert large["grid"] == {"augmentation": ["none", "mixup"], "training.momentum": [0.8, 0.9]}
    assert (large["seeds"], large["include"]) == ([0, 1, 2, 3], [{"augmentation": "fmix"}])
    assert large["description"] == "What it asks. Large: all of it."
    assert "scales" in SPEC and SPEC["fixed"]["training"]["epochs"] == 9


def written(tmp_path: Path, spec: dict[str, Any]) -> str:
    path = tmp_path / "sized.yaml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return str(path)


def test_the_first_is_chosen_where_none_is_and_the_name_has_the_size(tmp_path: Path) -> None:
    path = written(tmp_path, SPEC)
    for scale, name, runs in ((None, "sized_tiny", 4), ("large", "sized_large", 20)):
        found = load.load(path, scale=scale)
        assert (found.name, len(found.runs)) == (name, runs)
        size = scale or "tiny"
        assert found.spec["scale"] == {"sweep": "sized", "scale": size}
        # What is recorded is what was run, and expands to it without the option.
        again = expand.expand(json.loads(json.dumps(found.spec)))
        assert again.keys == found.keys and again.name == name
    assert load.load(path, name="mine", scale="large").name == "mine"
    assert load.load(path, ["name=other"], scale="large").name == "other"
    found = load.load(path, ["training.epochs=3"], scale="large")
    assert {run.training.epochs for run in found.runs} == {3}
    assert expand.expand(SPEC).name == "sized_tiny"


@pytest.mark.parametrize(
    ("parts", "scale", "expected"),
    [
        ({}, "tny", "unknown scale 'tny'; did you mean 'tiny'? valid: tiny, large"),
        ({"scales": None}, "tiny", "scales: got None, expected a mapping"),
        ({"scales": {}}, None, "scales: got {}, expected a mapping"),
        ({"scales": ["quick"]}, "quick", "scales: got ['quick'], expected a mapping"),
        ({"scales": {"quick": None}}, "quick", "expected a mapping of names"),
        (
            {"scales": {"quick": {"fixd": {}}}},
            "quick",
            "unknown key of scales.quick 'fixd'; did you mean 'fixed'?",
        ),
        ({"scales": {"quick": {"grid": [1]}}}, "quick", "scales.quick.grid: got [1], expected a m"),
        ({"scales": {"quick": {"scales": {}}}}, "quick", "unknown key of scales.quick 'scales'"),
        ({"scale": {"quick": {}}}, None, "unknown key in the sweep 'scale'; did you mean 'scales'"),
        ({"scales": {"quick": {"fixed": {"trainng": {}}}}}, "quick", "did you mean 'training'?"),
    ],
)
def test_what_is_refused(
    parts: dict[str, Any], scale: str | None, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        load.load(written(tmp_path, SPEC | parts), scale=scale)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_sweep_of_one_size_refuses_the_option() -> None:
    with pytest.raises(UserError, match="--scale: got 'quick', but the sweep 'demo' has only one"):
        load.load("demo", scale="quick")


def test_the_commands_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    path = written(tmp_path, SPEC)
    here = ("--workers", "1", "--device", "cpu")
    assert cli.main(["sweep", path, "--scale", "tiny", "--dry-run", *here]) == 0
    assert "sized_tiny: 4 cells, 4 runs" in capsys.readouterr().out
    found = load.load(path, scale="tiny")
    SweepFolder.create(found.name, found.description, found.spec, found.rows(), None)
    # Once begun it goes on by its folder's name, too.
    for words in (["sized_tiny"], [path]):
        assert cli.main(["plan", *words, *here]) == 0
        assert "sized_tiny: 4 cells, 4 runs" in capsys.readouterr().out
    assert cli.main(["plan", path, "--scale", "larg"]) == 2
    said = "mixbench: unknown scale 'larg'; did you mean 'large'? valid: tiny, large\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("name", "command"),
    [
        (None, "mixbench sweep sized --scale tiny --set training.epochs=2"),
        ("mine", "mixbench sweep sized --scale tiny --name mine --set training.epochs=2"),
    ],
)
def test_the_report_says_how_to_run_it_again(
    name: str | None, command: str, tmp_path: Path
) -> None:
    from mixbench.analysis.report.sections.reproduction import sweep_command

    found = load.load(written(tmp_path, SPEC), ["training.epochs=2"], name, "tiny")
    assert sweep_command(found.name, found.spec) == command


def test_list_shows_the_sizes() -> None:
    said = running.mixbench_here("list", "sweeps").stdout
    assert "(--scale quick: 16 cells, 48 runs; --scale standard: " in said
    assert "(7 cells, 35 runs)" in said
