"""Tuning: what is tried on which replicates, how one setting is chosen, and what is refused."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest

from mixbench.experiments.design import selection, tune
from mixbench.experiments.design.selection import Tried
from mixbench.experiments.errors import UserError
from mixbench.experiments.sweep import expand
from mixbench.experiments.sweep.load import load

OVER = {"augmentation.prob": [0.5, 1], "augmentation.alpha": [0.2, 1]}
METHODS = [{"name": "none"}, {"name": "cutmix"}, {"name": "cutout", "size": 3}]


def spec(**parts: Any) -> dict[str, Any]:
    return {
        "name": "tuned",
        "fixed": {
            "dataset": {"name": "digits", "train_size": 200},
            "model": {"name": "small_cnn", "width": 4},
            "training": {"epochs": 2, "batch_size": 64},
        },
        "grid": {"augmentation": METHODS},
        "replicates": 2,
        "tune": {"over": OVER, "replicates": 3},
    } | parts


def untuned(**parts: Any) -> expand.Sweep:
    described = {**spec(), **parts}
    return expand.expand({key: value for key, value in described.items() if key != "tune"})


def parts_of(sweep: expand.Sweep) -> Counter[tuple[str, str]]:
    return Counter(
        (run.augmentation["name"], sweep.tune.get(run_key, {}).get("part", ""))
        for run, (run_key, _) in zip(sweep.runs, sweep.keys, strict=True)
    )


def test_each_cell_is_tuned_over_what_it_has_on_replicates_of_its_own() -> None:
    found = expand.expand(spec())
    assert parts_of(found) == {
        ("none", ""): 2,
        ("cutmix", "tuning"): 4 * 3,
        ("cutmix", "tuned"): 2,
        ("cutmix", "default"): 2,
        ("cutout", "tuning"): 2 * 3,
        ("cutout", "tuned"): 2,
        ("cutout", "default"): 2,
    }
    assert found.cells == 5
    drawn = {
        (run.replicate, run.seed, run.dataset.split_seed)
        for run, (run_key, _) in zip(found.runs, found.keys, strict=True)
        if found.is_tuning(run_key)
    }
    first = tune.FIRST_REPLICATE
    assert drawn == {(number, number, number) for number in range(first, first + 3)}
    # Untuned and default runs are the runs of the sweep without tuning, by their keys.
    plain = dict(untuned().keys)
    parts = {key: part["part"] for key, part in found.tune.items()}
    own = {key: cell for key, cell in found.keys if parts.get(key, "default") == "default"}
    assert own == plain


def test_a_final_run_can_become_the_run_of_each_setting() -> None:
    found = expand.expand(spec())
    wanted = untuned(grid={"augmentation": ["cutmix"], **OVER})
    by_draw = {
        (run.augmentation["prob"], run.augmentation["alpha"], run.replicate): run_key
        for run, (run_key, _) in zip(wanted.runs, wanted.keys, strict=True)
    }
    tuned = [
        (run, found.tune[run_key])
        for run, (run_key, _) in zip(found.runs, found.keys, strict=True)
        if run.augmentation["name"] == "cutmix" and found.tune[run_key]["part"] == "tuned"
    ]
    assert [run.replicate for run, _ in tuned] == [0, 1]
    for run, part in tuned:
        settings = {tuple(one["values"].values()): one["run_key"] for one in part["settings"]}
        assert len(settings) == 4
        for (prob, alpha), run_key in settings.items():
            assert run_key == by_draw[prob, alpha, run.replicate]


def test_what_decides_the_choice_decides_the_cell_and_more_final_replicates_do_not() -> None:
    def cells(**parts: Any) -> set[str]:
        sweep = expand.expand(spec(**parts))
        return {cell for key, cell in sweep.keys if sweep.tune.get(key, {}).get("part") == "tuned"}

    first = cells()
    assert len(first) == 2 and cells(replicates=5) == first
    assert cells(tune={"over": OVER, "replicates": 3, "default": False}) == first
    for changed in (
        {"over": OVER, "replicates": 4},
        {"over": OVER, "replicates": 3, "rule": "one_se"},
        {"over": OVER, "replicates": 3, "metric": "validation/accuracy"},
        {"over": {**OVER, "augmentation.prob": [0.25, 1]}, "replicates": 3},
    ):
        assert not cells(tune=changed) & first
    without = parts_of(expand.expand(spec(tune={"over": OVER, "default": False})))
    assert ("cutmix", "default") not in without and without["cutmix", "tuning"] == 4 * 5


def test_pretrainings_are_there_for_the_replicates_of_runs_that_start_from_them() -> None:
    found = expand.expand(
        spec(
            pretrain={
                "other": {"dataset": {"name": "digits", "split_seed": 1}},
                "for_none": {"dataset": {"name": "digits", "split_seed": 2}},
            },
            grid={"training.epochs": [2]},
            zip={
                "augmentation": ["none", "cutmix"],
                "transfer.weights": ["pretrain:for_none", "pretrain:other"],
            },
        )
    )
    replicates: dict[str, list[int | None]] = {}
    for run, (_, cell) in zip(found.runs, found.keys, strict=True):
        if cell in found.pretraining:
            replicates.setdefault(cell, []).append(run.replicate)
    first = tune.FIRST_REPLICATE
    assert sorted(replicates.values(), key=len) == [[0, 1], [0, 1, first, first + 1, first + 2]]


def test_an_override_fixes_what_would_be_tuned() -> None:
    found = expand.expand(spec(), {"augmentation.prob": 0.5})
    values = {tuple(part["values"]) for part in found.tune.values() if part["part"] == "tuning"}
    assert values == {("augmentation.alpha",)}
    assert ("cutout", "tuning") not in parts_of(found)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no mapping": ({"tune": [1]}, "tune: got [1], expected a mapping of over, replicates"),
    "unknown key": ({"tune": {"ovr": OVER}}, "unknown key of tune 'ovr'; did you mean 'over'?"),
    "nothing to try": ({"tune": {"replicates": 3}}, "tune.over: got None, expected a mapping"),
    "one value": (
        {"tune": {"over": {"augmentation.prob": [1]}}},
        "tune.over.augmentation.prob: got [1], expected a list of at least two values",
    ),
    "a value twice": (
        {"tune": {"over": {"augmentation.prob": [1, 1]}}},
        "expected a list of at least two values, each once",
    ),
    "the same once filled in": (
        {"tune": {"over": {"augmentation.prob": [1, 1.0]}}},
        "augmentation.prob 1 and augmentation.prob 1.0 are the same run",
    ),
    "a value that is not allowed": (
        {"tune": {"over": {"augmentation.prob": [0.5, 2]}}},
        "tune.over (augmentation.prob 2): augmentation: cutmix.prob: got 2, expected a number",
    ),
    "no such parameter": (
        {"tune": {"over": {"augmentation.alhpa": [1, 2]}}},
        "no cell of the sweep has 'augmentation.alhpa'; did you mean 'augmentation.alpha'?",
    ),
    "no such key": (
        {"tune": {"over": {"training.learning_rat": [1, 2]}}},
        "unknown key of training in tune.over 'learning_rat'; did you mean 'learning_rate'?",
    ),
    "data": (
        {"tune": {"over": {"dataset.train_size": [100, 200]}}},
        "unknown section in tune.over 'dataset'",
    ),
    "methods": (
        {"tune": {"over": {"augmentation": ["cutmix", "mixup"]}}},
        "methods are compared, not tuned",
    ),
    "overlap": (
        {"replicates": 12, "tune": {"over": OVER, "replicates": [9, 10, 50]}},
        "tune.replicates: got [9, 10, 50], but 9, 10 are among the final `replicates` too",
    ),
    "no replicates": (
        {"tune": {"over": OVER, "replicates": 0}},
        "tune.replicates: got 0, expected how many",
    ),
    "test data": (
        {"tune": {"over": OVER, "metric": "test/accuracy"}},
        "tune.metric: got 'test/accuracy', but a setting is chosen on validation data alone",
    ),
    "unknown metric": (
        {"tune": {"over": OVER, "metric": "validation/nl"}},
        "unknown metric in tune.metric 'validation/nl'; did you mean 'validation/nll'?",
    ),
    "unknown rule": (
        {"tune": {"over": OVER, "rule": "one-se"}},
        "unknown value of tune.rule 'one-se'; did you mean 'one_se'?",
    ),
    "no standard error": (
        {"tune": {"over": OVER, "rule": "one_se", "replicates": 1}},
        "tune.rule: one_se needs the standard error over at least 2 tuning replicates, got 1",
    ),
    "default": (
        {"tune": {"over": OVER, "default": "yes"}},
        "tune.default: got 'yes', expected true or false",
    ),
    "shares that fall": (
        {"tune": {"over": OVER, "halving": {"at": [0.6, 0.3]}}},
        "tune.halving.at: got [0.6, 0.3], expected shares that rise",
    ),
    "shares that are none": (
        {"tune": {"over": OVER, "halving": {"at": [1]}}},
        "tune.halving.at: got [1], expected a list of shares of the training above 0 and below 1",
    ),
    "a look without validation": (
        {
            "tune": {"over": OVER, "halving": {"at": [0.5]}},
            "fixed": {
                "dataset": {"name": "digits", "train_size": 200},
                "model": {"name": "small_cnn", "width": 4},
                "training": {"epochs": 4, "batch_size": 64, "validate_every": 3},
            },
        },
        "tune.halving.at: got [0.5], which looks at epoch 2, but training.validate_every is 3",
    ),
    "all are kept": (
        {"tune": {"over": OVER, "halving": {"at": [0.5], "keep": 1}}},
        "tune.halving.keep: got 1, expected a share above 0 and below 1",
    ),
    "cells that are one once tuned": (
        {"grid": {"augmentation": ["cutmix", {"name": "cutmix", "alpha": 2}]}},
        "two cells are the same once they are tuned over augmentation.prob, augmentation.alpha",
    ),
    "settings without end": (
        {"tune": {"over": {"augmentation.alpha": [n / 7 for n in range(1, 1200)]}}},
        "tune.over: 1199 = 1,199 settings of one cell, expected at most 1,000",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_line_for_what_can_not_be_tuned(case: str) -> None:
    parts, words = BAD[case]
    with pytest.raises(UserError) as caught:
        expand.expand(spec(**parts))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def tried(mean: float, dose: float | None = None, spread: float = 0.01, **values: Any) -> Tried:
    """A setting with three scores: mean and standard error `spread`."""
    step = spread * math.sqrt(3)
    return Tried(values, (mean - step, mean, mean + step), dose)


def test_the_best_mean_is_chosen_and_of_equal_ones_the_first() -> None:
    scores = [tried(0.5), tried(0.4), tried(0.6), tried(0.4)]
    assert selection.choose(scores, -1, "best", {}) == 1
    assert selection.choose(scores, 1, "best", {}) == 2
    assert selection.ranked(scores, -1) == [1, 3, 0, 2]
    assert scores[0].standard_error == pytest.approx(0.01)
    assert Tried({}, (0.5,)).standard_error is None


def test_one_se_takes_the_weakest_within_a_standard_error_of_the_best() -> None:
    over = {"alpha": [1, 0.2]}
    scores = [
        tried(0.400, 0.50, alpha=1),
        tried(0.409, 0.25, alpha=1),
        tried(0.411, 0.10, alpha=1),
    ]
    assert selection.choose(scores, -1, "one_se", over) == 1
    assert selection.choose(scores, -1, "best", over) == 0
    # Accuracies: higher is better.
    assert selection.choose([tried(-one.mean, one.dose) for one in scores], 1, "one_se", over) == 1
    # Doses that differ by chance are one dose: the smaller value is weaker, whatever its place.
    alike = [tried(0.400, 0.500, alpha=1), tried(0.401, 0.505, alpha=0.2)]
    assert selection.choose(alike, -1, "one_se", over) == 1
    assert selection.choose(alike[::-1], -1, "one_se", over) == 0
    # Without doses, and for what is no number, the place in the list counts.
    words = [tried(0.4, None, kind="wide"), tried(0.4, None, kind="mild")]
    assert selection.choose(words, -1, "one_se", {"kind": ["mild", "wide"]}) == 1


@pytest.mark.parametrize("rule", tune.RULES)
def test_choosing_among_equal_settings_leaves_the_final_scores_as_they_are(rule: str) -> None:
    """The score that chooses is too good; that of the final replicates, drawn anew, is not."""
    draws = random.Random(0)
    settings, replicates, sweeps = 9, 5, 4000
    chosen_by, final = [], []
    for _ in range(sweeps):
        scores = [
            Tried({"a": place}, tuple(draws.gauss(0, 1) for _ in range(replicates)), 0.1 * place)
            for place in range(settings)
        ]
        place = selection.choose(scores, -1, rule, {"a": list(range(settings))})
        finals = [[draws.gauss(0, 1) for _ in range(10)] for _ in range(settings)]
        chosen_by.append(scores[place].mean)
        final.append(sum(finals[place]) / 10)
    error = 1 / math.sqrt(10 * sweeps)
    assert abs(sum(final) / sweeps) < 4 * error
    # The least of nine means of five is 1.485 / sqrt(5) below the truth; one_se takes less of it.
    bias = sum(chosen_by) / sweeps
    assert bias == pytest.approx(-1.485 / math.sqrt(5), abs=0.03) if rule == "best" else bias < -0.2


def test_set_changes_how_a_sweep_tunes() -> None:
    found = load(
        "tuned",
        ["tune.replicates=2", "tune.rule=one_se", "tune.over.augmentation.prob=[0.25, 1]"],
    )
    declared = tune.read(found.spec)
    assert declared is not None and declared.rule == "one_se" and len(declared.replicates) == 2
    assert list(declared.over["augmentation.prob"]) == [0.25, 1]
    for text, said in (
        ("tune.rul=best", "did you mean 'rule'"),
        ("tune.rule.x=1", "valid: over, replicates, metric"),
    ):
        with pytest.raises(UserError, match=said):
            load("tuned", [text])
    with pytest.raises(UserError, match=r"--set tune.rule: the sweep has no `tune`"):
        load("demo", ["tune.rule=best"])
