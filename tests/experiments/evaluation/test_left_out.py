"""A measurement that can't be made of a network is said, left out, and no failure."""

from __future__ import annotations

import time

import pytest

from mixbench.experiments import cli
from mixbench.experiments.errors import Impossible
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.localisation import measure
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import evaluate
from tests.support import running

WHY = "no part of the network has a spatial output"


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Localisation of a network without places; grows with every try."""
    found: list[str] = []

    def without_places(*_: object) -> None:
        found.append("tried")
        raise Impossible(WHY)

    monkeypatch.setattr(measure, "measure", without_places)
    return found


def test_it_is_no_failure_and_not_tried_again(
    sweep: SweepFolder, tried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = catalogue.resolve({}, ["calibration", "localisation"])
    with running.one_thread():
        assert evaluate.work(sweep, wanted, "cpu", "one") == 0
    assert capsys.readouterr().out == "" and len(tried) == 2
    for run in sweep.plan():
        assert set(evaluations.read(run.folder)) == {"calibration"}
        assert evaluations.left_out(run.folder) == {"localisation": WHY}
        assert evaluations.failures(run.folder) == {}
        assert evaluations.missing(run.folder, wanted) == []
    evaluate.work(sweep, wanted, "cpu", "two")
    assert len(tried) == 2
    # With other settings it may be possible, and with --again.
    evaluate.work(
        sweep, catalogue.resolve({"localisation.grid": 3}, ["localisation"]), "cpu", "three"
    )
    assert len(tried) == 4
    evaluate.work(sweep, wanted, "cpu", "four", since=time.time())
    assert len(tried) == 6


def test_the_command_says_so(
    sweep: SweepFolder, tried: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with running.one_thread():
        evaluate.work(
            sweep, catalogue.resolve({}, catalogue.chosen(["localisation"])), "cpu", "one"
        )
        rest = [name for name in catalogue.MEASUREMENTS if name != "localisation"]
        for run in sweep.plan():
            for name, settings in catalogue.resolve({}, rest).items():
                path = run.folder.path / evaluations.FOLDER / f"{name}.json"
                path.write_text(evaluations.dump({"settings": settings, "metrics": {}}))
    quiet = ["small", "--no-track", "--no-report"]
    assert cli.main(["evaluate", *quiet]) == 0
    assert f"left out: localisation of 2 runs: {WHY}\n" in capsys.readouterr().out
    # Asked for by name it is a failure.
    assert cli.main(["evaluate", *quiet, "--only", "localisation"]) == 1
    assert f"left out: localisation of 2 runs: {WHY}\n" in capsys.readouterr().out
