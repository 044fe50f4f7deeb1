"""One import name: files of the user's that are called as our folders get in nobody's way."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support import running

OWN_FILES = ("augmentations.py", "analysis.py", "experiments/__init__.py", "slurm/__init__.py")


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sweep, and with modules that fail when something imports them."""
    for name in OWN_FILES:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"raise RuntimeError('{name} of the user was imported')\n")
    sweep = running.spec("tiny", seeds=[0])
    sweep["fixed"]["training"]["epochs"] = 1
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(sweep))
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_every_kind_of_command_runs_beside_the_users_own_files(users_folder: Path) -> None:
    for arguments, words in (
        (["list"], "cutmix"),
        (["plan", "tiny.yaml", "--workers", "2"], "2 runs to do on 2 x"),
        (["sweep", "tiny.yaml", "--workers", "2", "--no-track"], "2 of 2 runs done"),
        (["status", "tiny"], "2/2 done"),
        (["evaluate", "tiny", "--only", "overfitting", "--no-track", "--no-report"], "2 of 2 runs"),
        (["report", "tiny"], "report.html"),
    ):
        # By `-m`, the user's folder is the first that Python searches.
        done = running.mixbench(*arguments, cwd=users_folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert words in done.stdout and "Traceback" not in done.stderr


def test_mixbench_is_imported_beside_the_users_own_files(users_folder: Path) -> None:
    code = "import mixbench; print(mixbench.create('cutmix', alpha=0.2).alpha)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=users_folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0.2\n"), done.stderr
