"""What to use: the words follow from verdicts and best sets, and the sentence from the words."""

from __future__ import annotations

import math

import pandas as pd
import pytest

import mixbench
from mixbench.analysis.statistics import contrasts, recommendation
from mixbench.analysis.statistics.contrasts import Stratum, Verdict, many_to_one
from mixbench.analysis.statistics.costs import PASSES
from mixbench.analysis.statistics.goals import GOALS, measured_goals
from mixbench.analysis.statistics.metrics import ACCURACY
from mixbench.analysis.statistics.recommendation import Advice, Regime, Word, regime, turned
from mixbench.analysis.text.advice import advice_sentence

WOBBLE = (0.0, 0.002, -0.001, 0.001, -0.002, 0.0)
"""What a replicate adds to all; each method has a little of its own on top."""
OWN = {"mixup": (1, -1, 0, 0, 1, -1), "cutmix": (0, 1, 1, -1, -1, 0), "fmix": (-1, 0, 1, 1, 0, -1)}


def advised(title: str = "", **gains: float) -> Regime:
    """The advice on methods that are so much better than none, on six replicates."""
    values = {"none": {r: 0.8 + shift for r, shift in enumerate(WOBBLE)}}
    for name, gain in gains.items():
        own = OWN.get(name, (1, 0, -1, 1, -1, 0))
        values[name] = {r: values["none"][r] + gain + 0.0005 * own[r] for r in range(6)}
    stratum = Stratum(title, values, many_to_one(list(values), "none"))
    found = {c.cell: c for c in contrasts.compare([stratum], margin=ACCURACY.margin)}
    names = {name: name for name in values}
    return regime(title, names, values, found, ["none"], ACCURACY)


def said(*regimes: Regime) -> str:
    return advice_sentence(Advice(ACCURACY, "replicate", regimes))


def test_words_and_sentence_of_one_regime() -> None:
    found = advised(cutmix=0.03, mixup=0.0298, fmix=0.01, cutout=0.0, ricap=-0.02)
    assert {option.name: option.word for option in found.options} == {
        "cutmix": Word.USE,
        "mixup": Word.USE,
        "fmix": Word.NOT_BEST,
        "cutout": Word.NO_WORSE,
        "none": Word.BASELINE,
        "ricap": Word.AVOID,
    }
    assert [option.name for option in found.options][-1] == "ricap"
    assert said(found) == (
        "Use CutMix or MixUp: better by 3.0 points over no mixing, and they can't be told apart "
        "here. FMix is better than no mixing too. Avoid RICAP."
    )
    tuned = advised(**{"cutmix": 0.03, "mixup default": 0.01})
    assert said(tuned).endswith(". Untuned MixUp is better than no mixing too.")
    assert (
        said(advised(cutmix=-0.02)) == "Stay with no mixing: nothing is better here. Avoid CutMix."
    )


def test_regimes_are_told_by_what_sets_them_apart() -> None:
    short = advised("epochs 15 · flip no", cutmix=-0.03, ricap=-0.02)
    middle = advised("epochs 45 · flip no", cutmix=0.02, ricap=-0.02)
    long = advised("epochs 150 · flip no", cutmix=0.02, ricap=-0.02)
    assert said(short, middle, long) == (
        "Use CutMix at 45 and 150 epochs. Nothing is shown to beat no mixing at 15 epochs. "
        "Avoid RICAP."
    )
    assert said(middle, long) == "Use CutMix, in both regimes. Avoid RICAP."


def test_without_a_baseline_each_is_compared_with_the_best_of_the_others() -> None:
    values = {
        "a": dict(enumerate((0.80, 0.82, 0.81, 0.83))),
        "b": dict(enumerate((0.90, 0.923, 0.91, 0.93))),
        "c": dict(enumerate((0.90, 0.92, 0.914, 0.93))),
    }
    stratum = Stratum("all", values, contrasts.all_pairs(["a", "b", "c"]))
    tested = {(c.cell, c.against): c for c in contrasts.compare([stratum], margin=0.005)}
    there = turned(tested["b", "a"], 1)
    assert (there.cell, there.against, there.verdict) == ("a", "b", Verdict.WORSE)
    assert there.low == -tested["b", "a"].high  # type: ignore[operator]
    back = turned(there, 1)
    assert back.p_better == pytest.approx(tested["b", "a"].p_better)
    assert math.isclose(back.difference, tested["b", "a"].difference)  # type: ignore[arg-type]


def test_goals_are_what_was_measured_and_rectangles_come_last() -> None:
    runs = pd.DataFrame({"test/ece": [0.1], "hiding/area": [0.5], "hiding/others/area": [0.4]})
    found = measured_goals(runs.assign(**{"corruption/mean": [None]}))
    assert {goal: metric.key for goal, metric in found.items()} == {
        "calibration": "test/ece",
        "occlusion": "hiding/others/area",
    }
    assert all(metric.better and metric.margin for one in GOALS.values() for metric in one)


def test_how_often_a_method_mixes_is_named_where_it_is_unusual() -> None:
    cells = pd.DataFrame(
        {
            "cell_key": list("abcde"),
            "series": ["none", "cutmix", "mixup", "random_erasing", "late"],
            "augmentation.name": ["none", "cutmix", "mixup", "random_erasing", "cutmix"],
            "augmentation.prob": [None, 0.5, 1.0, 0.5, 0.25],
        }
    )
    names = recommendation._names(cells)
    assert list(names.values()) == ["none", "cutmix prob=0.5", "mixup", "random_erasing", "late"]
    assert list(recommendation._names(cells.drop(columns="augmentation.prob")).values())[1] == (
        "cutmix"
    )
    for name in mixbench.available():
        usual = recommendation.USUAL_PROB.get(name, 1.0)
        assert getattr(mixbench.create(name), "prob", usual) == usual, name
        assert mixbench.create(name).passes == PASSES.get(name, 0), name
