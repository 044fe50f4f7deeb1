"""The declared question: which contrasts are tested, once each, and what the report makes of it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from mixbench.analysis.report.verdicts import of_comparison
from mixbench.analysis.statistics import contrasts
from mixbench.analysis.statistics.comparison import Comparison, compare, seed_values
from mixbench.analysis.statistics.contrasts import Stratum, Verdict, all_pairs
from mixbench.analysis.statistics.recommendation import recommend
from mixbench.analysis.tables.load import Tables, load
from mixbench.analysis.text.answer import answer
from mixbench.analysis.text.names import method_name
from mixbench.analysis.text.verdict import Summary, summarise
from mixbench.experiments.design import question as questions
from tests.support.staged_sweeps import CUTMIX, FIRST_50, MIXUP, NONE, run
from tests.support.written_sweeps import write_sweep

LAST_50 = {"name": "last_50", "phases": [{"from": 0.5, "to": 1.0}]}
ACCURACY = "test/accuracy"
EARLY_LATE = {"early": {"staging": "first_50"}, "late": {"staging": "last_50"}}
SEEDS = range(4)


def staged_runs() -> list[dict[str, Any]]:
    staged = [
        run(method, seed, staging)
        for method in (MIXUP, CUTMIX)
        for staging in (None, FIRST_50, LAST_50)
        for seed in SEEDS
    ]
    return [*(run(NONE, seed) for seed in SEEDS), *staged]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    return load(write_sweep(tmp_path_factory.mktemp("runs"), "staged", staged_runs()))


def asked(tables: Tables, baseline: str | None = None, **question: Any) -> Comparison:
    read = questions.read({"question": question})
    return compare(tables.cells, tables.runs, None, baseline, read)


def values_of(tables: Tables, method: str, staging: str) -> np.ndarray:
    rows = tables.runs
    chosen = (rows["augmentation.name"] == method) & (rows["staging.name"] == staging)
    return rows[chosen].sort_values("seed")[ACCURACY].to_numpy()


def test_named_contrasts_are_one_family_within_what_is_alike(tables: Tables) -> None:
    compared = asked(tables, contrasts=EARLY_LATE, margin=0.02)
    assert compared.declared is not None
    found = compared.declared.contrasts
    assert [(one.label, one.against, one.contrast.stratum) for one in found] == [
        ("early", "late", "mixup"),
        ("early", "late", "cutmix"),
    ]
    strata = []
    for one in found:
        method = one.contrast.stratum
        early, late = (values_of(tables, method, name) for name in ("first_50", "last_50"))
        assert one.contrast.difference == pytest.approx((early - late).mean())
        assert one.contrast.margin == 0.02
        sides = {"e": dict(enumerate(early)), "l": dict(enumerate(late))}
        strata.append(Stratum(method, sides, [("e", "l")]))
    alone = contrasts.compare(strata, margin=0.02)
    assert [one.contrast.low for one in found] == pytest.approx([one.low for one in alone])
    # Differences to the baseline are tested too, and exploratory.
    assert len(compared.of_metric(ACCURACY)) == 6
    written = json.loads(of_comparison(compared))["contrasts"]
    assert [one["label"] for one in written if one["primary"]] == ["early", "early"]
    assert sum(one["metric"] == ACCURACY for one in written) == 8


def test_the_mean_of_several_cells_is_one_side(tables: Tables) -> None:
    groups = {"staged": {"staging": ["first_50", "last_50"]}, "always": {"staging": "always"}}
    compared = asked(tables, contrasts=groups)
    assert compared.declared is not None
    by_method = {one.contrast.stratum: one for one in compared.declared.contrasts}
    for method in ("mixup", "cutmix"):
        one = by_method[method]
        mean = (values_of(tables, method, "first_50") + values_of(tables, method, "last_50")) / 2
        wanted = (mean - values_of(tables, method, "always")).mean()
        assert one.contrast.difference == pytest.approx(wanted)
        assert one.size == 2 and one.contrast.cell.count("+") == 1
    # `none` has no schedule to be compared with.
    assert compared.declared.notes == ("between staged and always, no counterpart for none",)


def test_one_contrast_has_one_test_wherever_it_is_shown(tables: Tables) -> None:
    compared = asked(tables, contrasts="all pairs")
    assert compared.declared is not None and len(compared.declared.contrasts) == 21
    known = compared.declared.by_cells
    for contrast in compared.of_metric(ACCURACY).values():
        assert contrast is known[contrast.cell, contrast.against]
    values = seed_values(tables.runs, [ACCURACY])
    keys = list(tables.cells["cell_key"])
    stratum = Stratum("all", {key: values[key, ACCURACY] for key in keys}, all_pairs(keys))
    widths = sorted(one.half_width or 0 for one in contrasts.compare([stratum]))
    assert sorted(one.half_width or 0 for one in known.values()) == pytest.approx(widths)
    written = json.loads(of_comparison(compared))["contrasts"]
    accuracies = [one for one in written if one["metric"] == ACCURACY]
    assert len(accuracies) == 21 and all(one["primary"] for one in accuracies)
    assert not any(one["primary"] for one in written if one["metric"] != ACCURACY)


def said(compared: Comparison, tables: Tables) -> Summary:
    return summarise(compared, "here", recommend(compared, tables.runs))


def test_the_baseline_asked_for_in_the_sweep_is_the_usual_test(tables: Tables) -> None:
    plain = compare(tables.cells, tables.runs)
    compared = asked(tables, margin=0.005)
    assert compared.differences == plain.differences
    words, usual = said(compared, tables), said(plain, tables)
    assert words.headline == usual.headline
    assert words.paragraph.startswith("Declared question: every configuration with its baseline")
    # Another baseline in the report is not what was declared.
    other = asked(tables, "augmentation.name=cutmix,staging.name=always", margin=0.005)
    shown = other.of_metric(ACCURACY).values()
    assert sum(other.is_declared(one, ACCURACY) for one in shown) == 0
    assert other.declared is not None and len(other.declared.contrasts) == 6
    assert "exploratory" in said(other, tables).paragraph


def test_another_metric_and_its_margin(tables: Tables) -> None:
    compared = asked(tables, metric="test/ece", margin={"test/ece": 0.04, "test/nll": 3.0})
    for key, margin in {"test/ece": 0.04, "test/nll": 3.0, ACCURACY: 0.005}.items():
        assert {one.margin for one in compared.of_metric(key).values()} == {margin}
    assert {one.verdict for one in compared.of_metric("test/nll").values()} == {"equivalent"}
    written = json.loads(of_comparison(compared))["contrasts"]
    assert {one["metric"] for one in written if one["primary"]} == {"test/ece"}
    assert "In test ECE, 6 declared contrasts" in said(compared, tables).paragraph


def test_the_best_is_a_set(tables: Tables) -> None:
    compared = asked(tables, contrasts="best")
    assert compared.declared is not None
    (best,) = compared.declared.best.values()
    words = said(compared, tables)
    assert all(name in words.paragraph for name in best)
    assert all(method_name(name) in words.headline for name in best)
    # Each cell has one contrast with the best of the others; those of the two best are the same.
    pairs = list(compared.declared.by_cells)
    assert len(pairs) == 6
    means = tables.runs.groupby("cell_key")[ACCURACY].mean().sort_values(ascending=False)
    assert all(means.index[0] in pair for pair in pairs)


def test_what_more_replicates_would_show(tables: Tables) -> None:
    question = questions.read({"question": {"contrasts": EARLY_LATE}})
    seen = []
    for planned in (None, 4, 16):
        declared = compare(tables.cells, tables.runs, None, None, question, planned).declared
        assert declared is not None
        seen.append([one.contrast.detectable or 0 for one in declared.contrasts])
    assert seen[0] == pytest.approx(seen[1], rel=0.02)
    # More replicates shrink the error by a half, and the critical value too.
    assert all(many < 0.5 * few for few, many in zip(seen[1], seen[2], strict=True))


def test_what_holds_of_several_groups_is_said_once(tables: Tables) -> None:
    compared = asked(tables, contrasts=EARLY_LATE)
    assert compared.declared is not None
    first = compared.declared.contrasts[0]
    found = tuple(
        replace(
            first,
            label=label,
            against=against,
            contrast=replace(first.contrast, stratum="all", verdict=verdict),
        )
        for label, against, verdict in (
            ("A", "none", Verdict.BETTER),
            ("B", "none", Verdict.BETTER),
            ("A", "B", Verdict.EQUIVALENT),
            ("C", "none", Verdict.WORSE),
            ("C", "B", Verdict.UNDECIDED),
        )
    )
    assert answer(compared, replace(compared.declared, contrasts=found))[0] == (
        "In test accuracy, A and B are better than none; A is equivalent to B; C is worse than "
        "none. Undecided: 1 of 5 contrasts."
    )
