"""`mixbench check`: the contract on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import torch

from mixbench import augmentations
from mixbench.augmentations import registry
from mixbench.experiments import cli
from mixbench.experiments.cli.check import findings_text
from tests.augmentations.contract.test_contract_breaks import (
    HeightForWidth,
    ProbTwice,
    ReadsAValue,
)

BROKEN = {"swapped": HeightForWidth, "twice": ProbTwice, "waits": ReadsAValue}


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The registry with three methods that have a mistake each."""
    methods = {**registry._methods(), **BROKEN}
    monkeypatch.setattr(registry, "_methods", lambda: methods)
    return


def test_a_right_method_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "mixup", "--set", "alpha=0.2"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == len(augmentations.contract.PROPERTIES)
    verdicts = {line[:10].strip() for line in lines}
    assert verdicts == {"ok", "not asked"} | (set() if torch.cuda.is_available() else {"not tried"})
    assert total.startswith("mixup: ") and " 0 broken" in total


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("swapped", "are height and width swapped?"),
        ("twice", "with prob=0.3 a share of 0.1"),
        ("waits", "`sample` reads a value back from the device"),
    ],
)
def test_a_broken_one_exits_1_and_says_why(
    broken: None, name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", name]) == 1
    out = capsys.readouterr().out
    lines = out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if words in line)
    assert lines[at - 1].startswith("broken ")
    assert lines[at + 1].strip().startswith("on a batch of ")
    assert "Traceback" not in out


@pytest.mark.parametrize("size", [20, 40])
def test_a_size_above_the_usual_images_is_no_mistake(
    size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is tried on images that it fits."""
    assert cli.main(["check", "cutout", "--set", f"size={size}"]) == 0
    assert " 0 broken" in capsys.readouterr().out
    inside = f"methods=[{{name: cutout, size: {size}, placement: inside}}]"
    assert cli.main(["check", "compose", "--set", inside]) == 0


def test_the_json_says_the_same(broken: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "twice", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["augmentation"] == {"name": "twice"}
    assert found["ok"] is False
    assert "prob_once" in found["broken"]
    (finding,) = (one for one in found["findings"] if one["name"] == "prob_once")
    assert finding["verdict"] == "broken"
    assert "is changed, expected 0.300" in finding["reason"]


def test_one_mistake_is_told_once() -> None:
    from mixbench.augmentations.contract import Finding

    findings = [
        Finding(name, f"promise {name}", "broken", "raises NameError: name 'x'", "batch of 7")
        for name in ("one", "two")
    ]
    text = findings_text("mine", findings)
    assert text.count("NameError") == 1
    assert text.count("the same as above") == 1
    assert "mine: 0 promises kept, 2 broken" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["cutmx"], "unknown augmentation 'cutmx'; did you mean 'cutmix'?"),
        (["cutmix", "--set", "alpha=-1"], "cutmix.alpha: got -1, expected a number above 0"),
        (["cutmix", "--set", "alpha"], "expected key=value"),
        (["cutmix", "--set", "beta=1"], "cutmix has no parameter 'beta'. Its parameters: alpha"),
        (["cutmix", "--set", "name=mixup"], "--set name: the method is cutmix"),
        (["cutmix", "--set", "prob=0.5"], "the contract tries prob with values of its own"),
        ([], "Missing argument"),
    ],
)
def test_wrong_input_exits_2_with_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert words in line
