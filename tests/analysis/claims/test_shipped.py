"""Every claim that ships is about something that its sweep contains, and its command exists."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mixbench.analysis.claims import claim as claims
from mixbench.analysis.claims.formula import parse_metric
from mixbench.analysis.claims.page import digest_line
from mixbench.analysis.claims.regimes import regimes
from mixbench.analysis.claims.study import irreproducible, published
from mixbench.analysis.tables.labels import settings
from mixbench.experiments import cli
from mixbench.experiments.design import tasks
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.bias_variance.decompose import PARTS
from mixbench.experiments.sweep import load, scales
from tests.golden import expected

ROOT = Path(__file__).parents[3]
TESTABLE = [claim for claim in claims.shipped() if claim.is_testable]
WANTED = 40
LACKING = {
    "cutmix_patches": "patch",
    "distillation_cutmix": "distillation",
}
"""What will test the claims that nothing can test yet: a measurement, or a sweep that ships."""


@cache
def rows_of(sweep: str, scale: str | None) -> dict[str, dict[str, Any]]:
    """cell_key -> flat configuration of every cell that a shipped sweep plans."""
    found = load.load(sweep, scale=scale)
    configs = {
        cell: run.model_dump(mode="json")
        for run, (_, cell) in zip(found.runs, found.keys, strict=True)
    }
    return dict(zip(configs, settings(configs.values()), strict=True))


def metrics() -> set[str]:
    folder = Path(expected.__file__).parent / "expected"
    results = json.loads((folder / "metrics_of_results.json").read_text())
    measured = json.loads((folder / "metrics_of_measurements.json").read_text())
    of_cells = {f"bias_variance/{part}" for part in PARTS}
    return {
        *results,
        *of_cells,
        *tasks.test_metrics(),
        *(name for names in measured.values() for name in names),
    }


def test_the_folklore_is_there() -> None:
    assert len(claims.shipped()) >= WANTED
    assert f"{len(claims.shipped())} sentences" in (ROOT / "README.md").read_text()
    assert len({claim.sentence for claim in claims.shipped()}) == len(claims.shipped())


@pytest.mark.parametrize("claim", TESTABLE, ids=lambda claim: claim.name)
def test_a_claim_is_tested_by_what_it_names(claim: claims.Claim) -> None:
    assert claim.sweep in load.shipped()
    for contrast in claim.contrasts:
        by_settings = {"localisation/weak/max_box_acc_v2"}  # of runs with several labels
        by_settings |= {"attack/apgd/8-255"} if "attack.also=apgd" in claim.command else set()
        if contrast.where_measured or "training.gradient_noise" in claim.command:
            by_settings |= {f"train/gradient_noise/{name}/mean" for name in ("mix", "signal")}
        assert set(parse_metric(contrast.metric)) <= metrics() | by_settings
    scale = None
    for command in claim.command.split(" && "):
        program, verb, sweep, *options = shlex.split(command)
        folder = claim.sweep if verb == "sweep" or not scale else f"{claim.sweep}_{scale}"
        assert (program, sweep) == ("mixbench", folder)
        if verb == "sweep":
            scale = dict(zip(options[::2], options[1::2], strict=True)).get("--scale")
        else:
            option, names, *given = options
            assert (verb, option) == ("evaluate", "--only")
            assert given in ([], ["--set", "attack.also=apgd"])
            measured = catalogue.chosen(names.split(","))
            used = {name for one in claim.contrasts for name in parse_metric(one.metric)}
            assert {name.partition("/")[0] for name in used} == set(measured)
    assert (scale is None) == (not scales.names(load.read_spec(claim.sweep)))
    found = regimes(claim, rows_of(claim.sweep, scale))
    assert found, f"{claim.command} has no cells for {claim.name}"
    assert all(len(set(regime.cells.values())) == len(regime.cells) for regime in found)


def test_what_can_be_tested_is_no_longer_called_missing() -> None:
    """Whoever adds a measurement or a sweep writes the contrast of the claim that waits for it."""
    there = {*catalogue.MEASUREMENTS, *load.shipped()}
    missing = {claim.name for claim in claims.shipped() if not claim.is_testable}
    assert missing == {name for name, by in LACKING.items() if by not in there}


def test_main_judges_its_six_regimes_apart() -> None:
    (accuracy,) = claims.chosen(["cutmix_accuracy"])
    found = regimes(accuracy, rows_of("main", None))
    assert len(found) == 6 and all(len(cells) == 1 for one in found for cells in one.cells.values())


def test_transfer_is_judged_by_what_is_frozen_and_by_rate() -> None:
    rows = rows_of("transfer", "quick")
    early, low, cautious = claims.chosen(
        ["transfer_early_unfreezing", "transfer_low_rate", "staging_cautious"]
    )
    frozen = {"transfer.freeze": "all", "transfer.unfreeze": None}
    for claim in (early, low):
        found = regimes(claim, rows)
        assert found and not any(frozen.items() <= one.setting.items() for one in found)
    always = {one.cells["always"][0] for one in regimes(cautious, rows)}
    assert {rows[cell]["augmentation.prob"] for cell in always} == {1.0}, "full against full"


def test_the_committed_page_is_made_from_what_is_committed() -> None:
    page = ROOT / "results" / "claims.md"
    """Without the reports that nobody can make again."""
    studies = published(ROOT / "results")
    commits = {path.name: (path / "runs.csv").read_text() for path in studies}
    assert "demo" in commits and not any("+changes" in text for text in commits.values())
    assert not set(studies) & set(irreproducible(ROOT / "results"))
    line = digest_line(studies)
    assert line in page.read_text(), "run: mixbench claims results --write results/claims.md"


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    demo = str(ROOT / "results" / "demo")
    # Given twice, both count.
    only = ("--only", "cutmix_accuracy", "--only", "vit_gain,cutmix_accuracy")
    assert cli.main(["claims", demo, *only, "--json"]) == 0
    judged, untested = json.loads(capsys.readouterr().out)["judgements"]
    assert judged["verdict"] == "supported" and judged["n"] == 5 and len(judged["run_keys"]) == 10
    assert judged["contrasts"][0]["low"] > 0 and "45 epochs" in judged["regime"]
    assert (untested["verdict"], untested["command"]) == (
        "not tested",
        "mixbench sweep architecture --scale quick",
    )
    assert cli.main(["claims", demo, *only, "--write", str(tmp_path / "claims.md")]) == 0
    assert "CutMix is more accurate" in (tmp_path / "claims.md").read_text()
    assert cli.main(["claims", *only]) == 0
    assert capsys.readouterr().out.count("not tested: mixbench sweep") == 2
    own = tmp_path / "own.yaml"
    own.write_text("sentence: x\nsource: y\nmising: z\n")
    for words, said in (
        (("nowhere",), "no sweep 'nowhere'"),
        ((demo, "--only", "cutmix_acuracy"), "did you mean 'cutmix_accuracy'?"),
        ((demo, "--only", ","), "--only: got ','"),
        ((demo, "--file", str(own)), "did you mean 'missing'?"),
        ((str(tmp_path),), "expected a folder with runs.csv"),
        ((demo, "--write", str(tmp_path)), "--write: got"),
    ):
        assert cli.main(["claims", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1
