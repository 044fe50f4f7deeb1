"""Folders of sweeps that were put together by hand: recognised run by run, refused in one line."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mixbench.experiments.store.states import RunState
from mixbench.experiments.store.sweep_folder import SweepFolder
from tests.support import running
from tests.support.finished_runs import contents, finish

DRY = ("--dry-run", "--no-track", "--no-reuse")
DO = ("--no-track", "--no-report", "--no-reuse", "--device", "cpu")


@pytest.fixture
def source(tmp_path: Path) -> list[Path]:
    """Four finished runs, below another root."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIXBENCH_RUNS", str(tmp_path / "elsewhere"))
        return [finish(run) for run in running.planned(running.spec("made")).plan()]


def yaml_of(tmp_path: Path, **parts: Any) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(str(running.spec("mine", **parts)))  # in YAML's flow style
    return str(path)


def test_runs_that_were_copied_in_are_done(runs: Path, source: list[Path], tmp_path: Path) -> None:
    mine = running.planned(running.spec("mine"))
    for path in source[:3]:
        shutil.copytree(path, mine.path / "runs" / path.name)
    shown = running.mixbench_here("plan", yaml_of(tmp_path))
    assert shown.returncode == 0 and "3 done, 1 to be done" in shown.stdout
    shutil.copytree(source[3], mine.path / "runs" / source[3].name)
    done = running.mixbench_here("sweep", yaml_of(tmp_path), *DO)
    assert (done.returncode, done.stderr) == (0, "") and "4 runs, 4 done" in done.stdout


def test_a_folder_without_a_plan_is_adopted(runs: Path, source: list[Path], tmp_path: Path) -> None:
    for path in source:
        shutil.copytree(path, runs / "mine" / "runs" / path.name)
    stranger = runs / "mine" / "runs" / "0123456789abcdef"
    shutil.copytree(source[0], stranger)
    (runs / "mine" / "notes.txt").write_text("where these come from")
    before = contents(runs)
    shown = running.mixbench_here("plan", yaml_of(tmp_path))
    assert shown.returncode == 0 and "nothing is missing" in shown.stdout
    assert contents(runs) == before
    done = running.mixbench_here("sweep", yaml_of(tmp_path), *DO)
    assert (done.returncode, done.stderr) == (0, "") and "4 runs, 4 done" in done.stdout
    for output in (shown.stdout, done.stdout):
        assert "1 folder in runs of no run of this sweep, not counted: 0123456789abcdef" in output
    assert set(SweepFolder.open("mine").states().values()) == {RunState.DONE}
    assert contents(runs).items() >= before.items()
    # Its plan was deleted, or it asks for fewer runs now: what is there stays.
    (runs / "mine" / "sweep.json").unlink()
    fewer = yaml_of(tmp_path, seeds=[0])
    done = running.mixbench_here("sweep", fewer, *DO)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 runs, 2 done, 2 no longer asked for" in done.stdout, done.stdout


def test_two_that_adopt_at_once_lose_no_run(runs: Path, source: list[Path]) -> None:
    for path in source:
        shutil.copytree(path, runs / "mine" / "runs" / path.name)
    script = (
        "import sys\nfrom tests.support import running\n"
        "folder = running.planned(running.spec('mine', seeds=[int(sys.argv[1])]))\n"
    )
    both = [running.start(sys.executable, "-c", script, seed) for seed in "01"]
    for process in both:
        _, errors = process.communicate(timeout=300)
        assert (process.returncode, errors) == (0, "")
    folder = SweepFolder.open("mine")
    assert len(folder.plan()) + len(folder.dropped()) == 4
    assert set(folder.states().values()) == {RunState.DONE}


def test_a_run_under_the_name_of_another_is_named_and_trained(
    runs: Path, source: list[Path], tmp_path: Path
) -> None:
    mine = running.planned(running.spec("mine"))
    first, second = (run.folder for run in mine.plan()[:2])
    for path in source[1:]:
        shutil.copytree(path, mine.path / "runs" / path.name)
    shutil.copytree(source[1], first.path)
    assert first.result() is None and second.result() is not None
    shown = running.mixbench_here("plan", yaml_of(tmp_path))
    line = f"runs/{first.run_key} holds another run, {second.run_key}, and is not counted"
    assert shown.returncode == 0 and line in shown.stdout and "1 run to do" in shown.stdout
    # Growing it, too.
    done = running.mixbench_here("sweep", yaml_of(tmp_path, description="more words"), *DO)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"runs/{first.run_key} is set_aside/{first.run_key} now" in done.stdout
    assert first.state() == RunState.DONE
    assert contents(mine.path / "set_aside" / first.run_key) == contents(source[1])


def _file(path: Path) -> None:
    path.write_text("mine")


def _folder(path: Path) -> None:
    for name in ("runs", "a", "b", "c.txt"):
        (path / name).mkdir(parents=True)
    (path / "runs" / "monday").mkdir()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_file, "{}: is a file, expected the folder of a sweep"),
        (
            lambda path: path.symlink_to("nowhere"),
            "'{}' is a link to 'nowhere', which leads nowhere (a disk that is not mounted?)",
        ),
        (_folder, "{}: exists and is no sweep (it holds a, b, c.txt and 1 more)"),
    ],
    ids=["a file", "a link", "a folder"],
)
def test_a_destination_that_is_no_sweep(runs: Path, tmp_path: Path, make: Any, why: str) -> None:
    runs.mkdir()
    make(runs / "mine")
    before = sorted(runs.rglob("*"))
    for verb in (("plan",), ("sweep", *DRY), ("sweep", *DO)):
        refused = running.mixbench_here(verb[0], yaml_of(tmp_path), *verb[1:])
        assert (refused.returncode, refused.stdout) == (2, "")
        assert refused.stderr == (
            f"mixbench: {why.format(runs / 'mine')}; give the sweep another name with --name, or "
            "move it away\n"
        )
    assert sorted(runs.rglob("*")) == before
