"""What `mixbench evaluate` refuses in one line, touching nothing, and what it ignores."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
import torch

from mixbench.experiments import cli
from mixbench.experiments.data import fetch
from mixbench.experiments.errors import UserError
from mixbench.experiments.evaluation import catalogue
from mixbench.experiments.evaluation.restore import subject_of
from mixbench.experiments.store import evaluations, files
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.sweep import load
from mixbench.experiments.worker import evaluate, evaluation_files
from mixbench.experiments.worker.exit_status import NO_STORE
from tests.support import running

QUIET = ("--no-track", "--no-report")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line with which the command refuses these."""
    assert cli.main(["evaluate", "small", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    return line


@pytest.mark.parametrize("only", ["", " , "])
def test_only_nothing(sweep: SweepFolder, only: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"--only: got {only!r}, expected" in refusal(capsys, "--only", only)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("attack.epsilons=-1", "attack.epsilons.0: got -1, expected above 0 and at most 1"),
        ("attack.epsilons=[0.1, .nan]", "attack.epsilons.1: got nan, expected above 0"),
        ("attack.epsilons=[]", "attack.epsilons: got [], expected at least 1"),
        ("hiding.fractions=1", "hiding.fractions.0: got 1, expected a number below 1"),
        ("shift.dataset=digit", "shift.dataset: unknown dataset 'digit'; did you mean 'digits'"),
        ("corruption.preset=monoton", "corruption.preset: got 'monoton', expected"),
        ("corruption.files=nowhere", "corruption.files: got 'nowhere', which is no folder"),
        ("attack=3", "--set attack: expected one of its settings: epsilons, steps"),
    ],
)
def test_settings_that_are_not_allowed(setting: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        catalogue.resolve(dict([load.parse_override(setting, "")]), list(catalogue.MEASUREMENTS))
    assert words in str(caught.value) and "Tuple" not in str(caught.value)


def test_one_alone_is_a_list_of_one() -> None:
    found = catalogue.resolve({"attack.epsilons": "8/255"}, ["attack"])
    assert found["attack"]["epsilons"] == [8 / 255]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("shift.dataset=digits", "the data set of the run itself"),
        ("localisation.boxes=boxes.csv", "digits has no image files"),
        ("corruption.files=.", "holds no corruption, expected labels.npy"),
    ],
)
def test_settings_that_do_not_fit_the_data(
    sweep: SweepFolder,
    setting: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one.png").touch()
    (tmp_path / "boxes.csv").write_text("image,class,left,top,right,bottom\none.png,1,0,0,2,2\n")
    assert words in refusal(capsys, "--set", setting)
    assert not list(sweep.path.rglob(evaluations.FOLDER))


def test_a_data_set_that_cannot_be_had(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ensure = fetch.ensure

    def offline(name: str, *, verify: bool = True) -> str:
        if name == "digits":
            return ensure(name, verify=verify)
        raise UserError(f"{name}: no network")

    monkeypatch.setattr(fetch, "ensure", offline)
    # Nobody asked for that one: the rest is measured.
    wanted = catalogue.resolve({}, ["shift", "calibration"])
    datasets = [subject_of(sweep.plan()[0], torch.device("cpu"), lambda: None).config.dataset]
    assert set(catalogue.prepare(wanted, datasets)) == {"shift"}
    line = refusal(capsys, "--only", "shift,calibration")
    assert "shift: fashion_mnist: no network" in line and "--set shift.dataset=NAME" in line
    line = refusal(capsys, "--set", "shift.dataset=svhn")
    assert "shift.dataset: svhn: no network" in line
    assert not list(sweep.path.rglob(evaluations.FOLDER))


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_place_that_is_no_folder(
    sweep: SweepFolder, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = sweep.plan()[1].folder.path / evaluations.FOLDER
    if kind == "link":
        place.symlink_to(outside)
    else:
        place.touch()
    line = refusal(capsys, "--only", "calibration")
    assert f"{place}: is a {kind}, expected a folder" in line
    with pytest.raises(UserError, match="expected a folder"), running.one_thread():
        evaluate.work(sweep, catalogue.resolve({}, ["calibration"]), "cpu", "one")
    assert not list(outside.iterdir())


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"settings": SETTINGS, "metrics": [1]}',
        '{"settings": SETTINGS, "metrics": {"calibration/ece": "low"}}',
        '{"settings": SETTINGS, "metrics": {"calibration/ece": NaN}}',
        '{"settings": SETTINGS, "metrics": {}, "curves": 3}',
        "\udcff",
    ],
)
def test_what_somebody_wrote_over_is_measured_anew(sweep: SweepFolder, content: str) -> None:
    wanted = catalogue.resolve({}, ["calibration"])
    first, second = sweep.plan()
    with running.one_thread():
        evaluate.work(sweep, wanted, "cpu", "one")
    whole = evaluations.read(first.folder)["calibration"]
    path = first.folder.path / evaluations.FOLDER / "calibration.json"
    text = content.replace("SETTINGS", json.dumps(wanted["calibration"]))
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert evaluations.read(first.folder) == {}
    assert evaluations.measured(first.folder) == first.folder.result()
    assert evaluations.missing(first.folder, wanted) == ["calibration"]
    with running.one_thread():
        evaluate.work(sweep, wanted, "cpu", "two")
    assert evaluations.read(first.folder)["calibration"]["metrics"] == whole["metrics"]
    assert evaluations.missing(second.folder, wanted) == []


def test_a_time_that_is_none_counts_as_old(sweep: SweepFolder) -> None:
    run = sweep.plan()[0].folder
    evaluations.folder_of(run).mkdir()
    for provenance in ([], {"finished": "yesterday"}):
        made = {"settings": {}, "metrics": {}, "provenance": provenance}
        (evaluations.folder_of(run) / "calibration.json").write_text(json.dumps(made))
        assert evaluations.missing(run, {"calibration": {}}) == []
        assert evaluations.missing(run, {"calibration": {}}, since=1.0) == ["calibration"]


def test_images_that_changed(sweep: SweepFolder) -> None:
    run = sweep.plan()[0]
    path = run.folder.path / "result.json"
    result = json.loads(path.read_text())
    result["dataset"]["digest"] = "0" * 16
    path.write_text(json.dumps(result))
    with pytest.raises(UserError, match="the images of digits are no longer those"):
        subject_of(run, torch.device("cpu"), lambda: None)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_folder_that_can_not_be_written_to(
    sweep: SweepFolder,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wanted = catalogue.resolve({}, ["calibration", "overfitting"])
    write = files.atomic_write

    def full(path: Path, content: bytes | str) -> None:
        if path.parent.name == evaluations.FOLDER and path.stem.startswith("overfitting"):
            raise OSError(number, "no more", str(path))
        write(path, content)

    monkeypatch.setattr(evaluation_files, "atomic_write", full)
    monkeypatch.setattr(evaluations, "atomic_write", full)
    monkeypatch.setattr(evaluate.signal, "signal", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["again", str(sweep.path), "--wanted", json.dumps(wanted)])
    with running.one_thread():
        assert evaluate.main() == NO_STORE
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no more: ") and "overfitting" in line
    first, _ = sweep.plan()
    assert set(evaluations.read(first.folder)) == {"calibration"}


def test_what_failed_in_one_process_is_not_tried_in_another(
    sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mixbench.experiments.evaluation.overfitting import measure as overfitting

    wanted = catalogue.resolve({}, ["overfitting"])
    first, second = sweep.plan()
    tries = []

    def fail(*_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            # Another process that began later fails at the other run meanwhile.
            evaluations.folder_of(second.folder).mkdir()
            evaluations.fail(second.folder, "overfitting", "the same failure")
        raise RuntimeError("the planted failure")

    monkeypatch.setattr(overfitting, "measure", fail)
    with running.one_thread():
        assert evaluate.work(sweep, wanted, "cpu", "one") == 1
        assert len(tries) == 1
        # Asked for once more, both are tried.
        assert evaluate.work(sweep, wanted, "cpu", "two") == 2
    assert evaluations.failures(first.folder) == evaluations.failures(second.folder)


def test_a_result_that_can_not_be_read(
    sweep: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sweep.plan()[0].folder.path / "result.json"
    path.write_text("{")
    assert f"{path}: not readable as JSON" in refusal(capsys, "--only", "calibration")


def test_what_was_made_before_it_failed_is_no_failure(sweep: SweepFolder) -> None:
    with running.one_thread():
        evaluate.work(sweep, catalogue.resolve({}, ["calibration"]), "cpu", "one")
    first = sweep.plan()[0].folder
    evaluations.fail(first, "calibration", "made again in vain")
    assert cli.main(["evaluate", "small", "--only", "calibration", *QUIET]) == 0
