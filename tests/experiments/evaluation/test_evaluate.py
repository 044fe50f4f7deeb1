"""Finished runs measured anew from their saved weights, by the command and its processes."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.base import Measured
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.store import evaluations
from mixbench.experiments.store.run_folder import PlannedRun
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import evaluate
from tests.support import running

QUICK = {
    "smoothness.images": 50,
    "boundary.images": 20,
    "patch.images": 20,
    "patch.train_steps": 2,
}


def files(sweep: SweepFolder) -> dict[str, bytes]:
    """Everything in the run folders but the evaluations."""
    return {
        str(path): path.read_bytes()
        for path in sorted((sweep.path / "runs").rglob("*"))
        if path.is_file() and evaluations.FOLDER not in path.parts
    }


def made(run: PlannedRun, name: str) -> dict[str, object]:
    return evaluations.read(run.folder)[name]


def test_every_measurement_of_every_run(sweep: SweepFolder) -> None:
    before = files(sweep)
    wanted = catalogue.resolve(
        QUICK | {"corruption.images": 20, "attack.images": 50}, catalogue.chosen([])
    )
    assert set(wanted) == set(catalogue.MEASUREMENTS)
    of_cell = {name for name in wanted if catalogue.MEASUREMENTS[name].of_cell}
    with running.one_thread():
        assert evaluate.work(sweep, wanted, "cpu", "one") == 0
    # What training left is untouched.
    assert files(sweep) == before
    for run in sweep.plan():
        found = evaluations.read(run.folder)
        assert set(found) == set(wanted) - of_cell
        # Each run is alone in its cell.
        assert set(evaluations.left_out(run.folder)) == of_cell
        result, whole = run.folder.result(), evaluations.measured(run.folder)
        assert result is not None and whole is not None
        for name, one in found.items():
            assert one["settings"] == wanted[name]
            assert all(key.startswith(f"{name}/") for key in one["metrics"])
            assert one["provenance"]["torch"] == torch.__version__
            assert one["metrics"].items() <= whole["metrics"].items()
        assert result["metrics"].items() <= whole["metrics"].items()
        # The same network on the same images: what training measured comes out again.
        ece = pytest.approx(result["metrics"]["test/ece"], rel=1e-12)  # summed in another order
        assert whole["metrics"]["calibration/ece"] == ece
        assert whole["metrics"]["overfitting/train/accuracy"] == result["metrics"]["train/accuracy"]
        # Figures of one measurement don't hide those of the run.
        assert whole["curves"]["reliability"] == result["curves"]["reliability"]


def test_occlusion_in_full_has_another_name() -> None:
    assert catalogue.chosen(["occlusion", "attack", "hiding"]) == ["hiding", "attack"]
    found = catalogue.resolve({"occlusion.images": 7}, ["hiding"])
    assert found["hiding"]["images"] == 7


def test_the_network_is_the_one_that_was_trained(sweep: SweepFolder) -> None:
    for run in sweep.plan():
        with running.one_thread():
            logits, labels = subject_of(run, torch.device("cpu"), lambda: None).logits("test")
        with np.load(run.folder.path / "predictions.npz") as kept:
            assert np.array_equal(kept["logits"], logits) and np.array_equal(kept["labels"], labels)


def test_only_what_is_missing_is_measured(sweep: SweepFolder) -> None:
    first, second = sweep.plan()
    wanted = catalogue.resolve({}, ["overfitting"])
    evaluate.work(sweep, wanted, "cpu", "one")
    before = made(first, "overfitting"), made(second, "overfitting")
    (second.folder.path / evaluations.FOLDER / "overfitting.json").write_text('{"metr')
    evaluate.work(sweep, wanted, "cpu", "two")
    assert made(first, "overfitting") == before[0]
    assert made(second, "overfitting")["metrics"] == before[1]["metrics"]
    # With other settings it is another measurement, which takes the place of the one before.
    other = catalogue.resolve({"overfitting.images": 10}, ["overfitting"])
    evaluate.work(sweep, other, "cpu", "three")
    assert made(first, "overfitting")["settings"] == other["overfitting"]
    assert made(first, "overfitting")["changed"] == {"images": 10}
    # Asked for again, all is made again.
    finished = made(first, "overfitting")["provenance"]["finished"]  # type: ignore[index]
    evaluate.work(sweep, other, "cpu", "four", since=time.time())
    assert made(first, "overfitting")["provenance"]["finished"] > finished  # type: ignore[index]


def test_a_failure_stays_with_its_measurement(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixbench.experiments.evaluation.overfitting import measure as overfitting

    def fail(*_: object) -> None:
        raise RuntimeError("the planted failure")

    wanted = catalogue.resolve({}, ["calibration", "overfitting"])
    with monkeypatch.context() as patch:
        patch.setattr(overfitting, "measure", fail)
        assert evaluate.work(sweep, wanted, "cpu", "one") == 2
    for run in sweep.plan():
        assert set(evaluations.read(run.folder)) == {"calibration"}
        assert evaluations.failures(run.folder) == {
            "overfitting": "RuntimeError: the planted failure"
        }
    assert evaluate.work(sweep, wanted, "cpu", "two") == 0
    assert not any(evaluations.failures(run.folder) for run in sweep.plan())


def test_numbers_of_numpy_and_torch_are_written_as_python_s(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixbench.experiments.evaluation.overfitting import measure as overfitting

    value: Any = np.float32(0.25)
    numbers = [np.float32(0.5), torch.tensor(0.5), np.int64(3), np.array(4)]
    monkeypatch.setattr(
        overfitting,
        "measure",
        lambda *_: Measured({"overfitting/gap": value}, {"values": numbers}),
    )
    wanted = catalogue.resolve({}, ["overfitting"])
    first = sweep.plan()[0]
    assert evaluate.work(sweep, wanted, "cpu", "one") == 0
    assert made(first, "overfitting")["metrics"] == {"overfitting/gap": 0.25}
    assert made(first, "overfitting")["curves"] == {"values": [0.5, 0.5, 3, 4]}


@pytest.mark.parametrize("value", [np.float32("nan"), np.zeros(2), object()])
def test_what_json_can_not_hold_fails_its_measurement_alone(
    value: Any, sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixbench.experiments.evaluation.overfitting import measure as overfitting

    monkeypatch.setattr(overfitting, "measure", lambda *_: Measured({"overfitting/gap": value}))
    wanted = catalogue.resolve({}, ["calibration", "overfitting"])
    assert evaluate.work(sweep, wanted, "cpu", "one") == 2
    for run in sweep.plan():
        assert set(evaluations.read(run.folder)) == {"calibration"}
        assert "JSON" in evaluations.failures(run.folder)["overfitting"]


def test_killed_in_the_midst_another_process_goes_on(sweep: SweepFolder) -> None:
    quick = {"smoothness.images": 50}
    wanted = catalogue.resolve(quick, ["calibration", "overfitting", "smoothness"])
    command = (
        *(sys.executable, "-m", "mixbench.experiments.worker.evaluate", str(sweep.path)),
        *("--threads", "1", "--wanted", json.dumps(wanted)),
    )
    killed = running.start(*command)
    first, _ = sweep.plan()
    running.wait_until(lambda: evaluations.read(first.folder), "a first measurement")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    kept = evaluations.read(first.folder)
    torn = list((first.folder.path / evaluations.FOLDER).glob(".*"))
    other = running.start(*command)
    with running.one_thread():
        assert evaluate.work(sweep, wanted, "cpu", "here") == 0
    assert other.communicate(timeout=300) == ("", "") and other.returncode == 0
    for run in sweep.plan():
        assert set(evaluations.read(run.folder)) == set(wanted)
        # But for what was being written when the process was killed.
        assert set((run.folder.path / evaluations.FOLDER).glob(".*")) <= set(torn)
    assert evaluations.read(first.folder).items() >= kept.items()


def test_the_command(sweep: SweepFolder) -> None:
    before = files(sweep)
    done = running.mixbench(
        "evaluate",
        "small",
        "--only",
        "calibration",
        "--only",
        "overfitting",
        "--workers",
        "1",
        "--no-track",
        "--no-report",
    )
    assert done.returncode == 0, done.stderr
    assert "calibration, overfitting of 2 runs; 0 are measured already" in done.stdout
    assert "2 of 2 runs measured" in done.stdout and "report:" not in done.stdout
    repeated = running.mixbench_here("evaluate", "small", "--only", "calibration", "--no-track")
    assert repeated.returncode == 0
    assert repeated.stdout.startswith("small: calibration of 0 runs; 2 are measured already")
    assert "report:" in repeated.stdout
    whole = (sweep.path / "report" / "report.md").read_text()
    assert "Further measurements" in whole
    assert files(sweep) == before


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command refuses these."""
    assert cli.main(["evaluate", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["smal"], "no sweep 'smal'"),
        (["small", "--only", "calibratoin", "--only", "shift"], "did you mean 'calibration'?"),
        (["small", "--set", "attack.step=3"], "did you mean 'steps'?"),
        (["small", "--set", "attack.epsilons=[2]"], "got 2, expected above 0 and at most 1"),
        (
            ["small", "--only", "calibration", "--set", "attack.steps=3"],
            "attack is not among what is measured",
        ),
        (["small", "--set", "attack"], "expected key=value"),
        (["small", "--workers", "0"], "--workers"),
    ],
)
def test_bad_input(
    sweep: SweepFolder, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in refusal(capsys, *arguments)
    assert not list(sweep.path.rglob(evaluations.FOLDER))


def test_without_weights_nothing_is_begun(
    sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    _, second = sweep.plan()
    (second.folder.path / "checkpoint.pt").unlink()
    line = refusal(capsys, "small", "--only", "calibration")
    assert line.startswith(f"mixbench: no saved weights of {second.run_key}")
    assert not list(sweep.path.rglob(evaluations.FOLDER))


@pytest.mark.parametrize("content", [b"", b"PK damaged", None])
def test_with_weights_of_another_kind_nothing_is_begun(
    sweep: SweepFolder, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep.plan()[1].folder.path / "checkpoint.pt"
    if content is None:
        torch.save(torch.load(path, weights_only=True) | {"version": 1}, path)
    else:
        path.write_bytes(content)
    line = refusal(capsys, "small", "--only", "calibration")
    assert "damaged or of another version of mixbench: " + path.parent.name in line
    assert not list(sweep.path.rglob(evaluations.FOLDER))


def test_weights_that_do_not_fit(sweep: SweepFolder) -> None:
    first, _ = sweep.plan()
    path = first.folder.path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, "version": 1}, path)
    with pytest.raises(UserError, match="are of another version"):
        subject_of(first, torch.device("cpu"), lambda: None)
    state["network"].pop("classifier.bias")
    torch.save(state, path)
    with pytest.raises(UserError, match=r"its weights don't fit the network"):
        subject_of(first, torch.device("cpu"), lambda: None)


def test_what_is_slow_is_measured_by_name_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # A user is told what each costs.
    assert all(one.seconds for one in catalogue.MEASUREMENTS.values())
    slow = dataclasses.replace(catalogue.MEASUREMENTS["attack"], seconds=10.5)
    monkeypatch.setitem(catalogue.MEASUREMENTS, "attack", slow)
    assert "attack" not in catalogue.chosen([])
    assert catalogue.chosen(["attack"]) == ["attack"]
    assert cli.main(["list", "measurements"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^  attack .*\(10 s; only by name\)$", printed, re.M), printed
