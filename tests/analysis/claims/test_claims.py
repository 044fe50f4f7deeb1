"""Claims are judged as planted effects say, regime by regime, in one test for each contrast."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mixbench.analysis.claims import claim as claims
from mixbench.analysis.claims import formula, listing, study
from mixbench.analysis.claims.estimate import _range_of_smaller, _smaller
from mixbench.analysis.claims.judge import Judgement, judge, judge_all
from mixbench.analysis.claims.regimes import regimes
from mixbench.analysis.claims.study import Study
from mixbench.analysis.report import build
from mixbench.analysis.report.data import collect
from mixbench.analysis.report.sections.claims import section, study_of
from mixbench.analysis.report.verdicts import of_comparison
from mixbench.analysis.statistics.comparison import compare
from mixbench.analysis.tables.load import cells_of
from mixbench.experiments.design import question as questions
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support.written_sweeps import config, keys

NONE = {"name": "none", "prob": 1.0}
CUTMIX = {"name": "cutmix", "prob": 1.0, "alpha": 1.0}
CLAIM: dict[str, Any] = {
    "sentence": "CutMix is better.",
    "source": "a test",
    "metric": "test/accuracy",
    "cells": {"cutmix": {"augmentation": "cutmix"}, "none": {"augmentation": "none"}},
    "contrast": "cutmix - none",
    "direction": "higher",
    "margin": 0.005,
    "sweep": "main",
}


def claim(**changes: Any) -> claims.Claim:
    return claims._claim("planted", {**CLAIM, **changes})


def planted(
    *cells: tuple[dict[str, Any], dict[str, Any], float],
    n: int = 8,
    spread: float = 0.002,
    question: questions.Question | None = None,
) -> Study:
    """Cells of (augmentation, changes, mean accuracy), with a shift that the seeds share."""
    configs, rows = {}, []
    for place, (augmentation, changes, mean) in enumerate(cells):
        noise = np.random.default_rng(place)
        for seed in range(n):
            resolved = config(augmentation, seed, **changes)
            run_key, cell_key = keys(resolved)
            configs.setdefault(cell_key, resolved)
            shift = np.random.default_rng(100 + seed).normal(0, 0.01)
            value = mean + shift + noise.normal(0, spread)
            row = {"run_key": run_key, "cell_key": cell_key, "seed": seed, "state": "done"}
            rows.append({**row, "test/accuracy": value, "test/ece": 0.1 - value / 10})
    runs = pd.DataFrame(rows)
    return Study("planted", compare(cells_of(configs, configs), runs, question=question), runs)


def verdicts(study: Study, one: claims.Claim) -> dict[str, str]:
    return {found.regime: str(found.verdict) for found in judge(study, [one])}


def only(study: Study, one: claims.Claim) -> Judgement:
    (found,) = judge(study, [one])
    return found


@pytest.mark.parametrize(
    ("gain", "spread", "direction", "verdict"),
    [
        (0.03, 0.002, "higher", "supported"),
        (-0.03, 0.002, "higher", "contradicted"),
        (-0.03, 0.002, "lower", "supported"),
        (0.03, 0.002, "lower", "contradicted"),
        (0.0, 0.0005, "higher", "equivalent"),
        (0.0, 0.03, "higher", "undecided"),
        (0.0, 0.0005, "equal", "supported"),
        (0.03, 0.002, "equal", "contradicted"),
        (0.0, 0.0005, "not lower", "supported"),
        (0.03, 0.002, "not lower", "supported"),
        (-0.03, 0.002, "not lower", "contradicted"),
        (0.03, 0.002, "not higher", "contradicted"),
        (0.0, 0.03, "not higher", "undecided"),
    ],
)
def test_a_planted_effect_is_found(
    gain: float, spread: float, direction: str, verdict: str
) -> None:
    study = planted((NONE, {}, 0.8), (CUTMIX, {}, 0.8 + gain), spread=spread)
    found = only(study, claim(direction=direction))
    assert found.verdict == verdict and found.n == 8 and len(found.run_keys) == 16
    assert (found.more or 0) > 0 if verdict == "undecided" else found.more == 0
    assert ("more seed" in listing.as_text([found])) == (verdict == "undecided")


def test_each_regime_has_its_own_verdict() -> None:
    study = planted(
        *((NONE, {"training__epochs": epochs}, 0.8) for epochs in (15, 150)),
        (CUTMIX, {"training__epochs": 15}, 0.77),
        (CUTMIX, {"training__epochs": 150}, 0.83),
    )
    found = verdicts(study, claim())
    assert [title.rpartition(", ")[2] for title in found] == ["15 epochs", "150 epochs"]
    assert list(found.values()) == ["contradicted", "supported"]
    said = listing.as_text(judge(study, [claim()]))
    assert "1 supported, 1 contradicted" in said and "different in different regimes" in said
    narrowed = claim(regime={"training.epochs": ">= 100"})
    assert list(verdicts(study, narrowed).values()) == ["supported"]


def test_a_difference_of_differences_is_a_paired_t_test() -> None:
    small, large = {"dataset__train_size": 100}, {"dataset__train_size": 9000}
    study = planted(
        (NONE, small, 0.6), (CUTMIX, small, 0.7), (NONE, large, 0.8), (CUTMIX, large, 0.82)
    )
    more = claim(
        cells={
            f"{method}_{size}": {"augmentation": method, "dataset.train_size": images}
            for method in ("cutmix", "none")
            for size, images in (("small", 100), ("large", 9000))
        },
        contrast="(cutmix_small - none_small) - (cutmix_large - none_large)",
    )
    found = only(study, more)
    estimated = found.findings[0].estimated
    table = study.runs.pivot(index="seed", columns="cell_key", values="test/accuracy")
    none_small, small_mix, none_large, large_mix = (
        table[key] for key in study.comparison.cells["cell_key"]
    )
    oracle = stats.ttest_1samp((small_mix - none_small) - (large_mix - none_large), 0)
    interval = oracle.confidence_interval(0.95)
    assert estimated.low == pytest.approx(interval.low, abs=2e-4)
    assert estimated.high == pytest.approx(interval.high, abs=2e-4)
    assert found.verdict == "supported" and len(found.run_keys) == 32


def test_sizes_of_differences_are_compared_whatever_their_signs() -> None:
    def at(alpha: float) -> dict[str, Any]:
        return {**CUTMIX, "alpha": alpha}

    study = planted((at(1), {}, 0.7), (at(2), {}, 0.8), (at(3), {}, 0.76), (at(4), {}, 0.75))
    cells = {f"a{n}": {"augmentation": "cutmix", "augmentation.alpha": n} for n in (1, 2, 3, 4)}
    larger = claim(cells=cells, contrast="|a1 - a2| - |a3 - a4|")
    found = only(study, larger)
    assert found.verdict == "supported"
    assert found.findings[0].estimated.difference == pytest.approx(0.09, abs=0.005)
    turned = claim(cells=cells, contrast="|a4 - a3| - |a2 - a1|")
    assert only(study, turned).verdict == "contradicted"


def test_the_range_of_a_difference_of_sizes_is_exact() -> None:
    draws = np.random.default_rng(0)
    for _ in range(50):
        x, y = np.sort(draws.normal(size=2)), np.sort(draws.normal(size=2))
        grid = itertools.product(np.linspace(*x, 81), np.linspace(*y, 81))
        values = [_smaller(float(a), float(b)) for a, b in grid]
        low, high = _range_of_smaller((x[0], x[1]), (y[0], y[1]))
        assert low <= min(values) + 1e-12 and high >= max(values) - 1e-12
        assert low == pytest.approx(min(values), abs=0.06)
        assert high == pytest.approx(max(values), abs=0.06)


def test_methods_are_compared_where_they_are_alike_in_what_both_have() -> None:
    erasing = {"name": "random_erasing", "prob": 0.5, "fill": "mean"}
    study = planted(
        (NONE, {}, 0.8),
        *(({**CUTMIX, "prob": prob}, {}, 0.82) for prob in (0.5, 1.0)),
        (erasing, {}, 0.81),
    )
    assert len(regimes(claim(), study.rows)) == 2, "CutMix at each prob, against the same none"
    cells = {"cutmix": {"augmentation": "cutmix"}, "erasing": {"augmentation": "random_erasing"}}
    against = claim(cells=cells, contrast="cutmix - erasing")
    settings = [dict(found.setting) for found in regimes(against, study.rows)]
    assert settings == [{"cutmix: augmentation.prob": 0.5}, {"cutmix: augmentation.prob": 1.0}]
    mixups = [({**CUTMIX, "name": "mixup", "prob": prob}, {}, 0.8) for prob in (0.5, 1.0)]
    both = planted(*(({**CUTMIX, "prob": prob}, {}, 0.8) for prob in (0.5, 1.0)), *mixups)
    groups = {"cutmix": cells["cutmix"], "mixup": {"augmentation": "mixup"}}
    pairs = claim(cells=groups, contrast="mixup - cutmix")
    assert [dict(one.setting) for one in regimes(pairs, both.rows)] == [
        {"augmentation.prob": 0.5},
        {"augmentation.prob": 1.0},
    ]


def test_all_contrasts_of_a_claim_must_hold() -> None:
    study = planted((NONE, {}, 0.8), (CUTMIX, {}, 0.83))
    ece = {"difference": "cutmix - none", "metric": "test/ece", "direction": "lower"}
    assert only(study, claim(contrast={"accuracy": "cutmix - none", "ece": {**ece}}))
    both = claim(contrast={"accuracy": "cutmix - none", "ece": {**ece, "margin": 0.0001}})
    assert only(study, both).verdict == "supported"
    other = claim(contrast={"accuracy": "cutmix - none", "ece": {**ece, "direction": "higher"}})
    assert only(study, other).verdict in ("equivalent", "contradicted")
    summed = claim(metric="test/accuracy + test/accuracy", margin=0.01)
    assert only(study, summed).findings[0].estimated.difference == pytest.approx(0.06, abs=0.005)
    assert judge(study, [claim(metric="attack/pgd/8-255")]) == [], "not measured"
    attack = {"difference": "cutmix - none", "metric": "attack/pgd/8-255", "where_measured": True}
    optional = claim(contrast={"accuracy": "cutmix - none", "attack": attack})
    (accuracy,) = only(study, optional).findings
    assert accuracy.verdict == "supported"
    ece = {**attack, "metric": "test/ece", "direction": "higher"}
    measured = claim(contrast={"accuracy": "cutmix - none", "ece": ece})
    assert only(study, measured).verdict in ("equivalent", "contradicted")


def test_a_contrast_of_the_report_keeps_its_one_test(
    full_sweep: SweepFolder, tmp_path: Path
) -> None:
    """From the sweep's folder, and from the report that was published of it."""
    data = collect(full_sweep, None)
    asked = {"question": {"contrasts": "all pairs"}}
    comparison = compare(data.tables.cells, data.tables.runs, question=questions.read(asked))
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "runs.csv").write_text(build._csv(data.tables))
    (folder / "verdicts.json").write_text(of_comparison(comparison, asked))
    shipped = claims.chosen(["cutmix_accuracy", "cutmix_ece", "fmix_shapes"])
    sweep = Study("sweep", comparison, data.tables.runs)
    published = study.of_published(folder)
    here, there = judge_all([sweep], shipped), judge_all([published], shipped)
    assert [one.verdict for one in here] == [one.verdict for one in there]
    for one, other in zip(here, there, strict=True):
        assert one.regime == other.regime and one.run_keys == other.run_keys
        first, second = one.findings[0].estimated, other.findings[0].estimated
        assert first.low == pytest.approx(second.low) and first.n == second.n == 5
    shown = pd.read_json(folder / "verdicts.json", typ="series")["contrasts"]
    lows = [r["low"] for r in shown if r["label"] == "cutmix" and r["against"] == "none"]
    assert here[0].findings[0].estimated.low == pytest.approx(lows[0])
    same = judge_all([sweep, published], shipped)
    assert len(same) == 3 and all(one.also_in == ("demo",) or one.study == "demo" for one in same)


def test_the_report_has_the_claims_that_its_sweep_can_judge(full_sweep: SweepFolder) -> None:
    data = collect(full_sweep, None)
    page = section(data)
    judged = {one.claim.sentence for one in judge(study_of(data))}
    assert {row.name for row in page["table"].rows} == judged >= {"CutMix lowers confidence."}
    hints = [row.cells[0].tip for row in page["table"].rows]
    assert all("n = 5" in hint and "30 epochs" in hint for hint in hints)
    assert any("random_erasing at prob 0.5" in hint for hint in hints)


def test_declared_contrasts_are_tested_in_their_family() -> None:
    asked = questions.read({"question": {"contrasts": "all pairs"}})
    cells = [(NONE, {}, 0.8), (CUTMIX, {}, 0.81), ({**CUTMIX, "name": "mixup"}, {}, 0.82)]
    alone, declared = planted(*cells), planted(*cells, question=asked)
    widths = []
    for one in (alone, declared):
        estimated = only(one, claim()).findings[0].estimated
        assert estimated.low is not None and estimated.high is not None
        widths.append(estimated.high - estimated.low)
    assert widths[1] > widths[0], "three declared contrasts, not two differences to the baseline"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sentense": "x"}, "did you mean 'sentence'?"),
        ({"contrast": "cutmix - nothing"}, "unknown group in contrast 'nothing'"),
        ({"contrast": "cutmix + none"}, "as many groups added as subtracted"),
        ({"contrast": "cutmix - - none"}, "with + and - between them"),
        ({"contrast": "|cutmix - none|"}, "with + and - between them"),
        ({"direction": "hihger"}, "did you mean 'higher'?"),
        ({"margin": 0}, "margin: got 0, expected a number above 0"),
        ({"cells": {"cutmix": {"augmentation": "cutmix"}}}, "two groups of cells or more"),
        ({"metric": 3}, "metric: got 3, expected text"),
        ({"missing": "a task"}, "metric: not allowed beside missing"),
        ({"regime": 3}, "regime: got 3"),
        ({"regime": {"training.epochs": "<= many"}}, "a number after the sign"),
    ],
)
def test_a_wrong_claim_is_refused_with_its_key(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        claim(**changes)
    assert said in str(caught.value)


def test_formulas() -> None:
    assert formula.parse("a-b").first == {"a": 1, "b": -1}
    assert formula.parse("(a - b) - ((c - d) + (a - b))").first == {"a": 0, "b": 0, "c": -1, "d": 1}
