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


VERBS = """
import shlex, sys
import mixbench
from mixbench.experiments.cli import main
print(mixbench.create("cutmix", alpha=0.2).alpha)
for line in sys.stdin:
    assert main(shlex.split(line)) == 0, line
"""


def test_every_kind_of_command_runs_beside_the_users_own_files(users_folder: Path) -> None:
    quiet = "--no-track --no-report"
    lines = (
        "list",
        f"sweep tiny.yaml --workers 1 {quiet}",
        f"evaluate tiny --only overfitting --workers 1 {quiet}",
        "status tiny",
        "report tiny",
    )
    # By `-c`, the user's folder is the first that Python searches.
    done = subprocess.run(
        [sys.executable, "-c", VERBS],
        cwd=users_folder,
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("0.2\n") and "Traceback" not in done.stderr
    for words in ("cutmix", "2 of 2 runs done", "2 of 2 runs", "2/2 done", "report.html"):
        assert words in done.stdout


def test_a_plan_is_made_beside_the_users_own_files(users_folder: Path) -> None:
    # By `-m` too, here and in the processes that the plan measures in.
    done = running.mixbench("plan", "tiny.yaml", "--workers", "2", cwd=users_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 runs to do on 2 x" in done.stdout and "Traceback" not in done.stderr
