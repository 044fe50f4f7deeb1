"""Whatever is wrong with the input: one clear line, exit status 2, nothing written."""

from __future__ import annotations

import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from mixbench.experiments import cli
from tests.support import running

GOOD: dict[str, Any] = running.spec("good")


def changed(**parts: Any) -> dict[str, Any]:
    """The good sweep with other parts; keys of `fixed` are given as fixed__section."""
    result = {key: value for key, value in GOOD.items() if not (key == "grid" and "grid" in parts)}
    for key, value in parts.items():
        part, _, section = key.partition("__")
        result[part] = {**GOOD[part], section: value} if section else value
    return result


SWEEPS: dict[str, tuple[Any, str]] = {
    "unknown augmentation": (
        changed(grid={"augmentation": ["none", {"name": "cutmx"}]}),
        "did you mean 'cutmix'?",
    ),
    "unknown parameter": (
        changed(grid={"augmentation": [{"name": "cutmix", "alhpa": 1}]}),
        "did you mean 'alpha'?",
    ),
    "unknown dataset": (
        changed(fixed__dataset={"name": "fashonmnist"}),
        "did you mean 'fashion_mnist'?",
    ),
    "unknown model": (changed(fixed__model={"name": "resnet2"}), "did you mean 'resnet20'?"),
    "unknown timm model": (
        changed(fixed__model={"name": "timm/resnet81"}),
        "unknown timm model 'resnet81'; did you",
    ),
    "unknown key": (changed(fixed__training={"epoch": 3}), "did you mean 'epochs'?"),
    "unknown section": (changed(fixed__trainning={}), "did you mean 'training'?"),
    "unknown part": (changed(seed=[1]), "did you mean 'seeds'?"),
    "alpha 0": (
        changed(grid={"augmentation": [{"name": "mixup", "alpha": 0}]}),
        "mixup.alpha: got 0, expected a number above 0",
    ),
    "alpha below 0": (
        changed(grid={"augmentation.alpha": [-1.0], "augmentation": ["mixup"]}),
        "mixup.alpha: got -1.0, expected a number above 0",
    ),
    "alpha is text": (
        changed(grid={"augmentation": [{"name": "mixup", "alpha": "much"}]}),
        "mixup.alpha: got 'much', expected a number above 0",
    ),
    "images smaller than a size": (
        changed(
            fixed__dataset={"name": "digits"},
            grid={"augmentation": ["none", {"name": "cutout", "size": 9}]},
        ),
        "augmentation: cutout.size: got 9, expected at most 8, the longer side of the images",
    ),
    "images smaller than a size, in a list": (
        changed(
            fixed__dataset={"name": "digits"},
            grid={
                "augmentation": [
                    {
                        "name": "compose",
                        "methods": [
                            "mixup",
                            {"name": "choice", "methods": [{"name": "cutout", "size": 9}]},
                        ],
                    }
                ]
            },
        ),
        "cutout.size: got 9, expected at most 8",
    ),
    "images smaller than a size, in the last of four cells": (
        changed(
            grid={
                "augmentation": ["none", {"name": "cutout", "size": 20}],
                "dataset.name": ["fashion_mnist", "digits"],
            }
        ),
        "cutout.size: got 20, expected at most 8",
    ),
    "a network of fewer layers": (
        changed(
            fixed__model={"name": "small_cnn"},
            grid={"augmentation": [{"name": "manifold_mixup", "depths": [0, 4]}]},
        ),
        "manifold_mixup mixes down to layer 4, expected at most 3, the layers of small_cnn",
    ),
    "empty grid": (changed(grid={}), "grid: empty"),
    "empty axis": (
        changed(grid={"augmentation": []}),
        "grid.augmentation: got [], expected a list of at",
    ),
    "nothing left": (
        changed(exclude=[{"augmentation.name": ["none", "cutmix"]}]),
        "has no runs: exclude",
    ),
    "duplicate cells": (
        changed(grid={"augmentation": ["mixup", {"name": "mixup", "alpha": 1.0}]}),
        "cells 1 and 2 are the same",
    ),
    "no seeds": (changed(seeds=[]), "seeds: got [], expected a list of at least one"),
    "seeds twice": (changed(seeds=[1, 1]), "seeds: got [1, 1], expected each seed once"),
    "no such folder": (
        changed(fixed__dataset={"name": "imagefolder:/no/such"}),
        "'/no/such' is not a folder",
    ),
    "name of another folder": (changed(name="../../good"), "name: got '../../good', expected"),
    "more images than there are": (
        changed(fixed__dataset={"name": "digits", "train_size": 99999}),
        "dataset.train_size: got 99999, expected at most 1438",
    ),
    "text for a number": (
        changed(fixed__training={"epochs": "ten"}),
        "training.epochs: got 'ten', expected a whole",
    ),
    "a layer that is not there": (
        changed(fixed__transfer={"freeze": 4}),
        "transfer.freeze: got layer 4, expected at most 3",
    ),
    "unfreezing after the end": (
        changed(fixed__transfer={"freeze": 1, "unfreeze": [{"at": "epoch 99", "down_to": 1}]}),
        "transfer.unfreeze: 1, at: got epoch 99, expected before the end of the training, which",
    ),
}

COMMANDS: dict[str, tuple[list[str], str]] = {
    "unknown sweep": (["sweep", "dmeo"], "unknown sweep 'dmeo'; did you mean 'demo'?"),
    "no such file": (["sweep", "none.yaml"], "sweep file 'none.yaml' does not exist"),
    "no workers": (["sweep", "good.yaml", "--workers", "0"], "--workers: got 0, expected at least"),
    "unknown device": (["sweep", "good.yaml", "--device", "tpu"], "'tpu' is not one of"),
    "unknown option": (["sweep", "good.yaml", "--worker", "2"], "No such option: --worker"),
    "unknown command": (["swep"], "No such command 'swep'"),
    "no argument": (["sweep"], "Missing argument"),
    "set without a value": (["sweep", "good.yaml", "--set", "training.epochs"], "key=value"),
    "set of an unknown key": (
        ["sweep", "good.yaml", "--set", "training.epoch=3"],
        "did you mean 'epochs'?",
    ),
    "set to no YAML": (["sweep", "good.yaml", "--set", "seeds=[1"], "not a value that YAML"),
    "set no seeds": (["sweep", "good.yaml", "--set", "seeds=[]"], "seeds: got []"),
    "a bad new name": (["sweep", "good.yaml", "--name", "a/b"], "name: got 'a/b', expected"),
    "report of nothing": (["report", "godo"], "no sweep 'godo'"),
    "track of nothing": (["track", "godo"], "no sweep 'godo'"),
    "status of nothing": (["status", "godo"], "no sweep 'godo'"),
    "status outside": (["status", "../x"], "'../x' is a path outside the sweeps folder"),
    "status of a path": (["status", "/tmp/x"], "'/tmp/x' is a path outside the sweeps folder"),
    "status twice": (["status", "good", "--json", "--watch"], "--watch: not together with --json"),
    "status of all as JSON": (["status", "--json"], "--json: give the name of a sweep"),
    "logs of nothing": (["logs", "abc"], "no run 'abc': there is no sweep in"),
    "logs outside": (["logs", "../x/abc"], "'../x' is a path outside the sweeps folder"),
    "logs of too much": (["logs", "a", "b", "c"], "got 'a b c', expected RUN, or SWEEP RUN"),
    "logs without lines": (["logs", "abc", "-n", "-1"], "--lines"),
    "retry of nothing": (["retry"], "give a sweep, runs, or --failed"),
    "retry of no run": (["retry", "abc"], "no run 'abc': there is no sweep in"),
    "cancel of nothing": (["cancel", "godo", "--yes"], "no sweep 'godo'"),
    "cancel outside": (["cancel", "..", "--yes"], "'..' is a path outside the sweeps folder"),
    "clean of nothing": (["clean", "godo", "--delete"], "no sweep 'godo'"),
    "clean outside": (["clean", "./..", "--delete"], "is a path outside the sweeps folder"),
    "plan of nothing": (["plan", "dmeo"], "unknown sweep 'dmeo'; did you mean 'demo'?"),
    "plan of no workers": (["plan", "good.yaml", "--workers", "0"], "--workers: got 0, expected"),
    "plan of no share": (
        ["plan", "good.yaml", "--workers-per-gpu", "0"],
        "--workers-per-gpu: got 0, expected",
    ),
    "plan without a profile": (
        ["plan", "good.yaml", "--cluster", "slurm"],
        "--profile: missing; --cluster slurm needs",
    ),
    "plan with no such profile": (
        ["plan", "good.yaml", "--cluster", "slurm", "--profile", "a10"],
        "unknown profile 'a10'",
    ),
    "plan with a profile here": (
        ["plan", "good.yaml", "--profile", "a100"],
        "which is for --cluster slurm alone",
    ),
    "plan of more workers on no GPU": (
        ["plan", "good.yaml", "--cluster", "slurm", "--profile", "cpu", "--workers-per-gpu", "2"],
        "--workers-per-gpu: got 2",
    ),
    "plan of no cluster": (["plan", "good.yaml", "--cluster", "pbs"], "'pbs' is not one of"),
    "preview of nothing": (["preview", "cutmx"], "did you mean 'cutmix'?"),
    "preview of no data": (["preview", "cutmix", "--dataset", "digts"], "did you mean 'digits'?"),
    "preview with no such parameter": (
        ["preview", "cutmix", "--dataset", "digits", "--set", "alhpa=1"],
        "did you mean 'alpha'?",
    ),
    "preview of images that are too small": (
        ["preview", "cutout", "--dataset", "digits", "--set", "size=9"],
        "cutout.size: got 9, expected at most 8",
    ),
    "preview of two methods": (
        ["preview", "mixup", "--dataset", "digits", "--set", "name=cutmix"],
        "--set name: the method is mixup; expected one of its parameters",
    ),
    "preview with no number": (
        ["preview", "cutmix", "--dataset", "digits", "--set", "alpha=[1"],
        "not a value that YAML",
    ),
    "preview into nowhere": (
        ["preview", "cutmix", "--dataset", "digits", "--out", "no/where.png"],
        "does not exist",
    ),
    "preview into a folder": (
        ["preview", "cutmix", "--dataset", "digits", "--out", "."],
        "'.' is a folder",
    ),
    "preview of no rows": (["preview", "cutmix", "--rows", "0"], "--rows"),
    "list of what": (["list", "everything"], "'everything' is not one of"),
}


@pytest.fixture
def here(tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "good.yaml").write_text(yaml.safe_dump(GOOD))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> str:
    """What is said; and all that must hold of any bad input does."""
    before = files(folder)
    capsys.readouterr()
    status = cli.main(arguments)
    out, err = capsys.readouterr()
    assert status == 2
    assert err.count("\n") == 1 and err.startswith("mixbench: ") and out == ""
    assert "Traceback" not in err and len(err) < 600
    assert files(folder) == before
    assert not list(folder.rglob(".*"))
    return err


@pytest.mark.parametrize("case", SWEEPS)
def test_bad_sweeps(case: str, here: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, expected = SWEEPS[case]
    (here / "bad.yaml").write_text(yaml.safe_dump(spec))
    for more in ([], ["--dry-run"]):
        assert expected in refused(capsys, here.parent, "sweep", "bad.yaml", *more)
        assert not runs.exists()


@pytest.mark.parametrize("case", COMMANDS)
def test_bad_commands(
    case: str, here: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = COMMANDS[case]
    assert expected in refused(capsys, here.parent, *arguments)
    assert not runs.exists()


@pytest.mark.parametrize("content", ["name: [", "a: 1\na: 2", "fixed: !!python/name:os.system"])
def test_bad_yaml(content: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.yaml").write_text(content)
    assert "bad.yaml, line " in refused(capsys, here.parent, "sweep", "bad.yaml")


def test_folders_without_images(here: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty, one = here / "empty", here / "one"
    (empty / "cats").mkdir(parents=True)
    (empty / "dogs").mkdir()
    (empty / "dogs" / "notes.txt").write_text("no image")
    (one / "cats").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(one / "cats" / "a.png")
    for folder, found in ((empty, "2 folders with 0 images"), (one, "1 folders with 1 images")):
        spec = changed(fixed__dataset={"name": f"imagefolder:{folder}"})
        (here / "bad.yaml").write_text(yaml.safe_dump(spec))
        assert found in refused(capsys, here.parent, "sweep", "bad.yaml")
        assert not runs.exists()


def test_corrupt_data(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = here / "data"
    data.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (data / f"{name}-ubyte.gz").write_bytes(b"broken off in the mid")
    monkeypatch.setenv("MIXBENCH_DATA", str(data))
    (here / "bad.yaml").write_text(
        yaml.safe_dump(changed(fixed__dataset={"name": "fashion_mnist"}))
    )
    said = refused(capsys, here.parent, "sweep", "bad.yaml")
    assert "-ubyte.gz is corrupt" in said and str(data) in said
    assert not runs.exists()


@pytest.mark.parametrize("verb", ["plan", "sweep"])
def test_another_run_under_the_key_of_a_begun_one(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    folder = running.planned(GOOD)
    run = folder.plan()[1]
    run.folder.path.mkdir()
    other = json.loads(json.dumps(run.config))
    other["training"]["epochs"] = 77
    (run.folder.path / "config.json").write_text(json.dumps({"config": other}))
    (here / "good.yaml").write_text(yaml.safe_dump(changed(seeds=[0, 1, 2])))
    before = files(runs)
    said = refused(capsys, here.parent, verb, "good.yaml")
    assert f"run {run.run_key} of sweep 'good': training.epochs was 77" in said
    assert f"is {run.config['training']['epochs']} now" in said and "--name" in said
    assert files(runs) == before


@pytest.mark.parametrize("option", [["--set", "training.epochs=1"], ["--name", "other"]])
def test_a_begun_sweep_is_changed_by_its_yaml_alone(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    del runs
    running.planned(GOOD)
    said = refused(capsys, here.parent, "plan", "good", *option)
    assert f"{option[0]}: needs the YAML file of the sweep" in said


def test_a_plan_of_another_version(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = running.planned(GOOD)
    path = folder.path / "plan.2.jsonl"
    path.write_text(json.dumps({"schema": 99, "revision": 2, "runs": 0}) + "\n")
    before = files(runs)
    (here / "good.yaml").write_text(yaml.safe_dump(changed(seeds=[0, 1, 2])))
    for verb, name in (("sweep", "good.yaml"), ("plan", "good"), ("report", "good")):
        said = refused(capsys, here.parent, verb, name)
        assert f"{path}: written by another version of mixbench (schema 99, this" in said
    assert files(runs) == before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["status", "godo"], "no sweep 'godo' in"),
        (["logs", "zz"], "no run 'zz' in any sweep of"),
        (["logs", "good"], "'good' is a sweep: name one of its runs"),
        (["logs", "good", ""], "no run '' in sweep 'good'"),
        (["logs", "good", "zz"], "no run 'zz' in sweep 'good'"),
        (["retry", "good", "--failed", "zz"], "no run 'zz' in sweep 'good'"),
        (["cancel", "good"], "--yes: needed here, there is no terminal to ask at"),
    ],
)
def test_bad_names_where_there_is_a_sweep(
    arguments: list[str],
    expected: str,
    here: Path,
    runs: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running.planned(GOOD)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert expected in refused(capsys, here.parent, *arguments)


@pytest.mark.parametrize("verb", ["status", "retry", "cancel", "clean", "plan", "sweep"])
def test_a_sweep_of_another_version(
    verb: str, here: Path, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = running.planned(GOOD).path / "sweep.json"
    header.write_text(header.read_text().replace('"schema": 1', '"schema": 99'))
    more = {"cancel": ["--yes"], "clean": ["--delete"]}.get(verb, [])
    name = "good.yaml" if verb in ("plan", "sweep") else "good"
    said = refused(capsys, here.parent, verb, name, *more)
    assert "was written by another version of mixbench (schema 99" in said


def test_a_gpu_where_there_is_none(
    here: Path, runs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    said = refused(capsys, here.parent, "sweep", "good.yaml", "--device", "cuda")
    assert "--device cuda: no GPU" in said and "use --device cpu" in said
    assert not runs.exists()


def test_as_a_process(here: Path, runs: Path) -> None:
    done = subprocess.run(
        [*running.COMMAND, "sweep", "good.yaml", "--set", "augmentation=cutmx"],
        capture_output=True,
        text=True,
        check=False,
        cwd=here,
        env={**os.environ},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "did you mean 'cutmix'?" in done.stderr
    assert not runs.exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("link", "is a link to '/no/such/disk', which leads nowhere"),
        ("link/below", "which leads nowhere"),
        ("file", "is not a folder"),
        ("file/below", "is not a folder"),
        ("/proc/mixbench", "a folder can't be made there"),
    ],
)
def test_a_runs_folder_that_cannot_be(
    place: str,
    message: str,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (here / "link").symlink_to("/no/such/disk")
    (here / "file").write_text("")
    (here / "good.yaml").write_text(yaml.safe_dump(GOOD))
    monkeypatch.setenv("MIXBENCH_RUNS", str(here / place))
    assert cli.main(["sweep", "good.yaml", "--workers", "1", "--no-track"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert error.startswith("mixbench: MIXBENCH_RUNS: ")
