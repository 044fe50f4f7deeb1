"""YAML files are read as their authors mean them, or refused with the line and the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments import cli, yaml_file
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep.load import load as load_sweep

READ: dict[str, tuple[bytes, Any]] = {
    "merge key": (
        b"m: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc:\n  <<: [*a, {z: 1, x: 7}]\n  w: 9\n",
        {"m": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2, "z": 1, "w": 9}},
    ),
    "helper for anchors": (b"x-mix: &mix {alpha: 1}\na: {<<: *mix}\n", {"a": {"alpha": 1}}),
    "leading zeros": (b"a: [010, 08, 0o10, 0x10, -007, 1_000]\n", {"a": [10, 8, 8, 16, -7, 1000]}),
    "floats": (b"a: [1e3, 1E-3, .5, 5., -0.0]\n", {"a": [1000.0, 0.001, 0.5, 5.0, 0.0]}),
    "words as keys": (b"on: 1\nno: yes\n", {"on": 1, "no": True}),
    "times and dates": (
        b"a: 1:30\nb: 24:00:00\nc: 2026-01-31\n",
        {"a": "1:30", "b": "24:00:00", "c": "2026-01-31"},
    ),
    "quoted": (b"a: '010'\n'1': \"0,5\"\nb: =\n", {"a": "010", "1": "0,5", "b": "="}),
    "byte order mark": ("\ufeffa: ä\n".encode(), {"a": "ä"}),
    "UTF-16": ("a: ä\n".encode("utf-16"), {"a": "ä"}),
    "lists of whole numbers": (b"a: [0,1,2,3]\nseeds: [0,1, 2,3]\nb: [0,1, 2, 3]\n", None),
}
_LAUGHS = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))
_MERGES = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 30))
REFUSED: dict[str, tuple[bytes, str]] = {
    "decimal comma": (b"a: 1\nb: {c: 0,5, d: 1}\n", "line 2: c: got 0,5, expected a decimal point"),
    "comma of thousands": (b"b: {c: 1,000}\n", "such as 1.000 (or 1000)"),
    "decimal commas in a list": (b"a: [0,5, 1,5]\n", "line 1: numbers with decimal commas"),
    "number as key": (b"a: {b: 1, 2: 3}\n", "line 1: the key 2 is a number, expected a name"),
    "key given twice": (b"on: 1\na: 2\non: 3\n", "line 3: the key 'on' is given twice"),
    "a list as key": (b"? [a]\n: 1\n", "line 1: a list or a mapping as a key"),
    "itself": (b"a: &a\n  b: [*a]\n", "a value that holds itself"),
    "itself, merged": (b"a: &a {<<: *a, b: 1}\n", "a value that holds itself"),
    "billions of values": (f"a0: &a0 [x]\n{_LAUGHS}".encode(), "more than 1,000,000 values"),
    "billions of keys": (f"a0: &a0 {{x: 1}}\n{_MERGES}".encode(), "more than 1,000,000 values"),
    "deep": (b"a: " + b"[" * 60 + b"]" * 60, "nested too deeply"),
    "very deep": (b"[" * 1_000, "nested too deeply"),
    "a long number": (b"a: " + b"9" * 5000, "line 1: a number of 5000 digits"),
    "set": (
        b"a: !!set {x}\n",
        "line 1: could not determine a constructor for the tag",
    ),
    "object": (
        b"a: !!python/object:os.system x\n",
        "2002:python/object:os.system'",
    ),
    "a tag that lies": (b"a: !!int abc\n", "a value that its tag does not allow"),
    "tab": (b"a:\n\tb: 1\n", "line 2: found character '\\t', a tab; indent with spaces"),
    "indentation": (b"a:\n  b: 1\n c: 2\n", "line 3: a line that does not fit those above it"),
    "latin-1": (b"a: 1\nb: \xe4\n", "line 2 is not UTF-8: byte 0xe4"),
    "UTF-16 without a mark": ("a: 1\n".encode("utf-16-le"), "the character '\\x00'"),
    "control character": (b'a: "\\0"\n', "line 1: the character '\\x00' in a text"),
    "half a character": (b'a: "\\ud800"\n', "line 1: the character '\\ud800' in a text"),
    "two documents": (b"a: 1\n---\nb: 2\n", "line 2: more than one document"),
    "empty": (b"", "got nothing, expected a mapping"),
    "list": (b"- a\n", "got a list, expected a mapping"),
}


@pytest.mark.parametrize("case", READ)
def test_read_as_meant(case: str, tmp_path: Path) -> None:
    content, expected = READ[case]
    (tmp_path / "a.yaml").write_bytes(content)
    read = yaml_file.load(tmp_path / "a.yaml", "a mapping")
    if expected is not None:
        assert read == expected
        assert repr(read) == repr(expected)  # 0.0 is not -0.0, 1 is not 1.0


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_line_and_reason(case: str, tmp_path: Path) -> None:
    content, message = REFUSED[case]
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        yaml_file.load(tmp_path / "a.yaml", "a mapping")
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


SWEEP = """
name: small
x-mix: &mix {name: cutmix, alpha: 1.0}
fixed:
  dataset: {name: digits, train_size: 200}
  training: &training {epochs: 10.0, batch_size: 1e2}
grid:
  augmentation:
    - *mix
    - {<<: *mix, alpha: 0.2}
seeds: [010, 001]
"""


def test_a_sweep_with_anchors_is_the_one_without(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    sweep = load_sweep(str(tmp_path / "a.yaml"))
    assert [run.augmentation["alpha"] for run in sweep.runs] == [1.0, 1.0, 0.2, 0.2]
    assert [run.seed for run in sweep.runs] == [10, 1, 10, 1]
    assert {(run.training.epochs, run.training.batch_size) for run in sweep.runs} == {(10, 100)}
    assert not any(key.startswith("x-") for key in sweep.spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["augmentation.alpha=0,5"], "got '0,5', expected a number above 0; did you mean 0.5?"),
        (["training.learning_rate=0,1"], "got '0,1', expected a number; did you mean 0.1?"),
        (["augmentation={name: mixup, alpha: 0,5}"], "got 0,5, expected a decimal point"),
        (["dataset.name=no"], "in quotes they are names"),
        (["training.crop=no"], "in quotes they are names); one of 'none', 'pad', 'resized'"),
        (["augmentation=&a [*a]"], "holds itself"),
        (["name=" + "x" * 5000], "expected letters, digits, dots"),
        (["description=\x1b[31m"], "expected a text file"),
    ],
)
def test_values_of_set_are_read_in_the_same_way(
    changes: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.yaml").write_text(SWEEP)
    words = [word for change in changes for word in ("--set", change)]
    assert cli.main(["plan", str(tmp_path / "a.yaml"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert len(line) < 2000


_NINE = "".join(
    f"  {key}: *n\n"
    for key in (
        *("training.batch_size", "training.crop_padding", "training.warmup"),
        *("evaluation.batch_size", "evaluation.ece_bins"),
    )
)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            f"  training.epochs: &n [1, 2, 3, 4, 5, 6, 7, 8, 9]\n{_NINE}",
            "grid: 9 x 9 x 9 x 9 x 9 x 9 = 531,441 cells, expected at most 200,000",
        ),
        (
            f"  training.epochs: {[*range(1, 501)]}\nseeds: {[*range(500)]}\n",
            "500 cells with 500 runs each are 250,000 runs, expected at most 200,000",
        ),
    ],
)
def test_more_runs_than_anybody_trains(grid: str, message: str, tmp_path: Path) -> None:
    text = f"name: big\nfixed: {{dataset: {{name: digits}}}}\ngrid:\n{grid}"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load_sweep(str(tmp_path / "a.yaml"))
