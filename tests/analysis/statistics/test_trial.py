"""The answer of a trial on planted tables: right where there is one, "can't tell" where not."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.contrasts import Stratum
from mixbench.analysis.statistics.images import crossed
from mixbench.analysis.statistics.metrics import ACCURACY
from mixbench.analysis.statistics.recommendation import Option, Word, regime
from mixbench.analysis.statistics.trial import Fit, Outcome, answer_of, with_images

FIT = Fit(0.75, 0.8, 0.99, 0.12, 10, 400)
MARGIN = replace(ACCURACY, margin=0.01)


def options(gains: dict[str, float], noise: float = 0.004, n: int = 8) -> list[Option]:
    """Planted gains over no mixing, through the statistics that a report has."""
    random = np.random.default_rng(3)
    base = random.normal(0.75, 0.01, n)
    values = {"none": dict(enumerate(base.tolist()))}
    for name, gain in gains.items():
        values[name] = dict(enumerate((base + gain + random.normal(0, noise, n)).tolist()))
    stratum = Stratum("all", values, [(name, "none") for name in gains])
    found = contrasts.compare([stratum], better=1, margin=0.01, unit="replicate")
    names = {name: name for name in values}
    by_cell = {one.cell: one for one in found}
    return list(regime("", names, values, by_cell, ["none"], MARGIN).options)


def outcome(gains: dict[str, float], fit: Fit = FIT, image: float = 0.0, **given: float) -> Outcome:
    noise = given.get("noise", 0.004)
    return answer_of(options(gains, noise), dict.fromkeys(gains, image), fit).outcome


def test_a_method_that_helps_is_used_and_the_others_are_not() -> None:
    answer = answer_of(options({"cutmix": 0.04, "mixup": -0.03}), {}, FIT)
    assert answer.outcome == Outcome.USE
    assert [option.cell for option in answer.options] == ["cutmix"]


def test_what_is_shown_to_do_nothing_or_harm_is_left() -> None:
    assert outcome({"cutmix": -0.03, "mixup": 0.0}, noise=0.002) == Outcome.STAY


def test_guessing_is_told_from_one_replicate_and_no_difference_at_all_from_two() -> None:
    guessing = replace(FIT, accuracy=0.108, majority=0.133, test_images=120)
    assert answer_of(options({"cutmix": 0.0}, n=1), {}, guessing).outcome == Outcome.CANT_JUDGE
    assert answer_of(options({"cutmix": 0.0}, n=1), {}, FIT).outcome == Outcome.CANT_TELL
    same = answer_of(options({"cutmix": 0.0}, noise=0.0, n=4), {}, FIT)
    assert same.outcome == Outcome.STAY and "in each of 4 replicates" in same.reasons[0]


@pytest.mark.parametrize(
    ("gains", "changes", "words"),
    [
        ({"cutmix": 0.01}, {"noise": 0.05}, "replicates are too few"),
        ({"cutmix": 0.04}, {"image": 0.03}, "other images may turn it"),
        ({"cutmix": -0.03}, {"train": 0.41}, "learnt 41% of its training images"),
    ],
)
def test_it_says_why_it_can_not_tell(
    gains: dict[str, float], changes: dict[str, float], words: str
) -> None:
    fit = replace(FIT, train_accuracy=changes.get("train", 0.99))
    found = options(gains, changes.get("noise", 0.004))
    answer = answer_of(found, dict.fromkeys(gains, changes.get("image", 0.0)), fit)
    assert answer.outcome == Outcome.CANT_TELL
    assert words in " ".join(answer.reasons)


def test_where_all_guess_mixing_is_not_judged_whatever_the_numbers_say() -> None:
    guessing = replace(FIT, accuracy=0.13)
    assert guessing.is_guessing and not FIT.is_guessing
    assert outcome({"cutmix": 0.04}, guessing) == Outcome.CANT_JUDGE
    # Half of the images are of one class: 55 % of 100 images are no more than luck.
    assert Fit(0.55, 0.7, 0.9, 0.5, 2, 100).is_guessing
    assert not Fit(0.61, 0.7, 0.9, 0.5, 2, 100).is_guessing
    assert Fit(0.7, 14.0, 0.9, 0.1, 10, 100).is_overconfident


def test_without_runs_nothing_is_told() -> None:
    assert answer_of([], {}, None).outcome == Outcome.CANT_TELL
    single = options({"cutmix": 0.04}, n=1)
    assert answer_of(single, {}, FIT).outcome == Outcome.CANT_TELL


def test_the_interval_with_images_holds_the_truth_as_often_as_it_says() -> None:
    """Three replicates and 400 images, both drawn anew, 600 times: 95% of the intervals hold."""
    random = np.random.default_rng(5)
    held, wide = 0, []
    for _ in range(600):
        luck = random.normal(0, 0.015, (3, 1)) + random.normal(0, 0.4, 400)
        rows = 0.04 + luck + random.normal(0, 0.2, (3, 400))
        means = rows.mean(axis=1)
        error = float(means.std(ddof=1)) / 3**0.5
        half = float(stats.t.ppf(0.975, 2)) * error
        contrast: Any = SimpleNamespace(
            difference=float(means.mean()), standard_error=error, half_width=half
        )
        option = Option("cutmix", "cutmix", Word.USE, contrast, True)
        low, high = with_images(option, {"cutmix": crossed(rows).both}) or (0.0, 0.0)
        held += low <= 0.04 <= high
        wide.append((high - low) / 2)
    assert 0.93 <= held / 600 <= 0.985
    # That of the images alone, 1.96 x 0.02, is not blown up by the t quantile of two degrees.
    assert 0.04 < np.median(wide) < 0.07


def test_without_known_images_the_interval_is_that_of_replicates() -> None:
    option = next(one for one in options({"cutmix": 0.04}) if one.cell == "cutmix")
    assert option.contrast is not None
    ends = (option.contrast.low, option.contrast.high)
    assert with_images(option, {}) == pytest.approx(ends)
