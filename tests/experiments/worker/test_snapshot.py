"""The copy of the code that a sweep's workers run: edits change nothing. All on a copy of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mixbench
from mixbench.experiments.errors import UserError
from mixbench.experiments.store.sweep_folder import SweepFolder
from mixbench.experiments.worker import snapshot
from mixbench.slurm.local import Slot
from mixbench.slurm.pool import Pool
from tests.support import running

HERE = Path(mixbench.__file__).resolve().parent.parent
TAKE = """
import sys
from pathlib import Path
from mixbench.experiments.store import provenance
from mixbench.experiments.worker import snapshot
from mixbench.experiments.store.sweep_folder import SweepFolder
assert snapshot.__file__.startswith(sys.argv[2]), snapshot.__file__
print(snapshot.take(SweepFolder(Path(sys.argv[1]))))
print(provenance.commit())
"""


def git(checkout: Path, *command: str) -> str:
    options = ("-c", "user.name=Tests", "-c", "user.email=tests@localhost")
    done = subprocess.run(
        ["git", "-C", str(checkout), *options, *command], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout of this code as it is now, with a commit."""
    checkout = tmp_path_factory.mktemp("pristine") / "check out"
    for package in ("mixbench", *snapshot.FOLDERS):
        shutil.copytree(
            HERE / package,
            checkout / package,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", ".*"),
        )
    git(checkout.parent, "init", "-q", str(checkout))
    (checkout / ".gitignore").write_text("__pycache__\n")
    git(checkout, "add", ".")
    git(checkout, "commit", "-q", "-m", "all")
    return checkout


@pytest.fixture
def checkout(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "check out", symlinks=True))


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / "the runs"))
    return running.planned(running.spec("one", grid={"augmentation": ["cutmix"]}, seeds=[0]))


def taking(sweep: SweepFolder, code: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", TAKE, str(sweep.path), str(code)],
        env={**os.environ, "PYTHONPATH": str(code)},
        stdout=subprocess.PIPE,
        text=True,
    )


def take(sweep: SweepFolder, code: Path) -> tuple[Path, str]:
    """Take a snapshot as the code in `code`: where it is, and the commit that this code names."""
    process = taking(sweep, code)
    said = process.communicate(timeout=300)[0].splitlines()
    assert process.returncode == 0
    return Path(said[0]), said[1]


def code_of(checkout: Path) -> dict[str, bytes]:
    """The files of a checkout as a copy has them: it links from `mixbench/` to four folders."""
    code = {"mixbench/__init__.py": (checkout / "mixbench/__init__.py").read_bytes()}
    for folder in snapshot.FOLDERS:
        files = contents(checkout / folder)
        code |= {f"mixbench/{folder}/{name}": content for name, content in files.items()}
    return code


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and ".git" not in path.parts
    }


def test_it_is_a_whole_copy_and_says_of_which_commit(checkout: Path, sweep: SweepFolder) -> None:
    place, commit = take(sweep, checkout)
    assert commit == git(checkout, "rev-parse", "HEAD")
    code = code_of(checkout)
    assert contents(place) == {**code, "COMMIT": f"{commit}\n".encode()}
    assert any(name.endswith(".yaml") for name in code) and len(code) > 50
    assert place.parent == sweep.path / "code"
    assert place.stat().st_mode & 0o777 == 0o755, "colleagues may look at it"


def test_the_copy_names_the_commit_it_was_made_from(checkout: Path, sweep: SweepFolder) -> None:
    place, commit = take(sweep, checkout)
    git(checkout, "commit", "-q", "--allow-empty", "-m", "later")
    assert git(checkout, "rev-parse", "HEAD") != commit
    other = running.planned(running.spec("two"))
    # A copy of the copy, such as a sweep that is started from within a job takes.
    again, said = take(other, place)
    assert said == commit and (again / "COMMIT").read_text() == f"{commit}\n"


def test_equal_code_is_one_copy_and_edited_code_another(checkout: Path, sweep: SweepFolder) -> None:
    first, _ = take(sweep, checkout)
    assert take(sweep, checkout)[0] == first
    (checkout / "experiments" / "__pycache__").mkdir(exist_ok=True)
    (checkout / "experiments" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (checkout / "experiments" / ".editor").mkdir()
    (checkout / "experiments" / ".editor" / "x.py").write_text("x")
    assert take(sweep, checkout)[0] == first, "what is no code does not count"
    with (checkout / "slurm" / "local.py").open("a") as file:
        file.write("# edited\n")
    second, commit = take(sweep, checkout)
    assert second != first and commit.endswith("+changes")
    assert (second / "COMMIT").read_text() == f"{commit}\n"
    # A new file, which git does not know yet, is code too.
    (checkout / "augmentations" / "new.py").write_text("")
    third, _ = take(sweep, checkout)
    assert (third / "mixbench" / "augmentations" / "new.py").exists()
    assert {path.name for path in (sweep.path / "code").iterdir()} == {
        first.name,
        second.name,
        third.name,
    }


def test_who_takes_one_at_once_shares_it(checkout: Path, sweep: SweepFolder) -> None:
    processes = [taking(sweep, checkout) for _ in range(4)]
    said = {process.communicate(timeout=300)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4 and len(said) == 1
    (place,) = (sweep.path / "code").iterdir()
    assert contents(place).keys() - {"COMMIT"} == code_of(checkout).keys()


def test_edits_while_jobs_wait_change_nothing(
    checkout: Path, sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, commit = take(sweep, checkout)
    # Not one of its modules can be imported any more, nor is it at its commit.
    for path in checkout.rglob("*.py"):
        path.write_text("raise RuntimeError('edited')\n")
    git(checkout, "commit", "-q", "-a", "-m", "edited")
    # As in an environment where the checkout is what is installed.
    monkeypatch.setenv("PYTHONPATH", str(checkout))
    broken = Pool(sweep)
    broken.start(Slot(None, 1))
    running.wait_until(lambda: broken.poll() == 0, "the worker without a copy")
    assert broken.unusable and "RuntimeError: edited" in broken.unusable

    pool = Pool(sweep, place)
    pool.start(Slot(None, 1))
    running.wait_until(lambda: pool.poll() == 0, "the worker with the copy")
    assert pool.unusable is None
    (planned,) = sweep.plan()
    result = planned.folder.result()
    assert result and result["provenance"]["commit"] == commit
    assert [row["outcome"] for row in planned.folder.attempts()] == ["done"]


def test_the_copy_comes_before_what_the_user_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert snapshot.environment(tmp_path) == {"PYTHONPATH": str(tmp_path)}
    monkeypatch.setenv("PYTHONPATH", "/mine")
    assert snapshot.environment(tmp_path) == {"PYTHONPATH": f"{tmp_path}{os.pathsep}/mine"}


def test_a_path_that_pythonpath_would_split_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers would run the code that is installed, and nobody would know."""
    monkeypatch.setenv("MIXBENCH_RUNS", str(tmp_path / f"a{os.pathsep}b"))
    sweep = running.planned(running.spec("one"))
    with pytest.raises(UserError, match="a sweep's folder can't have a ':' in its path"):
        snapshot.take(sweep)
    assert not (sweep.path / "code").exists()


def test_a_copy_that_could_not_be_made_is_an_error(sweep: SweepFolder) -> None:
    """Not a path to nothing, with which workers would run the code that is installed."""
    place = snapshot.take(sweep)
    shutil.rmtree(place)
    place.write_text("in the way")
    with pytest.raises(OSError, match=place.name):
        snapshot.take(sweep)
    assert [path.name for path in place.parent.iterdir()] == [place.name]
