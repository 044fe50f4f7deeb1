"""Data sets of the user's own: keys follow the data, bad functions are refused."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.config import datasets, own_code, own_data
from mixbench.experiments.config.resolve import parse
from mixbench.experiments.data.check_own import check_dataset
from mixbench.experiments.data.load import load
from mixbench.experiments.errors import UserError
from tests.support import running

SOURCE = """
import itertools
import numpy as np
import torch

SEED = 0
CALLS = itertools.count()

def part(images, *shape, seed=SEED):
    pixels = np.random.RandomState(images + seed).randint(0, 256, (images, *shape)).astype(np.uint8)
    return pixels, np.arange(images) % 3

def load():
    return {"train": part(30, 8, 10, 3), "validation": part(6, 8, 10, 3), "test": part(9, 8, 10, 3),
            "classes": ["a", "b", "c"]}

def digits():
    from mixbench.experiments.data.by_name import named_dataset
    arrays = named_dataset("digits").read("")
    return {"train": (arrays.train_images, arrays.train_labels.tolist()),
            "test": (torch.from_numpy(arrays.test_images[:, 0]), arrays.test_labels)}

def pairs():
    images, labels = part(30, 8, 8)
    names = [["cat", "dog", "cow"][label] for label in labels]
    return {"train": list(zip(images, names)), "test": list(zip(images[:3], names))}

def several():
    images, labels = part(30, 8, 8)
    return {"train": (images, np.eye(3)[labels]), "test": (images, np.eye(3)[labels]),
            "targets": "multi_label"}

def drawn():
    return {"train": part(30, 8, 8, seed=next(CALLS)), "test": part(9, 8, 8)}

def no_dict():
    return part(30, 8, 8)

def failing():
    return 1 / 0

def unknown_key():
    return {"train": part(9, 8, 8), "test": part(9, 8, 8), "valid": part(9, 8, 8)}

def no_test():
    return {"train": part(9, 8, 8), "test": None}

def real():
    return {"train": (part(9, 8, 8)[0] / 255, [0] * 9), "test": part(9, 8, 8)}

def uneven():
    return {"train": ([np.zeros((8, 8)), np.zeros((9, 8))], [0, 1]), "test": part(9, 8, 8)}

def lengths():
    return {"train": (part(9, 8, 8)[0], [0, 1]), "test": part(9, 8, 8)}

def small():
    return {"train": part(9, 4, 4), "test": part(9, 4, 4)}

def shapes():
    return {"train": part(9, 8, 8), "test": part(9, 8, 9)}

def beyond():
    return {"train": part(9, 8, 8), "test": (part(9, 8, 8)[0], np.arange(9))}

def fractions():
    return {"train": (part(9, 8, 8)[0], np.linspace(0, 1, 9)), "test": part(9, 8, 8)}

def gap():
    return {"train": (part(9, 8, 8)[0], np.arange(9) % 2 * 2), "test": part(9, 8, 8)}
"""


def _forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "owndata"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    for cached in (own_code.function_of, own_data.facts, datasets._own_info):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "owndata"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "data.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    _forget()
    yield folder
    _forget()


def _parse(function: str, **dataset: Any) -> Any:
    return parse({"dataset": {"name": f"owndata.data:{function}", **dataset}})


def test_what_the_function_returns_is_loaded_and_identifies_the_run(package: Path) -> None:
    planned = _parse("load", train_size=12)
    dataset = load(planned.dataset)
    assert dataset.classes == ("a", "b", "c") and dataset.shape == (3, 8, 10)
    assert [len(getattr(dataset, s)) for s in ("train", "validation", "test")] == [12, 6, 9]
    (images, labels), *_ = dataset.test.batches(9)
    wanted = np.random.RandomState(9).randint(0, 256, (9, 8, 10, 3))
    assert torch.equal(images, torch.from_numpy(wanted.astype(np.uint8)).permute(0, 3, 1, 2))
    assert labels.tolist() == [0, 1, 2] * 3
    stored = planned.model_dump(mode="json")
    (package / "data.py").write_text(f"# a comment\n{SOURCE}")
    _forget()
    assert parse(stored).run_key == planned.run_key
    (package / "data.py").write_text(SOURCE.replace("SEED = 0", "SEED = 1"))
    _forget()
    assert _parse("load", train_size=12).run_key != planned.run_key
    with pytest.raises(UserError, match=r"dataset.source: owndata.data:load returns other data"):
        parse(stored)


def test_runs_are_those_of_the_same_data_with_a_name(package: Path, runs: Path) -> None:
    folder = running.planned(
        {
            "name": "own",
            "fixed": {
                "dataset": {"train_size": 60},
                "model": {"width": 4},
                "training": {"epochs": 1, "flip": False, "crop_padding": 0},
                "evaluation": {"occlusion": {"images": 20}},
            },
            "grid": {"dataset.name": ["digits", "owndata.data:digits"]},
        }
    )
    assert running.work(folder, "tests") == 2
    named, own = (one.folder.result() for one in folder.plan())
    assert named["dataset"]["digest"] == own["dataset"]["digest"]
    metrics = [{k: v for k, v in r["metrics"].items() if "seconds" not in k} for r in (named, own)]
    assert metrics[0] == metrics[1]


def test_pairs_names_and_several_labels(package: Path) -> None:
    pairs = load(_parse("pairs").dataset)
    assert pairs.classes == ("cat", "cow", "dog") and pairs.shape == (1, 8, 8)
    assert pairs.test.labels.tolist() == [0, 2, 1]
    several = load(_parse("several").dataset)
    assert several.targets == "multi_label" and several.test.labels.shape == (30, 3)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("no_dict", "got a tuple, expected a dict with train and test"),
        ("failing", r"failed \(ZeroDivisionError: division by zero\); it is called without"),
        ("unknown_key", "unknown key 'valid'; did you mean 'validation'"),
        ("no_test", "there is no test part"),
        ("real", "train: got images of float64, expected uint8"),
        ("uneven", r"train: its images are no array, or of different sizes .*csv:FILE takes any"),
        ("lengths", "train: got 9 images and 2 labels"),
        ("small", r"got images of shape \(9, 1, 4, 4\), expected .* sides of 8 to 1024"),
        ("shapes", r"different channels, height and width: train \(1, 8, 8\), test \(1, 8, 9\)"),
        ("beyond", "test: got labels from 0 to 8, expected 0 to 2"),
        ("fractions", r"train: got labels of float64 .*\(or targets: multi_label, regression\)"),
        ("gap", "train: no image of class '1'"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_function_without_usable_data_is_refused(
    function: str, words: str, package: Path
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        _parse(function)
    assert "\n" not in str(caught.value)


def test_data_that_are_drawn_anew_are_refused_and_check_says_why(
    package: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not any(broken for _, broken in check_dataset("owndata.data:load"))
    with pytest.raises(UserError, match="returned other data than when it was called before"):
        load(_parse("drawn").dataset)
    assert cli.main(["check", "owndata.data:drawn"]) == 1
    assert "broken     gives the same data when it is called again" in capsys.readouterr().out
    found = dict(check_dataset("owndata.data:pairs"))
    assert "3 of 3 test images" in found["tests on images that it does not train on"]
    with pytest.raises(UserError, match="folds are for image folders"):
        _parse("load", folds=3)
    with pytest.raises(UserError, match=r"dataset.source: is for data sets of your own"):
        parse({"dataset": {"name": "digits", "source": "0" * 16}})
