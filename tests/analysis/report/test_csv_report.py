"""Reports of a CSV: the same statistics on anybody's numbers, and one line where they can't be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixbench.analysis.report.csv_report import write_csv_report
from mixbench.experiments.errors import UserError
from tests.support.running import mixbench_here


def table(
    path: Path, effects: dict[str, float], n: int = 8, seeds: int = 1, **factors: Any
) -> Path:
    draw = np.random.default_rng(len(effects) + n)
    lines = [["method", *factors, "replicate", *(["seed"] if seeds > 1 else []), "test/accuracy"]]
    luck = draw.normal(size=n) * 0.0024
    for method, effect in effects.items():
        for replicate in range(n):
            for seed in range(seeds):
                value = 0.84 + effect + luck[replicate] + draw.normal() * 0.003
                of_seed = [str(seed)] if seeds > 1 else []
                lines.append(
                    [method, *map(str, factors.values()), str(replicate), *of_seed, f"{value:.6f}"]
                )
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return path


def verdicts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "verdicts.json").read_text())
    return found


def test_methods_are_judged_against_none(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"none": 0, "cutmix": 0.012, "mixup": 0.011, "ricap": -0.02})
    write_csv_report(path, tmp_path / "out")
    found = verdicts(tmp_path / "out")
    by = {one["label"]: one for one in found["contrasts"]}
    assert {label: one["verdict"] for label, one in by.items()} == {
        "cutmix": "better",
        "mixup": "better",
        "ricap": "worse",
    }
    assert set(found["best_set"]["all"]) == {"cutmix", "mixup"}
    assert by["cutmix"]["against"] == "none" and by["cutmix"]["n"] == 8
    assert by["cutmix"]["low"] < by["cutmix"]["difference"] < by["cutmix"]["high"]
    assert by["cutmix"]["p_better_than_margin"] > 0.9 > by["ricap"]["p_better_than_margin"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "CutMix − no mixing" in page and "Use CutMix or MixUp" in page
    assert (tmp_path / "out" / "figures" / "forest.png").is_file()


def test_factors_are_strata_and_seeds_are_averaged(tmp_path: Path) -> None:
    one = table(tmp_path / "a.csv", {"none": 0, "cutmix": 0.01}, seeds=3, dataset="x", epochs=15)
    two = table(tmp_path / "b.csv", {"none": 0, "cutmix": -0.01}, seeds=3, dataset="x", epochs=45)
    both = tmp_path / "both.csv"
    both.write_text(one.read_text() + two.read_text().partition("\n")[2])
    write_csv_report(both, tmp_path / "out")
    found = verdicts(tmp_path / "out")
    assert [one["stratum"] for one in found["contrasts"]] == [
        "dataset x, epochs 15",
        "dataset x, epochs 45",
    ]
    assert [one["verdict"] for one in found["contrasts"]] == ["better", "worse"]
    assert [one["n"] for one in found["contrasts"]] == [8, 8]
    assert found["best_set"] == {
        "dataset x, epochs 15": ["cutmix"],
        "dataset x, epochs 45": ["none"],
    }


def test_without_a_baseline_all_pairs_are_compared(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"a": 0, "b": 0.02, "c": 0.02})
    write_csv_report(path, tmp_path / "out")
    pairs = [(one["label"], one["against"]) for one in verdicts(tmp_path / "out")["contrasts"]]
    assert pairs == [("b", "a"), ("c", "a"), ("c", "b")]
    write_csv_report(path, tmp_path / "out", baseline="b")
    pairs = [(one["label"], one["against"]) for one in verdicts(tmp_path / "out")["contrasts"]]
    assert pairs == [("a", "b"), ("c", "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,replicate\nnone,0\n", "no column is a metric"),
        ("methd,replicate,accuracy\nnone,0,.8\n", "did you mean 'methd'"),
        ("method,replicate,accuracy\nnone,0,82.1\n", "line 2: accuracy: got 82.1, expected a frac"),
        ("method,replicate,accuracy\nnone,0,high\n", "line 2: accuracy: got 'high', expected a nu"),
        ("method,replicate,accuracy\nnone,x,.8\n", "line 2: replicate: got 'x'"),
        ("method,replicate,accuracy\nnone,0,.8\nnone,0,.8\n", "lines 2 and 3: the same run twice"),
        ("method,replicate,accuracy\n", "no rows"),
        ("", "not readable as CSV"),
    ],
)
def test_bad_files_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        write_csv_report(path, tmp_path / "out")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", {"none": 0, "cutmix": 0.012})
    done = mixbench_here("report", "--from", f"csv:{path}", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "Use CutMix: better by 1.2 points over no mixing." in done.stdout
    for arguments, message in (
        (("report",), "name a sweep"),
        (("report", "--from", f"csv:{path}"), "name the folder of the report with --out"),
        (("report", "--from", "excel:a.xls", "--out", "x"), "expected csv:FILE"),
        (("report", "s1", "--from", f"csv:{path}", "--out", "x"), "no sweep 's1'"),
        (("report", "--from", f"csv:{path}", "--out", str(path)), "is a file"),
    ):
        refused = mixbench_here(*arguments)
        assert refused.returncode == 2
        assert message in refused.stderr and "Traceback" not in refused.stderr
