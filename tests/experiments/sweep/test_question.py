"""`question:` in a sweep: what is refused before anything is written, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mixbench.analysis.statistics.metrics import metric_of
from mixbench.experiments.cli import question as shown
from mixbench.experiments.design import question as questions
from mixbench.experiments.design.decide import Decide
from mixbench.experiments.design.decide import read as read_looks
from mixbench.experiments.errors import UserError
from mixbench.experiments.merge import flatten
from mixbench.experiments.sweep import expand, scales

FIXED = {"dataset": {"name": "digits"}, "model": {"name": "small_cnn", "width": 4}}
GRID = {"augmentation": ["mixup", "cutmix"], "staging": [None, "first_50", "last_50"]}
EARLY_LATE = {"early": {"staging": "first_50"}, "late": {"staging": "last_50"}}


def made(question: Any, overrides: dict[str, Any] | None = None, **parts: Any) -> expand.Sweep:
    spec = {"name": "test", "fixed": FIXED, "grid": GRID, "include": [{"augmentation": "none"}]}
    return expand.expand(spec | {"question": question} | parts, overrides)


def rows_of(sweep: expand.Sweep) -> dict[str, dict[str, Any]]:
    return {
        run.cell_key: {k: v for k, v in flatten(run.model_dump(mode="json")).items() if k != "seed"}
        for run in sweep.runs
    }


def test_a_question_changes_no_key() -> None:
    asked, plain = made({"contrasts": EARLY_LATE}), made(None)
    assert asked.keys == plain.keys and asked.spec["question"] == {"contrasts": EARLY_LATE}


def test_metrics_have_a_direction_and_a_margin() -> None:
    for name in (*questions.METRICS, "occlusion/patches/area"):
        # The unit of numbers to predict is the data's, and so is the margin.
        metric = metric_of(name, runs=pd.DataFrame({"data.target_sd": [50.0]}))
        assert metric.better and metric.margin
        assert questions.check_margin("margin", metric.margin, name) == metric.margin


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("baseline", "expected a mapping of metric, margin, contrasts"),
        ({"metrics": "test/ece"}, "unknown key of question 'metrics'; did you mean 'metric'"),
        ({"metric": "test/acuracy"}, "metric in question.metric 'test/acuracy'; did you mean"),
        ({"metric": ["test/ece"]}, "unknown metric in question.metric"),
        ({"metric": "test/gap"}, "unknown metric in question.metric 'test/gap'"),
        ({"metric": "occlusion/disc/area"}, "unknown metric in question 'occlusion/disc/area'"),
        ({"margin": 0}, "question.margin: got 0, expected a number above 0"),
        ({"margin": -0.1}, "question.margin: got -0.1"),
        ({"margin": "0,5"}, "question.margin: got '0,5'"),
        ({"margin": float("nan")}, "question.margin: got nan"),
        ({"margin": True}, "question.margin: got True"),
        ({"margin": 0.5}, "a fraction: 0.5 points are 0.005, and 0.5 would be 50 points"),
        ({"margin": {"test/ece": 1}}, "question.margin.test/ece: got 1, but test/ece is a frac"),
        ({"margin": {"test/loss": 1}}, "unknown metric in question.margin 'test/loss'"),
        ({"contrasts": "pairs"}, "unknown value of question.contrasts 'pairs'; did you mean"),
        ({"contrasts": {"early": "cutmix"}}, "at least two names"),
        ({"contrasts": {"a": "cutmix", "b": None}}, "question.contrasts.b: got None"),
        ({"contrasts": {"a": "cutmix", "b": {"stagging": "x"}}}, "did you mean 'staging'"),
        ({"contrasts": {"a": "cutmix", "b": "cutmux"}}, "cutmux names no cell of the sweep .there"),
        (
            {"contrasts": {**EARLY_LATE, "late": {"staging": "last_25"}}},
            "question.contrasts.late: staging.name: last_25 names no cell",
        ),
        (
            {"contrasts": {"a": "cutmix", "b": {"staging": "first_50"}}},
            "a and b both name the cell with augmentation.name|a and b both name the cell",
        ),
        (
            {
                "contrasts": {
                    "a": {"augmentation": "mixup", "staging": "first_50"},
                    "b": {"augmentation": "none", "training.epochs": 31},
                }
            },
            "training.epochs: 31 names no cell",
        ),
    ],
)
def test_a_wrong_question_is_one_line(question: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        made(question)
    assert "\n" not in str(raised.value)


def test_contrasts_that_leave_nothing_to_compare_are_refused() -> None:
    one = {"grid": {"augmentation": ["cutmix"]}, "include": None}
    for kind in questions.KINDS:
        with pytest.raises(UserError, match="one cell, which leaves nothing to compare"):
            made({"contrasts": kind}, **one)
    two = {"grid": {"augmentation": ["cutmix", "mixup"]}, "include": None}
    with pytest.raises(UserError, match="no cell trains without augmentation, which leaves"):
        made({"contrasts": "baseline"}, **two)
    with pytest.raises(UserError, match="every cell is one, which leaves"):
        made({"contrasts": "baseline"}, baseline={"training.epochs": 30}, **two)
    assert made({"contrasts": "baseline"}, baseline="mixup", **two).cells == 2
    zipped = {"augmentation": ["cutmix", "mixup"], "training.epochs": [1, 2]}
    one_axis = {"grid": {"model.width": [4]}, "include": None}
    with pytest.raises(UserError, match="a and b have no cells that are alike in all else"):
        made({"contrasts": {"a": "cutmix", "b": "mixup"}}, zip=zipped, **one_axis)
    many = {"grid": {"training.epochs": list(range(1, 200))}, "include": None}
    for kind in ("all pairs", "best"):
        with pytest.raises(UserError, match=f"{kind} of 199 cells are 19,701 contrasts"):
            made({"contrasts": kind}, **many)


def test_the_usual_and_margins_by_metric() -> None:
    assert questions.read({}) is None
    assert questions.read({"question": {"margin": 0.01}}) == questions.Question(
        margins={"test/accuracy": 0.01}
    )
    asked = questions.read({"question": {"margin": {"test/ece": 0.02}, "contrasts": "best"}})
    assert asked == questions.Question(contrasts="best", margins={"test/ece": 0.02})


def test_scales_replace_it_whole_and_overrides_may_empty_it() -> None:
    spec = {
        "name": "test",
        "fixed": FIXED,
        "grid": GRID,
        "question": {"margin": 0.01, "contrasts": EARLY_LATE},
        "scales": {"small": {"question": {"contrasts": "best"}}},
    }
    assert scales.select(spec, "small")["question"] == {"contrasts": "best"}
    # What it asks about is gone: the report says so.
    assert made({"contrasts": EARLY_LATE}, {"staging": "first_50"}).cells == 3
    with pytest.raises(UserError, match=r"question\.margin: got 0"):
        made({"margin": 0}, {"staging": "first_50"})


def test_groups_are_paired_where_all_else_is_alike() -> None:
    sweep = made(None, grid={**GRID, "training.epochs": [1, 2]})
    rows = rows_of(sweep)
    groups = {name: questions.pattern_of(pattern) for name, pattern in EARLY_LATE.items()}
    (pairing,) = questions.pairings(rows, groups)
    assert (pairing.name, pairing.against, pairing.left_out) == ("early", "late", ())
    alike = ("augmentation.name", "training.epochs")
    for (here,), (there,) in pairing.strata:
        assert [rows[here][key] for key in alike] == [rows[there][key] for key in alike]
        assert [rows[cell]["staging.name"] for cell in (here, there)] == ["first_50", "last_50"]
    assert len(pairing.strata) == 4
    # A dose is something else that varies, what it comes to in phases is not.
    grid = {"augmentation": ["mixup", "cutmix"], "staging.match_dose": [0.2, 0.3]}
    grid["staging.shape"] = ["early", "late"]
    rows = rows_of(made(None, grid=grid, include=None))
    groups = {shape: {"staging.shape": shape} for shape in ("early", "late")}
    (pairing,) = questions.pairings(rows, groups)
    assert [(len(here), len(there)) for here, there in pairing.strata] == [(1, 1)] * 4
    # Where a name stands for several cells, they are one side; schedules lack a counterpart.
    rows = rows_of(made(None))
    pattern = {"mixing": ["mixup", "cutmix"], "none": "none"}
    groups = {name: {"augmentation.name": value} for name, value in pattern.items()}
    (pairing,) = questions.pairings(rows, groups)
    assert [(len(here), len(there)) for here, there in pairing.strata] == [(2, 1)]
    assert len(pairing.left_out) == 4


def test_plan_says_what_is_asked(tmp_path: Path) -> None:
    asked = made({"contrasts": EARLY_LATE, "margin": 0.003}, replicates=10)
    assert shown.lines(asked, None) == [
        "question: 2 contrasts (early, late) in test/accuracy, margin 0.003 (0.3 points), "
        "10 replicates"
    ]
    assert shown.lines(made(None), None) == []
    assert "best of 7 cells in test/nll, margin 0.02, 1 seed" in "".join(
        shown.lines(made({"contrasts": "best", "metric": "test/nll"}), None)
    )
    assert "6 contrasts (baseline)" in shown.lines(made({"margin": 0.01}), None)[0]


@pytest.mark.parametrize(
    ("decide", "message"),
    [
        ([5, 10], "decide: got .* expected a mapping of metric, margin, looks, level"),
        ({"loks": [5]}, "unknown key of decide 'loks'; did you mean 'looks'"),
        ({"margin": 0.005}, "decide.looks: got None, expected a list"),
        ({"looks": [5, 10, 10]}, "expected numbers that rise"),
        ({"looks": [10, 5]}, r"decide.looks: got \[10, 5\], expected numbers that rise"),
        ({"looks": [1, 5]}, "expected a list of numbers of replicates from 2"),
        ({"looks": [5], "level": 5}, "decide.level: got 5, expected a number above 0"),
        ({"looks": [5], "margin": 0.5}, "decide.margin: got 0.5, but test/accuracy is a fraction"),
        ({"looks": [5], "metric": "test/ece"}, "but question.metric is 'test/accuracy'"),
        ({"looks": [5], "margin": 0.01}, "decide.margin: got 0.01, but question.margin is 0.005"),
    ],
)
def test_wrong_looks_are_one_line(decide: Any, message: str) -> None:
    asked = {"margin": 0.005, "contrasts": EARLY_LATE}
    with pytest.raises(UserError, match=message):
        made(asked, decide=decide, replicates=5)


def test_looks_are_of_the_question() -> None:
    decide = {"looks": [5, 10], "level": 0.1}
    sweep = made({"margin": 0.01, "contrasts": "best"}, decide=decide, replicates=5)
    assert sweep.keys == made(None, replicates=5).keys
    asked = questions.Question(contrasts="best", margins={"test/accuracy": 0.01})
    assert shown.lines(sweep, None) == [
        "question: the best of 7 cells in test/accuracy, margin 0.01 (1 point), 5 replicates",
        "decide: 2 looks, at 5, 10 replicates, with an error of 10% over all of them",
    ]
    assert read_looks(sweep.spec) == Decide(asked, (5, 10), 0.1)
    with pytest.raises(UserError, match="give `replicates` instead of `seeds`"):
        made(None, decide=decide)
    with pytest.raises(UserError, match="every cell is one, which leaves nothing"):
        made(None, decide=decide, replicates=5, baseline={"training.epochs": 30})
